//! One story, told the same by every kind of build. `.ci/kinds` compares what it prints.
#![expect(clippy::print_stdout, reason = "a test looks at it")]

use std::fs::OpenOptions;
use std::io::Write;

use procession::{StartMethod, process};
use procession_kinds::describe;

mod greeting {
    //! The C++ part.
    #![expect(unsafe_code, reason = "it is C++")]

    unsafe extern "C" {
        // SAFETY: it reads the length of a constant.
        safe fn greeting_length() -> usize;
        // SAFETY: it ends the process, which is what its caller wants.
        safe fn access_nothing();
        // SAFETY: as above.
        safe fn run_off_the_stack() -> usize;
    }

    /// Crashes, in one of two ways that are no stack overflow.
    pub(super) fn crash(off_the_stack: bool) -> usize {
        if off_the_stack {
            return run_off_the_stack();
        }
        access_nothing();
        0
    }

    /// The length of a string that C++ makes before `main`.
    pub(super) fn length() -> usize {
        greeting_length()
    }
}

#[process]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[process]
fn greeting_length() -> usize {
    greeting::length()
}

#[process(threads = 2)]
async fn nested(depth: u32) -> u32 {
    if depth == 0 { 0 } else { 1 + nested(depth - 1).await.unwrap_or(100) }
}

#[process]
async fn panics() {
    panic!("with words")
}

#[process]
#[expect(clippy::exit, reason = "the test is about it")]
fn exits() {
    std::process::exit(0)
}

#[process]
fn crashes(off_the_stack: bool) -> usize {
    greeting::crash(off_the_stack)
}

#[process]
fn overflows(n: u64) -> u64 {
    deeper(n)
}

#[expect(unconditional_recursion, reason = "the test is about it")]
fn deeper(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 64]);
    deeper(n + 1) + frame[1]
}

fn story() {
    // Before `main` is noted: a child that came here would call itself without end.
    drop(add(40, 2).blocking());
    note_that_main_ran();
    for method in [StartMethod::ForkServer, StartMethod::Spawn] {
        method.set_default();
        tell();
    }
}

fn tell() {
    let first = add(40, 2).blocking();
    println!("{first:?}");
    println!("{:?}", describe("generic".to_owned()).blocking());
    println!("{:?}", describe(7_u16).blocking());
    println!("{:?}", greeting_length().blocking());
    println!("{:?}", nested(3).blocking());
    let ends = [
        panics().blocking(),
        exits().blocking(),
        overflows(0).blocking().map(drop),
        crashes(false).blocking().map(drop),
        crashes(true).blocking().map(drop),
    ];
    for ended in ends {
        println!("{}", ended.map_or_else(|error| error.cause().to_string(), |()| "returned".to_owned()));
    }
}

/// Appends a line to the file that the environment names: one for each process that comes to `main`.
fn note_that_main_ran() {
    let Some(path) = std::env::var_os("PROCESSION_KINDS_LOG") else { return };
    let log = OpenOptions::new().append(true).create(true).open(path);
    let noted = log.and_then(|mut log| writeln!(log, "main"));
    noted.expect("the log can be written");
}

#[cfg(not(feature = "attribute"))]
fn main() {
    #[cfg(feature = "init")]
    procession::init();
    story();
}

#[cfg(feature = "attribute")]
#[procession::main]
async fn main() {
    story();
}
