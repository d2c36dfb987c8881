//! What cannot be kept in shared memory, by what is in it: one error each, on the field's type.

use procession::shared::{Mutex, Plain};

#[derive(Plain)]
struct Person {
    age: u8,
    name: String,
}

impl Copy for Person {}

impl Clone for Person {
    fn clone(&self) -> Self {
        *self
    }
}

#[derive(Clone, Copy, Plain)]
struct Named(&'static str, u8);

#[derive(Clone, Copy, Plain)]
struct Nested {
    inner: [Option<u8>; 3],
}

#[derive(Plain)]
struct NotCopy {
    a: u8,
}

#[derive(Clone, Copy, Plain)]
struct Generic<T>(T);

fn main() {
    let _ = Mutex::new(Generic(Some(1)));
}
