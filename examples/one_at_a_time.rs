//! A lock as an argument: five processes print, one at a time. Lecture A ("Multiprozessing"), row 0.9; lecture D
//! ("Многопроцессорность"), row 3.3. There whoever fails between `acquire` and `release` leaves the lock locked; here the guard
//! unlocks it, however the function ends.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use futures::future::try_join_all;
use procession::shared::Mutex;
use procession::{Failure, process};

// ANCHOR: all
#[process]
async fn print(lock: Mutex<()>, number: u32) -> Result<(), Failure> {
    let _guard = lock.lock().await?;
    println!("{number}");
    Ok(())
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lock = Mutex::new(())?;
    for printed in try_join_all((0..5).map(|number| print(lock.clone(), number))).await? {
        printed?;
    }
    Ok(())
}
// ANCHOR_END: all
