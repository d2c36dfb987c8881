//! Keeping the processes busy, and trying again what was lost with one.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use procession::{Cause, Failure, ProcessError, Stdio};
use tokio::task::JoinSet;

use crate::census::Census;
use crate::collect::Source;
use crate::parse::{FileReport, SLICE, parse_batch};

/// How many files a process gets at most, so that its start is shared among many.
const BATCH_FILES: usize = 64;

/// How many bytes a batch has at most, unless it is a single file, so that the processes end at about the same
/// time.
const BATCH_BYTES: u64 = 1 << 20;

/// Files that one process parses.
type Batch = Vec<Source>;

/// What came of a batch: reports for as many of its files as there was time for.
type Outcome = Result<Vec<Result<FileReport, Failure>>, ProcessError>;

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
    sources: Vec<Source>,
    jobs: NonZeroUsize,
    timeout: Duration,
    bar: &ProgressBar,
    interrupted: impl Future<Output = Option<()>>,
) -> Result<Ending> {
    let began = Instant::now();
    let mut work = Work { waiting: batches(sources), census: Census::default(), bar };
    let mut running = JoinSet::new();
    let mut interrupted = pin!(interrupted);
    loop {
        while running.len() < jobs.get()
            && let Some(batch) = work.waiting.pop()
        {
            work.census.processes += 1;
            running.spawn(attempt(batch, timeout));
        }
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            _ = &mut interrupted => {
                // Each task drops the call that it awaits, and that kills the process.
                running.shutdown().await;
                bar.finish_and_clear();
                return Ok(Ending::Interrupted { counted: work.census.files() });
            }
        };
        let Some(ended) = ended else { break };
        let (batch, outcome) = ended?;
        work.settle(batch, outcome).context("the census cannot go on")?;
    }
    bar.finish_and_clear();
    Ok(Ending::Complete(Box::new(work.census.finish(jobs, began.elapsed()))))
}

/// Shows how far the census is, on a terminal.
pub(crate) fn bar(sources: &[Source]) -> ProgressBar {
    let template =
        "{wide_bar} {msg} of {prefix} files, {decimal_bytes} of {decimal_total_bytes}, {eta} to go";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let bar = ProgressBar::new(sources.iter().map(|source| source.bytes).sum());
    bar.with_style(style).with_prefix(sources.len().to_string()).with_message("0")
}

/// Divides the sources into batches, to be taken from the end: the first comes last.
fn batches(sources: Vec<Source>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut bytes = 0;
    for source in sources {
        bytes += source.bytes;
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_FILES && bytes <= BATCH_BYTES => batch.push(source),
            _ => {
                bytes = source.bytes;
                batches.push(vec![source]);
            }
        }
    }
    batches.reverse();
    batches
}

/// Runs a batch in a process of its own, which ends with this future if that is dropped.
///
/// What a parser says when it dies would run through the progress bar; what it died of is in the outcome.
async fn attempt(batch: Batch, timeout: Duration) -> (Batch, Outcome) {
    let paths = batch.iter().map(|source| source.path.clone().into_os_string()).collect();
    let call = parse_batch(paths).timeout(limit(batch.len(), timeout));
    let outcome = call.stdout(Stdio::null()).stderr(Stdio::null()).await;
    (batch, outcome)
}

/// How long a batch of so many files may take, when each may take `timeout`.
///
/// `files * timeout` would be fair, but a file that hangs would be noticed after minutes. `timeout` alone would
/// notice it soon, but kill batches of files that are slow and honest. So a process begins no file after
/// [`SLICE`], and gives back what it has. However many files there are, it has ended by `SLICE + timeout` if each
/// of them takes no longer than `timeout`, so that no honest batch is killed. A file alone, and only a file alone is
/// ever listed, has its own limit exactly.
fn limit(files: usize, timeout: Duration) -> Duration {
    if files == 1 { timeout } else { timeout.saturating_add(SLICE) }
}

/// What is still to be done, and what is known.
struct Work<'a> {
    /// A stack: what is tried again goes first.
    waiting: Vec<Batch>,
    census: Census,
    bar: &'a ProgressBar,
}

impl Work<'_> {
    /// Takes in what came of a batch. Each of its files is counted, or waits again, and never both.
    fn settle(&mut self, batch: Batch, outcome: Outcome) -> Result<(), ProcessError> {
        match outcome {
            Ok(reports) => self.count(batch, reports),
            Err(error) if !blames_a_file(error.cause()) => return Err(error),
            Err(error) => match &*batch {
                [guilty] => {
                    self.census.lose(&guilty.path, error.cause());
                    self.done(guilty);
                }
                // One of them did it, and nothing is known of the others. To halve is to find it in few processes; but
                // where each try takes a time limit, to try each file by itself is to find it in the second one.
                files => {
                    let piece = if error.is_timeout() { 1 } else { files.len().div_ceil(2) };
                    self.divide(batch, piece);
                }
            },
        }
        Ok(())
    }

    /// Counts the files that there are reports for; the others wait for another process.
    fn count(&mut self, mut batch: Batch, reports: Vec<Result<FileReport, Failure>>) {
        self.wait(batch.split_off(reports.len()));
        for (source, report) in batch.iter().zip(reports) {
            self.census.add(&source.path, report);
            self.done(source);
        }
    }

    /// Has the batch tried again in pieces of so many files.
    fn divide(&mut self, mut batch: Batch, piece: usize) {
        while !batch.is_empty() {
            let last = batch.split_off((batch.len() - 1) / piece * piece);
            self.wait(last);
        }
    }

    fn wait(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.waiting.push(batch);
        }
    }

    fn done(&self, source: &Source) {
        self.bar.inc(source.bytes);
        self.bar.set_message(self.census.files().to_string());
    }
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
