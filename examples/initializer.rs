//! How a pool is made: how many workers it has, what they do first, and after how many tasks they are replaced. Lecture A ("Multiprozessing"),
//! row 0.2. There a worker that fails what it does first is replaced by another, which fails it, too, for ever; here it is the error of `build`.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use procession::{Failure, Pool, pool, process};

// ANCHOR: functions
struct Greeting(String);

/// What each worker does first.
#[process]
fn prepare(greeting: String) -> Result<(), Failure> {
    if greeting.is_empty() {
        return Err(Failure::new("there is no greeting"));
    }
    pool::keep(Greeting(greeting));
    Ok(())
}

#[process]
fn greet(name: String) -> Result<(String, u32), Failure> {
    let greeting = pool::kept::<Greeting>().ok_or_else(|| Failure::new("nothing was prepared"))?;
    Ok((format!("{}, {name}", greeting.0), std::process::id()))
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().build().await?;
    println!("a worker for each processor: {}", pool.stats().workers.len() == available_parallelism()?.get());
    pool.close().await?;

    let pool = Pool::builder().workers(2).init(prepare("Hello".into())).max_tasks(3).build().await?;
    let names = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi"];
    let mut greeted = BTreeMap::new();
    for greeting in pool.map(greet, names.map(str::to_owned)).await? {
        let (greeting, worker) = greeting?;
        println!("{greeting}");
        *greeted.entry(worker).or_insert(0) += 1;
    }
    println!("no worker has greeted more than three: {}", greeted.values().all(|greeted| *greeted <= 3));
    pool.close().await?;

    if let Err(error) = Pool::builder().workers(2).init(prepare(String::new())).build().await {
        println!("{}", error.cause());
    }
    Ok(())
}
// ANCHOR_END: main
