//! A number and an array that a child sets, and its parent sees. Lecture C (study note 18), row 2.14; lecture A
//! ("Multiprozessing"), rows 0.7 and 0.8: values of other types. There `value.value += 1` is a reading and a writing, between which
//! another process comes; here it is one step.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use futures::future::try_join_all;
use procession::shared::{Array, Atomic};
use procession::{Failure, process};

// ANCHOR: set
#[process]
#[expect(clippy::approx_constant, reason = "as it stands in the lecture")]
fn set(number: Atomic<f64>, cells: Array<i32>) -> Result<(), Failure> {
    number.store(3.14);
    cells.set(0, 5)?;
    Ok(())
}
// ANCHOR_END: set

// ANCHOR: count
#[process]
fn count(sum: Atomic<i32>, letter: Atomic<char>, is_done: Atomic<bool>) {
    for _ in 0..1000 {
        sum.fetch_add(1);
    }
    letter.store('ß');
    is_done.store(true);
}
// ANCHOR_END: count

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (number, cells) = (Atomic::new(0.0)?, Array::from_iter(0..10)?);
    set(number.clone(), cells.clone()).await??;
    println!("{}", number.load());
    println!("{:?}", cells.to_vec());

    let (sum, letter, is_done) = (Atomic::new(0)?, Atomic::new(' ')?, Atomic::new(false)?);
    try_join_all((0..5).map(|_| count(sum.clone(), letter.clone(), is_done.clone()))).await?;
    println!("{} {} {}", sum.load(), letter.load(), is_done.load());
    Ok(())
}
// ANCHOR_END: main
