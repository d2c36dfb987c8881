//! Keeping the processes busy, and trying again what was lost with one.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use procession::{Cause, Failure, ProcessError};
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

/// Parses all sources, in as many processes at a time as there are jobs.
///
/// # Errors
/// The program, not a file, is at fault: no process can be started, for example.
pub(crate) async fn census(
    sources: Vec<Source>,
    jobs: NonZeroUsize,
    timeout: Duration,
    bar: &ProgressBar,
) -> Result<Census> {
    let began = Instant::now();
    let mut work = Work { waiting: batches(sources), census: Census::default(), bar };
    let mut running = JoinSet::new();
    loop {
        while running.len() < jobs.get()
            && let Some(batch) = work.waiting.pop()
        {
            work.census.processes += 1;
            running.spawn(attempt(batch, timeout));
        }
        let Some(ended) = running.join_next().await else { break };
        let (batch, outcome) = ended?;
        work.settle(batch, outcome).context("the census cannot go on")?;
    }
    bar.finish_and_clear();
    Ok(work.census.finish(jobs, began.elapsed()))
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
async fn attempt(batch: Batch, timeout: Duration) -> (Batch, Outcome) {
    let paths = batch.iter().map(|source| source.path.clone().into_os_string()).collect();
    let outcome = parse_batch(paths).timeout(limit(batch.len(), timeout)).await;
    (batch, outcome)
}

/// How long a batch of so many files may take, when each may take `timeout`.
///
/// `files * timeout` would be fair, but a file that hangs would be noticed after minutes. `timeout` alone would
/// notice it soon, but kill batches of files that are slow and honest. So a process begins no file after
/// [`SLICE`], and gives back what it has. However many files there are, it has ended by `SLICE + timeout` if each
/// of them takes no longer than `timeout`, so that no honest batch is killed; and halving after halving finds a
/// file that hangs in `log2(files)` such limits. A file alone, and only a file alone is ever listed, has its own
/// limit exactly.
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
                // One of them did it, and nothing is known of the others.
                _ => self.halve(batch),
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

    fn halve(&mut self, mut batch: Batch) {
        let second = batch.split_off(batch.len() / 2);
        self.wait(second);
        self.wait(batch);
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
