//! A lock for each of 500 accounts, in one region, and four processes that move money between them.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use futures::future::try_join_all;
use procession::shared::{Mutex, Region};
use procession::{Failure, process};

const ACCOUNTS: usize = 500;

// ANCHOR: function
/// Moves money between pairs of accounts, which are others for each seed.
#[process]
async fn transfers(accounts: Vec<Mutex<u64>>, seed: usize) -> Result<(), Failure> {
    for n in (seed..).step_by(37).take(300) {
        let (one, other) = (n % ACCOUNTS, n * n % ACCOUNTS);
        if one == other {
            continue;
        }
        // Who has two locks at a time takes them in one order everywhere: or two wait for each other, for ever.
        let mut from = accounts[one.min(other)].lock().await?;
        let mut to = accounts[one.max(other)].lock().await?;
        let amount = (*from).min(10);
        *from -= amount;
        *to += amount;
    }
    Ok(())
}
// ANCHOR_END: function

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let before = descriptors()?;
    let alone = Mutex::new(100)?;
    println!("one lock: {} descriptors", descriptors()? - before);
    drop(alone);

    let before = descriptors()?;
    let region = Region::with_capacity(ACCOUNTS * Mutex::<u64>::size_in_region())?;
    let accounts: Vec<_> =
        (0..ACCOUNTS).map(|_| Mutex::new_in(&region, 100)).collect::<std::io::Result<_>>()?;
    println!("{ACCOUNTS} locks in a region: {} descriptors", descriptors()? - before);

    for transferred in try_join_all((0..4).map(|seed| transfers(accounts.clone(), seed))).await? {
        transferred?;
    }
    let mut sum = 0;
    for account in &accounts {
        sum += *account.lock().await?;
    }
    println!("all together: {sum}");
    Ok(())
}

fn descriptors() -> std::io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}
// ANCHOR_END: main
