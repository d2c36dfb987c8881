//! A process function from another module. Lecture E ("Aula 8 - Multiprocessamento"), row 4.3. One from another crate is
//! called the same way.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod workers;

use futures::future::try_join_all;
use procession::ProcessError;

#[tokio::main]
async fn main() -> Result<(), ProcessError> {
    for line in try_join_all((0..5).map(workers::worker)).await? {
        println!("{line}");
    }
    Ok(())
}
