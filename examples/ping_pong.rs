//! Two children that talk to one another, both ways. Lecture C (study note 18), row 2.8. Their parent makes the pipe, gives each
//! of them one end, and has none itself.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::{Failure, Pipe, pipe, process};

// ANCHOR: functions
#[process]
async fn first(mut pipe: Pipe<String, String>) -> Result<(), Failure> {
    pipe.send("hello".into()).await?;
    if let Some(word) = pipe.recv().await? {
        println!("proc1 rec: {word}");
    }
    Ok(())
}

#[process]
async fn second(mut pipe: Pipe<String, String>) -> Result<(), Failure> {
    if let Some(word) = pipe.recv().await? {
        println!("proc2 rec: {word}");
    }
    pipe.send("hello, too".into()).await?;
    Ok(())
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (one, other) = pipe()?;
    let (first, second) = tokio::try_join!(first(one), second(other))?;
    first?;
    second?;
    Ok(())
}
// ANCHOR_END: main
