//! Who is waited for at the end. Lecture E ("Aula 8 - Multiprocessamento"), row 4.5: a daemon ends with the main program,
//! others are waited for; row 4.6: joining a daemon waits for it.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use procession::{ProcessError, current, process};

const MOMENT: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3600);

#[process]
async fn work(duration: Duration) {
    println!("Starting: {} {}", current().name(), current().pid());
    tokio::time::sleep(duration).await;
    println!("Exiting: {} {}", current().name(), current().pid());
}

// ANCHOR: main
#[procession::main]
async fn main() -> Result<(), ProcessError> {
    // Whoever joins a daemon waits for it, as for any other.
    work(MOMENT).name("joined daemon").daemon(true).spawn().await?.await?;

    // Nobody joins these two.
    drop(work(HOUR).name("daemon").daemon(true).spawn().await?);
    drop(work(MOMENT).name("non-daemon").spawn().await?);

    println!("Exiting: main");
    // Now `#[procession::main]` waits for the one, and then ends the other.
    Ok(())
}
// ANCHOR_END: main
