//! Stopping: with words, then SIGTERM, then SIGKILL.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::{Failure, Process, ProcessError, Stdio, current, process};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

// ANCHOR: functions
/// Awaits the word beside its work.
#[process]
async fn listens() -> u64 {
    let mut stopping = current().stopping();
    let mut rounds = 0;
    loop {
        tokio::select! {
            () = &mut stopping => return rounds,
            () = tokio::time::sleep(Duration::from_millis(10)) => rounds += 1,
        }
    }
}

/// Looks up from its work now and then.
#[process]
fn looks_up() -> u64 {
    (0..).find(|_round| current().is_stopping()).unwrap_or_default()
}

/// Does not care.
#[process]
async fn sleeps() -> u64 {
    std::future::pending().await
}

/// Does not care for SIGTERM either.
#[process]
async fn is_deaf() -> Result<u64, Failure> {
    let mut terminations = signal(SignalKind::terminate())?;
    println!("deaf from now on");
    loop {
        terminations.recv().await;
    }
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listening = listens().name("listens").spawn().await?;
    let looking = looks_up().name("looks_up").spawn().await?;
    let sleeping = sleeps().name("sleeps").spawn().await?;
    let mut deaf = is_deaf().name("is_deaf").stdout(Stdio::piped()).spawn().await?;
    // Not before it has said so.
    let mut words = deaf.stdout().ok_or("it is piped")?;
    words.read_u8().await?;

    // Whoever listens takes no longer than it needs.
    stop(listening, Duration::from_secs(60)).await?;
    stop(looking, Duration::from_secs(60)).await?;
    stop(sleeping, Duration::from_millis(200)).await?;
    stop(deaf, Duration::from_millis(200)).await?;
    Ok(())
}

async fn stop<T>(mut process: Process<T>, grace: Duration) -> Result<(), ProcessError> {
    let status = process.stop(grace).await?;
    let value = if process.join().await.is_ok() { "a value" } else { "no value" };
    println!("{}: {status}, with {value}", process.name());
    Ok(())
}
// ANCHOR_END: main
