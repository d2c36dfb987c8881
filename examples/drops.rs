//! What dropping ends, and what it lets go on.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::{ProcessError, ProcessSet, children, process};

#[process]
async fn sleeps() {
    std::future::pending().await
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), ProcessError> {
    // What is awaited is cancelled when its future is dropped: here by the branch that wins.
    tokio::select! {
        ended = sleeps().name("awaited") => ended?,
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }

    // What is spawned goes on when its handle is dropped, unless it was told not to.
    drop(sleeps().name("spawned").spawn().await?);
    drop(sleeps().name("spawned, kill_on_drop").kill_on_drop(true).spawn().await?);

    // What is in a set ends with the set.
    let mut set = ProcessSet::new();
    for number in 1..=3 {
        set.spawn(sleeps().name(format!("in a set: {number}"))).await?;
    }
    drop(set);

    // All five have been killed by now; that they are reaped is for a moment later.
    while children().len() > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for child in children() {
        println!("goes on: {}", child.name);
    }
    // It ends with `main`.
    Ok(())
}
// ANCHOR_END: main
