//! Ten processes put something into a queue that has room for three, ten others get it. Lecture C, row 2.10. There a consumer waits for ever
//! if a producer dies; here `recv` ends when the last sender is gone, whatever became of it.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::{Duration, Instant};

use procession::mailbox::{Receiver, Sender};
use procession::shared::Mutex;
use procession::{Failure, ProcessSet, mailbox, process};

// ANCHOR: functions
#[process]
async fn produce(number: u64, queue: Sender<String>) -> Result<(), Failure> {
    queue.send(format!("{}(put):{number}", std::process::id())).await?;
    Ok(())
}

/// Gets one after another, until there are no producers any more.
#[process]
async fn consume(queue: Receiver<String>, lock: Mutex<()>) -> Result<(), Failure> {
    while let Some(item) = queue.recv().await {
        let _guard = lock.lock().await?;
        println!("{}(get):{item}", std::process::id());
    }
    Ok(())
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sender, receiver) = mailbox(3)?;
    let lock = Mutex::new(())?;
    let mut processes = ProcessSet::new();
    for number in 0..10 {
        processes.spawn(produce(number, sender.clone())).await?;
    }
    drop(sender);
    wait_until_full(&receiver).await;
    for _ in 0..10 {
        processes.spawn(consume(receiver.clone(), lock.clone())).await?;
    }
    drop(receiver);
    while let Some(ended) = processes.join_next().await {
        ended??;
    }
    Ok(())
}
// ANCHOR_END: main

/// So that one sees that the producers wait: there is room for three.
async fn wait_until_full(queue: &Receiver<String>) {
    let began = Instant::now();
    while !queue.is_full() && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("{} of {} are queued", queue.len(), queue.capacity());
}
