//! What cannot be kept in shared memory, by what it is.

use procession::shared::{Mutex, Plain};

#[derive(Clone, Copy, Plain)]
enum Light {
    Red,
    Green,
}

#[derive(Plain)]
enum Command {
    Say(String),
}

#[derive(Clone, Copy, Plain)]
union Either {
    a: u8,
    b: f32,
}

#[derive(Clone, Copy, Plain)]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(Clone, Copy, Plain)]
#[plain(color = "red")]
struct Unknown {
    #[plain]
    a: u8,
}

#[derive(Clone, Copy, Plain)]
#[plain]
struct Nothing(u8);

fn main() {
    // Not told again.
    let _ = Mutex::new(Light::Red);
    let _ = Mutex::new(Either { a: 1 });
}
