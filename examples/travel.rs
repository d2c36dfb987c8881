//! What travels to a process and back.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use procession::{Cause, Failure, process};
use serde::{Deserialize, Serialize};

// ANCHOR: types
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    path: PathBuf,
    words: BTreeMap<String, usize>,
}

/// Counts the words of a file. An I/O error cannot travel: `?` turns it into a `Failure`, which can.
#[process]
fn count_words(path: PathBuf) -> Result<Report, Failure> {
    let text = std::fs::read_to_string(&path)?;
    let mut words = BTreeMap::new();
    for word in text.split_whitespace() {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    Ok(Report { path, words })
}
// ANCHOR_END: types

// ANCHOR: refused
/// postcard is not self-describing: nothing on the wire says which of the two it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Name(String),
}

#[process]
async fn look_up(id: Id) -> String {
    format!("{id:?}")
}
// ANCHOR_END: refused

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::temp_dir().join(format!("procession-travel-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let path = directory.join("text");
    std::fs::write(&path, "to be or not to be")?;

    // ANCHOR: main
    // The outer `?` is for the process, the inner one for the function.
    let report = count_words(path).await??;
    println!("{:?}", report.words);

    if let Err(failure) = count_words("/no/such/file".into()).await? {
        println!("{failure}");
    }

    for id in [Id::Number(7), Id::Name("seven".into())] {
        match look_up(id).await {
            Ok(found) => println!("{found}"),
            Err(error) => match error.cause() {
                Cause::Decode(why) => println!("{why}"),
                other => println!("{other}"),
            },
        }
    }

    if let Err(error) = zeros(1 << 20).max_message(1000).await {
        println!("{}", error.cause());
    }
    // ANCHOR_END: main

    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

#[process]
async fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}
