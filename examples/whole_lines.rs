//! Three processes that write to one output, each line in three pieces, and under a lock that all of them have. Lecture B
//! ("Module 05 - Processes"), row 1.11. `interleaved` is the same without a lock.

use std::io::{self, Write};

use procession::shared::Mutex;
use procession::{Failure, current, process};

// ANCHOR: all
/// Writes 400 lines, each in three pieces, and nobody else writes meanwhile.
async fn write_lines(lock: &Mutex<()>) -> Result<(), Failure> {
    let mut output = io::stdout();
    for i in 0..400 {
        let _guard = lock.lock().await?;
        for piece in [&format!("{i} "), "in process ", &format!("{}\n", current().name())] {
            output.write_all(piece.as_bytes())?;
            output.flush()?;
            std::thread::yield_now();
        }
    }
    Ok(())
}

#[process]
async fn writer(lock: Mutex<()>) -> Result<(), Failure> {
    write_lines(&lock).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let lock = Mutex::new(())?;
    let one = writer(lock.clone()).name("child1").spawn().await?;
    let other = writer(lock.clone()).name("child2").spawn().await?;
    write_lines(&lock).await?;
    one.await??;
    other.await??;
    Ok(())
}
// ANCHOR_END: all
