//! Five tasks, then five processes, and one lock for both. Lecture C (study note 18), row 2.7. There threads and processes take a
//! lock of a kind of their own each.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::shared::Mutex;
use procession::{Failure, ProcessSet, current, process};
use tokio::task::JoinSet;

// ANCHOR: all
/// Prints who it is, in two pieces that belong together.
async fn introduce(sign: &str, lock: Mutex<()>) -> Result<(), Failure> {
    let _guard = lock.lock().await?;
    print!("{sign}");
    tokio::task::yield_now().await;
    println!(" {}", current().pid());
    Ok(())
}

#[process]
async fn worker(lock: Mutex<()>) -> Result<(), Failure> {
    introduce("process", lock).await
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lock = Mutex::new(())?;
    introduce("main", lock.clone()).await?;

    let mut tasks = JoinSet::new();
    for _ in 0..5 {
        tasks.spawn(introduce("task", lock.clone()));
    }
    while let Some(introduced) = tasks.join_next().await {
        introduced??;
    }

    let mut processes = ProcessSet::new();
    for _ in 0..5 {
        processes.spawn(worker(lock.clone())).await?;
    }
    while let Some(introduced) = processes.join_next().await {
        introduced??;
    }
    Ok(())
}
// ANCHOR_END: all
