//! A function over a list, in a pool of workers: Python's `map`. Lecture A ("Multiprozessing"), row 0.3; lecture B ("Module 05 - Processes"),
//! row 1.14; lecture C, row 2.11; lecture D ("Многопроцессорность"), row 3.7. There a worker that dies lets the program wait for ever; here it costs
//! the item that it was in.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::{Pool, ProcessError, process};

// ANCHOR: all
#[process]
fn increment(n: i64) -> i64 {
    n + 1
}

#[process]
fn square(n: i64) -> i64 {
    n * n
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), ProcessError> {
    let pool = Pool::new(3).await?;
    println!("{:?}", pool.map(increment, 1..=10).await?);
    println!("{:?}", pool.map(square, [5, 10, 20]).await?);
    pool.close().await?;

    let pool = Pool::new(5).await?;
    println!("{:?}", pool.map(square, 1..=10).await?);
    pool.close().await
}
// ANCHOR_END: all
