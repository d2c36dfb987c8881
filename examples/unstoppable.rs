//! What cannot be stopped, and what can: a task that computes does not hear that it is aborted, and its thread cannot be
//! killed. A process can.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

// ANCHOR: all
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use procession::{ProcessError, process};

static TURNS: AtomicU64 = AtomicU64::new(0);

/// What a parser does with the wrong file.
fn never_ends() {
    loop {
        TURNS.fetch_add(1, Relaxed);
    }
}

#[process]
fn never_ends_elsewhere() {
    never_ends();
}

#[tokio::main]
async fn main() -> Result<(), ProcessError> {
    let mut task = tokio::task::spawn_blocking(never_ends);
    while TURNS.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    let ended = tokio::time::timeout(Duration::from_millis(300), &mut task).await;
    println!("the task has ended: {}", ended.is_ok());

    let mut process = never_ends_elsewhere().spawn().await?;
    let status = process.kill().await?;
    println!("the process has ended: it was {status}");

    // To return would be to wait for the task, for ever.
    std::process::exit(0)
}
// ANCHOR_END: all
