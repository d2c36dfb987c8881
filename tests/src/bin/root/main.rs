//! A program that starts children, for tests that end it, starve it, or start it in strange ways.
#![expect(clippy::print_stdout, reason = "it tells the test by standard output")]
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod leaving;
mod locks;
mod long;
mod mailboxes;
mod pool;
mod pressure;
mod random;
mod storm;
mod tree;

use std::env;
use std::io::stdin;

fn main() {
    procession_tests::take_start_method();
    let mut words = env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    match command.as_str() {
        "hold" => hold(&rest),
        "storm" => storm(rest[0].parse().unwrap()),
        "calls" => pressure::calls(),
        "stopped" => pressure::stopped_calls(),
        "thief" => pressure::thief(),
        "unwaited" => pressure::unwaited(),
        "generations" => pressure::generations(),
        "orphans" => pressure::orphans(),
        "first" => pressure::first(),
        "leaving" => leaving::leaving(rest[0].as_ref()),
        "locks" => locks::locks(rest[0].parse().unwrap(), rest[1].parse().unwrap()),
        "mailboxes" => mailboxes::mailboxes(rest[0].parse().unwrap(), rest[1].parse().unwrap()),
        "pool" => pool::pool(rest[0].parse().unwrap(), rest[1].parse().unwrap()),
        "starts" => long::starts(rest[0].parse().unwrap()),
        "shutdowns" => long::shutdowns(rest[0].parse().unwrap()),
        other => panic!("what is {other:?}?"),
    }
}

/// Starts one child of each kind, and ends as the standard input says.
#[tokio::main]
async fn hold(kinds: &[String]) {
    let _children = tree::start(kinds).await;
    let mut word = String::new();
    stdin().read_line(&mut word).unwrap();
    assert_ne!(word, "panic\n", "as it was told to");
}

#[tokio::main]
async fn storm(seed: u64) {
    println!("begun");
    storm::storm(seed).await;
}
