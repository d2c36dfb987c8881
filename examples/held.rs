//! A lock that is held across an `.await`, on a runtime with one thread.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::shared::{Event, Mutex};
use procession::{Failure, process};
use tokio::time::timeout;

// ANCHOR: all
/// Has the lock until it is told to go on.
#[process]
async fn holder(value: Mutex<u64>, has_it: Event, go_on: Event) -> Result<(), Failure> {
    let mut value = value.lock().await?;
    has_it.set();
    go_on.wait().await;
    *value += 1;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (value, has_it, go_on) = (Mutex::new(6)?, Event::new()?, Event::new()?);
    let holder = holder(value.clone(), has_it.clone(), go_on.clone()).spawn().await?;
    has_it.wait().await;
    println!("the holder has it: {}", value.owner() == Some(holder.pid()));

    // To give up is to drop the future.
    let given_up = timeout(Duration::from_millis(10), value.lock()).await.is_err();
    println!("given up: {given_up}");

    // Two tasks wait, and the only thread is free for a third, which lets them go on.
    let reads = async || value.lock().await.map(|value| *value);
    let (one, other, ()) = tokio::join!(reads(), reads(), async { go_on.set() });
    println!("{} {}", one?, other?);
    holder.await??;
    Ok(())
}
// ANCHOR_END: all
