//! Where a child's output goes: to a pipe, or line by line into `tracing`; and what its last words were.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use procession::{Failure, Stdio, process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

// ANCHOR: functions
/// Speaks by its standard streams, as a C library might.
#[process]
fn shout() -> Result<(), Failure> {
    let text = std::io::read_to_string(std::io::stdin())?;
    print!("{}", text.to_uppercase());
    Ok(())
}

#[process]
#[expect(clippy::exit, reason = "the story is about it")]
fn load(model: String) {
    eprintln!("reading {model}");
    eprintln!("it is damaged at byte 17");
    std::process::exit(3)
}
// ANCHOR_END: functions

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = tracing_subscriber::fmt().with_writer(std::io::stdout).without_time().with_ansi(false);
    events.init();

    let mut process = shout().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().await?;
    let (mut input, mut output) =
        (process.stdin().ok_or("it is piped")?, process.stdout().ok_or("it is piped")?);
    input.write_all(b"to be or not to be\n").await?;
    // The end of the input.
    drop(input);
    let mut text = String::new();
    output.read_to_string(&mut text).await?;
    print!("{text}");
    process.await??;

    if let Err(error) = load("model.bin".into()).name("loader").stderr(Stdio::traced()).await {
        println!("{} {}; its last words: {:?}", error.name(), error.cause(), error.stderr());
    }
    Ok(())
}
// ANCHOR_END: main
