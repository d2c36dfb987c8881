//! Three processes that write to one output, each line in three pieces: those of one come between those of another. Lecture B
//! ("Module 05 - Processes"), row 1.10: the problem. `whole_lines` has the solution.

use std::io::{self, Write};

use procession::{Failure, current, process};

// ANCHOR: all
/// Writes 400 lines, and each in three pieces.
fn write_lines() -> io::Result<()> {
    let mut output = io::stdout();
    for i in 0..400 {
        for piece in [&format!("{i} "), "in process ", &format!("{}\n", current().name())] {
            output.write_all(piece.as_bytes())?;
            output.flush()?;
            // A program has something to do between two of them. Meanwhile others have their turn.
            std::thread::yield_now();
        }
    }
    Ok(())
}

#[process]
fn writer() -> Result<(), Failure> {
    Ok(write_lines()?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let one = writer().name("child1").spawn().await?;
    let other = writer().name("child2").spawn().await?;
    write_lines()?;
    one.await??;
    other.await??;
    Ok(())
}
// ANCHOR_END: all
