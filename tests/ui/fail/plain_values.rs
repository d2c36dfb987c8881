//! Shared memory has plain data, and no operation that could tear.

use procession::shared::{Array, Atomic, Mutex};

fn main() {
    let _ = Mutex::new(String::new());
    let _ = Array::from_iter([vec![1]]);
    let _ = Atomic::new([1_u8; 4]);

    let value = Atomic::new(0_u64).unwrap();
    value += 1;
    *value += 1;

    let values = Array::from_iter(0..10).unwrap();
    values[3] += 1;
    *values.get(3).unwrap() += 1;

    Atomic::new(true).unwrap().fetch_add(true);
    Atomic::new(1.0).unwrap().fetch_or(1.0);
}
