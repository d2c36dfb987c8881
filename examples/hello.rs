//! The program of the README.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::process;

/// Counts the primes below `n`.
#[process]
fn primes_below(n: u64) -> usize {
    (2..n).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
}

/// A parser that a file can crash, or hang.
#[process]
async fn parse(file: String) -> Result<usize, String> {
    match file.as_str() {
        "crash" => std::process::abort(),
        "hang" => loop {
            std::hint::spin_loop();
        },
        file => file.parse().map_err(|error| format!("{file}: {error}")),
    }
}

#[tokio::main]
async fn main() -> Result<(), procession::ProcessError> {
    println!("{}", primes_below(100_000).await?);
    for file in ["17", "seven", "crash", "hang"] {
        match parse(file.into()).name(file).timeout(Duration::from_secs(1)).await {
            Ok(parsed) => println!("{parsed:?}"),
            Err(error) => println!("process {} {}", error.name(), error.cause()),
        }
    }
    Ok(())
}
