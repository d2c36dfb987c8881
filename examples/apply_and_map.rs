//! All ways to give a pool something to do, and its end. Lecture B ("Module 05 - Processes"), row 1.13; lecture C, rows 2.12 and 2.13. There
//! `close` must come before `join`; here closing is what is waited for.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use futures::{StreamExt, TryStreamExt};
use procession::{Pool, process};

#[process]
fn square(n: u64) -> u64 {
    n * n
}

#[process]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::new(3).await?;

    // apply: runs it, and waits.
    println!("apply: {}", pool.run(square(3)).await?);

    // apply_async: hands it over, and goes on.
    let task = pool.submit(square(4)).await?;
    println!("apply_async: {}", task.await?);

    // map, and starmap.
    println!("map: {:?}", pool.map(square, 1..=5).await?);
    println!("starmap: {:?}", pool.map(|(a, b)| add(a, b), [(1, 2), (3, 4)]).await?);

    // map_async: a map is a future like others, and a task of the runtime goes on with it.
    let squares = tokio::spawn(pool.map(square, 1..=5));
    println!("map_async: {:?}", squares.await??);

    // imap: one after the other, in their order.
    let mut squares = pool.map(square, 1..=5).ordered();
    while let Some(square) = squares.next().await {
        println!("imap: {}", square?);
    }

    // imap_unordered: as they come.
    let mut squares: Vec<u64> = pool.map(square, 1..=5).unordered().try_collect().await?;
    squares.sort_unstable();
    println!("imap_unordered, sorted: {squares:?}");

    // close and join: what the pool has is done, and nothing else is taken.
    let last = pool.submit(square(10)).await?;
    pool.close().await?;
    println!("done before the end: {}", last.await?);
    if let Err(refused) = pool.run(square(11)).await {
        println!("after it: {}", refused.cause());
    }
    Ok(())
}
// ANCHOR_END: main
