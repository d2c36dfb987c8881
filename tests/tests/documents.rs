//! What README and book say is what happens: each program that they show is a file of the examples, and each output
//! that they show is what that program prints.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::{Path, PathBuf};
use std::process::Command;

use procession_tests::example;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README, and the chapters that the book's summary names.
fn documents() -> Vec<(String, String)> {
    let summary = read("book/src/SUMMARY.md");
    let chapters = summary.split(['(', ')']).filter(|part| part.ends_with(".md"));
    let paths = chapters.map(|chapter| format!("book/src/{chapter}")).chain(["README.md".to_owned()]);
    paths.map(|path| (path.clone(), read(&path))).collect()
}

/// The outputs that a document shows: "`cargo run --example NAME` prints:", and a block after it.
fn outputs(text: &str) -> Vec<(&str, &str)> {
    let promises = text.split("`cargo run --example ").skip(1);
    promises
        .filter_map(|promise| {
            let (name, rest) = promise.split_once("` prints:\n\n```text\n")?;
            Some((name, rest.split_once("\n```").expect("the block ends").0))
        })
        .collect()
}

fn printed_by(name: &str) -> String {
    let run = Command::new(example(name)).current_dir(root()).env("RUST_BACKTRACE", "0").output().unwrap();
    assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn outputs_are_what_the_programs_print() {
    let documents = documents();
    let shown: Vec<_> =
        documents.iter().flat_map(|(path, text)| outputs(text).into_iter().map(move |o| (path, o))).collect();
    for name in [
        "hello",
        "ends",
        "travel",
        "unstoppable",
        "stop",
        "drops",
        "generations",
        "surroundings",
        "start_method",
        "preload",
        "findings",
        "pipes",
        "ping_pong",
        "replies",
        "value_and_array",
        "owner_died",
        "held",
        "many_locks",
        "corpus",
        "squares",
        "initializer",
        "pool",
    ] {
        assert!(shown.iter().any(|(_, (shown, _))| *shown == name), "no document shows what {name} prints");
    }
    for (path, (name, output)) in shown {
        assert_eq!(printed_by(name).trim_end(), output, "{name} in {path}");
    }
}

#[test]
fn the_program_of_the_readme_is_hello() {
    let readme = read("README.md");
    let (_, program) = readme.split_once("```rust\n").expect("a program");
    let (program, _) = program.split_once("```").expect("its end");
    let hello = read("examples/hello.rs");
    let (_, hello) = hello.split_once("\n\n").expect("a first comment");
    assert_eq!(program, hello);
}

#[test]
fn listings_of_the_book_are_there() {
    for (path, text) in documents() {
        for include in text.split("{{#include ../../").skip(1) {
            let (file, anchor) =
                include.split_once("}}").unwrap().0.split_once(':').expect("a file and a part");
            let source = read(file);
            let is_lines = anchor.chars().all(|letter| letter.is_ascii_digit() || letter == ':');
            assert!(
                is_lines || source.contains(&format!("// ANCHOR: {anchor}\n")),
                "{path}: {file}:{anchor}"
            );
        }
        assert!(!text.contains("```rust\n") || path == "README.md" || text.contains("{{#include"), "{path}");
    }
}
