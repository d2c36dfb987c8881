//! Doing something else while a process works. Lecture B ("Module 05 - Processes"), row 1.6. There a loop joins for a second,
//! asks for the exit code, and sleeps; here whichever comes first wakes it.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::{ProcessError, process};

#[process]
async fn busy() -> String {
    tokio::time::sleep(Duration::from_millis(700)).await;
    "done".into()
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), ProcessError> {
    let mut process = busy().spawn().await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let value = loop {
        tokio::select! {
            // Cancel-safe: a turn that the tick has won costs nothing.
            value = process.join() => break value?,
            _ = ticks.tick() => println!("in loop"),
        }
    };
    println!("{value}");
    Ok(())
}
// ANCHOR_END: main
