//! Ending a process, and how it looks before, during and after. Lecture E ("Aula 8 - Multiprocessamento"), row 4.7.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::{Process, process};

#[process]
async fn slow_worker() {
    tokio::time::sleep(Duration::from_secs(10)).await;
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let call = slow_worker().name("slow");
    println!("BEFORE: {call:?}");

    let mut process = call.spawn().await?;
    show("DURING", &process);

    process.terminate()?;
    // A signal is on its way: it may have arrived, or not.
    show("TERMINATED", &process);

    process.wait().await?;
    show("JOINED", &process);
    Ok(())
}

fn show(moment: &str, process: &Process<()>) {
    println!("{moment}: {process:?} {}", process.is_alive());
}
// ANCHOR_END: main
