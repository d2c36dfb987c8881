//! Giving the files to a pool of workers, and taking in what comes of each.

use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use procession::{Cause, Failure, Pool, ProcessError};

use crate::census::Census;
use crate::parse::{FileReport, be_silent, parse};

/// A worker that a large file has left with more memory than this is replaced, in bytes.
const TOO_LARGE: u64 = 1 << 30;

/// What came of a file: which it was, and what is known of it.
type Outcome = Result<(usize, Result<FileReport, Failure>), ProcessError>;

/// How a census ends.
#[derive(Debug)]
pub(crate) enum Ending {
    Complete(Box<Census>),
    /// There are files left that are not counted.
    Interrupted {
        counted: u64,
    },
}

/// Parses all sources, in as many processes at a time as there are jobs, unless it is interrupted.
///
/// # Errors
/// The program, not a file, is at fault: no process can be started, for example.
pub(crate) async fn census(
    sources: &[PathBuf],
    jobs: NonZeroUsize,
    timeout: Duration,
    bar: &ProgressBar,
    interrupted: impl Future<Output = Option<()>>,
) -> Result<Ending> {
    let began = Instant::now();
    let mut census = Census::default();
    // ANCHOR: pool
    let pool = Pool::builder().name("census").workers(jobs.get()).init(be_silent()).max_rss(TOO_LARGE);
    let pool = pool.build().await.context("there is nobody to parse")?;
    let files = sources.iter().cloned().map(PathBuf::into_os_string).enumerate();
    let parsing = pool.map(|(number, path)| parse(number, path), files).timeout(timeout);
    let mut outcomes = parsing.on_progress(|done| bar.set_position(done)).unordered();
    // ANCHOR_END: pool
    let mut interrupted = pin!(interrupted);
    loop {
        let outcome = tokio::select! {
            outcome = outcomes.next() => outcome,
            _ = &mut interrupted => {
                pool.kill().await;
                bar.finish_and_clear();
                return Ok(Ending::Interrupted { counted: census.files() });
            }
        };
        let Some(outcome) = outcome else { break };
        take_in(&mut census, sources, outcome).context("the census cannot go on")?;
    }
    let stats = pool.stats();
    pool.close().await?;
    bar.finish_and_clear();
    Ok(Ending::Complete(Box::new(census.finish(jobs, began.elapsed(), stats))))
}

/// Shows how far the census is, on a terminal.
pub(crate) fn bar(sources: &[PathBuf]) -> ProgressBar {
    let template = "{wide_bar} {human_pos} of {human_len} files, {per_sec}, {eta} to go";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(sources.len() as u64).with_style(style)
}

/// Counts a file, or lists it with what it has done to its process.
fn take_in(census: &mut Census, sources: &[PathBuf], outcome: Outcome) -> Result<(), ProcessError> {
    match outcome {
        Ok((number, report)) => census.add(&sources[number], report),
        Err(error) => match error.item().and_then(|number| sources.get(usize::try_from(number).ok()?)) {
            Some(guilty) if blames_a_file(error.cause()) => census.lose(guilty, error.cause()),
            _ => return Err(error),
        },
    }
    Ok(())
}

/// Whether a file can be the cause of it. Everything else would befall the next file too.
fn blames_a_file(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Panicked { .. }
            | Cause::Exited { .. }
            | Cause::Signaled { .. }
            | Cause::StackOverflow
            | Cause::TimedOut { .. }
    )
}
