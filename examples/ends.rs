//! How a process can end, and how that is told. Lecture E ("Aula 8 - Multiprocessamento"), row 4.9: five endings and their
//! exit codes. There the returned value is lost; here it comes back, and the panic with its words.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::{Process, process};

// ANCHOR: functions
#[process]
#[expect(clippy::exit, reason = "the story is about it")]
fn exits_with_an_error() {
    std::process::exit(1)
}

#[process]
fn ends_well() {}

#[process]
fn returns_a_value() -> u32 {
    1
}

#[process]
fn panics() {
    panic!("there was an error")
}

#[process]
async fn is_terminated() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let terminated = is_terminated().spawn().await?;
    terminated.terminate()?;

    show("exits_with_an_error", exits_with_an_error().spawn().await?).await;
    show("ends_well", ends_well().spawn().await?).await;
    show("returns_a_value", returns_a_value().spawn().await?).await;
    show("panics", panics().spawn().await?).await;
    show("is_terminated", terminated).await;
    Ok(())
}

async fn show<T: std::fmt::Debug>(name: &str, mut process: Process<T>) {
    let ended = match process.join().await {
        Ok(value) => format!("gave {value:?}"),
        Err(error) => error.cause().to_string(),
    };
    println!("{name}.exit_code() = {:?}: {ended}", process.exit_code());
}
// ANCHOR_END: main
