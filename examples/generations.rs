//! Three generations, of which the first is killed.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use procession::{ProcessError, Stdio, current, parent, process};
use tokio::io::{AsyncBufReadExt, BufReader};

// ANCHOR: all
#[process]
async fn generation(number: u32) -> Result<(), ProcessError> {
    let parent = parent().expect("a process function runs in a child");
    println!("{}, child of {}", current().name(), parent.name());
    if number < 3 {
        return generation(number + 1).name(format!("generation {}", number + 1)).await?;
    }
    loop {
        std::hint::spin_loop();
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut first = generation(1).name("generation 1").stdout(Stdio::piped()).spawn().await?;
    let mut lines = BufReader::new(first.stdout().ok_or("it is piped")?).lines();
    for _ in 1..=3 {
        println!("{}", lines.next_line().await?.ok_or("a generation is missing")?);
    }

    println!("generation 1 is {}", first.kill().await?);
    // Each of them holds the pipe open, so that it ends when the last of them has ended.
    assert_eq!(lines.next_line().await?, None);
    println!("nobody is left");
    Ok(())
}
// ANCHOR_END: all
