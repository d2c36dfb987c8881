//! A corpus that several processes search, and nobody copies.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use futures::future::try_join_all;
use procession::shared::Blob;
use procession::{Failure, process};

// ANCHOR: function
/// Counts the lines that begin with a word; gives how many MiB of memory it has for itself, too.
#[process]
fn count(corpus: Blob, word: String) -> Result<(usize, usize), Failure> {
    let lines = corpus.split(|byte| *byte == b'\n');
    let count = lines.filter(|line| line.starts_with(word.as_bytes())).count();
    Ok((count, own_memory()?))
}

/// What this process shares with no other, in MiB: `RssAnon` of `proc_pid_status(5)`.
fn own_memory() -> Result<usize, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? >> 10)
}
// ANCHOR_END: function

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A file of yours is `Blob::from_file`.
    let corpus = Blob::new("to be or not to be\nthat is the question\nto sleep to dream\n".repeat(400_000))?;
    println!("{} MiB", corpus.len() >> 20);

    let words = ["to", "that", "sleep"];
    let found = try_join_all(words.map(|word| count(corpus.clone(), word.into()))).await?;
    for (word, found) in words.iter().zip(found) {
        let (count, own) = found?;
        println!("{word}: {count}; less than 8 MiB of its own: {}", own < 8);
    }
    Ok(())
}
// ANCHOR_END: main
