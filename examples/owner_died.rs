//! A process is killed while it has a lock, and the next ones find out.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::shared::{Event, Mutex, Plain};
use procession::{Failure, process};

// ANCHOR: function
#[derive(Debug, Clone, Copy, Plain)]
struct Accounts {
    here: u64,
    there: u64,
}

/// One that is slow says when it has come half way, and gets no further.
#[process]
async fn transfer(accounts: Mutex<Accounts>, amount: u64, slow: Option<Event>) -> Result<(), Failure> {
    let mut accounts = accounts.lock().await?;
    accounts.here -= amount;
    if let Some(half) = slow {
        half.set();
        std::future::pending::<()>().await;
    }
    accounts.there += amount;
    Ok(())
}
// ANCHOR_END: function

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (accounts, half) = (Mutex::new(Accounts { here: 100, there: 0 })?, Event::new()?);
    let mut first = transfer(accounts.clone(), 30, Some(half.clone())).spawn().await?;
    half.wait().await;
    println!("the first is {}", first.kill().await?);

    // By `?` it says that it does not know what to do.
    if let Err(failure) = transfer(accounts.clone(), 30, None).await? {
        println!("the second: {failure}");
    }

    match accounts.lock().await {
        Ok(_guard) => println!("nothing has happened"),
        Err(died) => {
            println!("{:?}", died.guard());
            assert_eq!(died.guard().here + died.guard().there, 100);
            // It is right as it is. Whoever knows better changes it, by the guard that this gives.
            drop(died.recover());
        }
    }

    transfer(accounts.clone(), 30, None).await??;
    println!("the third: {:?}", accounts.lock().await?);
    Ok(())
}
// ANCHOR_END: main
