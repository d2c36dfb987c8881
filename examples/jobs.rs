//! Work that is not lost: jobs are acknowledged when they are done. One of them kills whoever takes it up; the others are done by
//! those that are left, and it is put aside after it was tried twice.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::mailbox::{Builder, Receiver};
use procession::{Failure, ProcessSet, process};

// ANCHOR: functions
#[process]
async fn work(jobs: Receiver<u64>) -> Result<(), Failure> {
    while let Some(job) = jobs.recv_ack().await {
        if *job == 13 {
            std::process::abort(); // The bug that we have not found yet.
        }
        job.ack();
    }
    Ok(())
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (outbox, jobs) = Builder::new(100).max_deliveries(2).build()?;
    let mut workers = ProcessSet::new();
    for _ in 0..4 {
        workers.spawn(work(jobs.clone())).await?;
    }
    for job in 0..50 {
        outbox.send(job).await?;
    }
    let poisoned = jobs.poisoned().await;
    println!("put aside: {poisoned:?}");
    outbox.drained().await;
    println!("all others are done");
    drop((outbox, jobs));
    let mut dead = 0;
    while let Some(ended) = workers.join_next().await {
        dead += u32::from(ended.is_err());
    }
    println!("{dead} of 4 workers died");
    Ok(())
}
// ANCHOR_END: main
