//! What a child is given if nothing is said, and how to say otherwise.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::env;
use std::fs::File;
use std::path::PathBuf;

use procession::{Failure, Resource, Stdio, process};
use serde::{Deserialize, Serialize};

// ANCHOR: function
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Surroundings {
    directory: PathBuf,
    path: Option<String>,
    greeting: Option<String>,
    input: String,
    /// The descriptors that are open.
    files: Vec<String>,
}

#[process]
fn look_around() -> Result<Surroundings, Failure> {
    let open = std::fs::read_dir("/proc/self/fd")?.filter_map(|entry| entry.ok()?.path().read_link().ok());
    let files = open.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()));
    Ok(Surroundings {
        directory: env::current_dir()?,
        path: env::var("PATH").ok(),
        greeting: env::var("GREETING").ok(),
        files: files.filter(|file| file == "Cargo.toml").collect(),
        input: std::io::read_to_string(std::io::stdin())?,
    })
}
// ANCHOR_END: function

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let open_here = File::open("Cargo.toml")?;

    // If nothing is said: the parent's directory and environment, an empty input, and none of the parent's files.
    let here = Surroundings {
        directory: env::current_dir()?,
        path: env::var("PATH").ok(),
        greeting: env::var("GREETING").ok(),
        input: String::new(),
        files: Vec::new(),
    };
    println!("as here: {}", look_around().await?? == here);

    let told = look_around()
        .current_dir("/")
        .env_clear()
        .env("GREETING", "hello")
        .stdin(Stdio::from(open_here))
        .umask(0o077)
        .nice(5)
        .rlimit(Resource::AddressSpace, 1 << 32, 1 << 32)
        .rlimit(Resource::Cpu, 60, 60);
    let told = told.await??;
    println!("{:?}, {:?}, {:?}", told.directory, told.path, told.greeting);
    println!("input: {:?}, files: {:?}", told.input.lines().next(), told.files);
    Ok(())
}
// ANCHOR_END: main
