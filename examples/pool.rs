//! What a pool of processes does that others do not: a crash costs one task, and so does a time limit, which stops the work; what nobody waits for is
//! stopped, too; workers are replaced before they have leaked too much; and one sees how far it is.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use procession::{Pool, process};
use tokio::time::timeout;

// ANCHOR: functions
/// A parser that a file can crash, or hang.
#[process]
fn parse(file: String) -> usize {
    match file.as_str() {
        "crashes" => std::process::abort(),
        "hangs" => loop {
            std::hint::spin_loop();
        },
        file => file.len(),
    }
}

#[process]
fn worker() -> u32 {
    std::process::id()
}
// ANCHOR_END: functions

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // ANCHOR: files
    let pool = Pool::new(2).await?;
    let files = ["one", "crashes", "three", "hangs", "eleven"];
    let mut progress = 0;
    let parsing = pool.map(parse, files.map(str::to_owned)).timeout(Duration::from_millis(500));
    let outcomes: Vec<_> = parsing.on_progress(|done| progress = done).ordered().collect().await;
    for (file, outcome) in files.into_iter().zip(outcomes) {
        match outcome {
            Ok(length) => println!("{file}: {length}"),
            Err(error) => println!("{file} {}", error.cause()),
        }
    }
    println!("{progress} of {} are done", files.len());
    // ANCHOR_END: files

    // ANCHOR: cancel
    let task = pool.submit(parse("hangs".into())).await?;
    task.abort();
    if let Err(aborted) = task.await {
        println!("what is aborted {}", aborted.cause());
    }
    let given_up = timeout(Duration::from_millis(20), pool.run(parse("hangs".into()))).await;
    println!("given up: {}", given_up.is_err());
    println!("the pool goes on: {}", pool.run(parse("six".into())).await?);
    pool.close().await?;
    // ANCHOR_END: cancel

    // ANCHOR: recycle
    let pool = Pool::builder().workers(2).max_tasks(10).build().await?;
    let workers: BTreeSet<u32> = pool.map(|_| worker(), 0..100).await?.into_iter().collect();
    println!("100 tasks by ten workers at least: {}", workers.len() >= 10);
    pool.close().await?;
    // ANCHOR_END: recycle
    Ok(())
}
