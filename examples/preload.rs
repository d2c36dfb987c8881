//! A table that is loaded once and shared by every process, and processes that are there before they are needed.
#![expect(clippy::print_stdout, reason = "an example")]

// ANCHOR: all
use std::sync::OnceLock;

use procession::{Failure, process};

/// Loaded in the fork server; every process that it makes has it from its first moment.
static PRIMES: OnceLock<Vec<u64>> = OnceLock::new();

#[process]
fn load(below: u64) -> Result<(), Failure> {
    if below < 2 {
        return Err(Failure::new("there is no prime below 2"));
    }
    PRIMES.get_or_init(|| {
        (2..below).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).collect()
    });
    Ok(())
}

#[process]
async fn nth_prime(n: usize) -> Option<u64> {
    PRIMES.get()?.get(n).copied()
}

#[tokio::main]
async fn main() -> Result<(), procession::ProcessError> {
    // What goes wrong is told here, and not at the first call.
    if let Err(error) = procession::preload(load(1)).await {
        println!("{error}");
    }
    procession::preload(load(20_000)).await?;
    println!("the 1000th prime is {:?}", nth_prime(999).await?);
    println!("this process has a table: {}", PRIMES.get().is_some());

    // Two processes that wait for work: a call to one of them costs no start.
    procession::warm(2).await?;
    println!("the 2000th prime is {:?}", nth_prime(1999).await?);
    Ok(())
}
// ANCHOR_END: all
