//! Starting processes and waiting for them. Lecture A ("Multiprozessing"), row 0.4: one; lecture E ("Aula 8 -
//! Multiprocessamento"), rows 4.1 and 4.2: five with an argument each; lecture D ("Многопроцессорность"), row 3.1: a list
//! of them. There `start(); join()` in a loop runs one after the other, and what the functions return is lost.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use futures::future::try_join_all;
use procession::{ProcessError, process};

// ANCHOR: functions
#[process]
fn greet(name: String) {
    println!("Hello, {name}");
}

#[process]
fn worker(number: u32) {
    println!("Worker: {number}");
}

#[process]
fn parity(n: u64) -> u64 {
    n % 2
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), ProcessError> {
    // Start, and join.
    let mut process = greet("Bob".into()).spawn().await?;
    process.join().await?;

    // Five at a time, and wait for all. Which of them comes first is not known.
    try_join_all((0..5).map(worker)).await?;

    // Values come back in the order of the calls, whichever has ended first.
    let parities = try_join_all([1, 10, 15, 23, 46].map(parity)).await?;
    println!("{parities:?}");
    Ok(())
}
// ANCHOR_END: main
