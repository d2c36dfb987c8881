//! A census of Rust sources: what the files are made of, which are the largest, and which the slowest to parse.
//!
//! ```text
//! cargo run --release --example census                    # the crates that cargo has downloaded
//! cargo run --release --example census -- --jobs 4 src    # a directory of yours
//! cargo run --release --example census -- --with-hostile-files --stats
//! ```
//!
//! A parser of foreign files may meet one that it does not survive: deep enough nesting overflows its stack, and
//! that ends the program, whatever it had counted by then. This program parses in the workers of a pool, each file a task of
//! its own. A file that crashes its worker, or that never ends, costs that file alone: it is listed with the true cause, and
//! everything else is counted exactly once.
//!
//! Ctrl-C ends the census and all of its processes at once. They do not hear it themselves, since they are not in the
//! terminal's foreground group; the pool is killed, and they with it.
//!
//! Read it in this order: `collect` finds the files, `hostile` makes some that no parser survives, `parse` is what
//! the workers run, `run` gives them the files, `census` adds up, and `report` prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

mod census;
mod collect;
mod hostile;
mod parse;
mod report;
mod run;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Parser;
use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};

use crate::hostile::Hostile;
use crate::run::Ending;

/// What the program exits with, as it does for a wrong option, when there is nothing to count.
const NOTHING_TO_COUNT: u8 = 2;

/// What the program exits with after Ctrl-C, as a shell would tell it: 128, and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Counts what Rust sources are made of, parsing them in several processes at a time.
#[derive(Debug, Parser)]
struct Options {
    /// Files and directories to count; links and special files are passed over
    /// [default: the crates that cargo has downloaded]
    paths: Vec<PathBuf>,

    /// How many processes parse at a time
    #[arg(long, value_name = "N", default_value_t = processors())]
    jobs: NonZeroUsize,

    /// How long a file may take; a fraction is allowed
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,

    /// Say what each worker has done, and why those have ended that have
    #[arg(long)]
    stats: bool,

    /// Print the census as one JSON document
    #[arg(long)]
    json: bool,

    /// Add two files that no parser survives: one overflows its stack, the other hangs it
    #[arg(long)]
    with_hostile_files: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let mut sources = match collect::sources(options.paths) {
        Ok(sources) => sources,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(NOTHING_TO_COUNT));
        }
    };
    // From here on Ctrl-C lets `main` come to its end, so that the hostile files go.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let hostile = options.with_hostile_files.then(Hostile::create).transpose()?;
    if let Some(hostile) = &hostile {
        hostile.precede(&mut sources);
    }
    let bar = if options.json { ProgressBar::hidden() } else { run::bar(&sources) };
    let ending = run::census(&sources, options.jobs, options.timeout, &bar, interrupts.recv()).await?;
    let mut census = match ending {
        Ending::Complete(census) => census,
        Ending::Interrupted { counted } => {
            eprintln!("interrupted: {counted} files were counted");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if !options.stats {
        census.pool = None;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&census)?);
    } else {
        print!("{census}");
    }
    Ok(ExitCode::SUCCESS)
}

fn processors() -> NonZeroUsize {
    available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) => Err("no file can be parsed in no time".into()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
}
