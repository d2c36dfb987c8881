//! What a process finds comes as it is found, and stays when the process does not come to its end.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::pipe::Sender;
use procession::{Failure, process, simplex};

// ANCHOR: all
/// A parser that a word can crash.
#[process]
async fn numbers(text: String, mut found: Sender<u64>) -> Result<(), Failure> {
    for word in text.split_whitespace() {
        if word == "crash" {
            std::process::abort();
        }
        found.send(word.parse()?).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sender, mut receiver) = simplex()?;
    let mut parser = numbers("17 4 crash 9".into(), sender).spawn().await?;
    while let Some(number) = receiver.recv().await? {
        println!("{number}");
    }
    match parser.join().await {
        Ok(parsed) => println!("that is all: {parsed:?}"),
        Err(error) => println!("process {} {}", error.name(), error.cause()),
    }
    Ok(())
}
// ANCHOR_END: all
