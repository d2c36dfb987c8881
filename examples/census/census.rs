//! Adding up.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use procession::pool::Stats;
use procession::{Cause, Failure};
use serde::{Serialize, Serializer};

use crate::parse::{FileReport, Items, SyntaxError};

/// How many of the largest and of the slowest files are named.
const TOP: usize = 5;

/// All that is counted. Each file is in exactly one of the first four places.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Census {
    /// How many files were parsed.
    pub(crate) parsed: u64,
    /// Those that are not Rust, to this parser.
    pub(crate) unparsed: Vec<Unparsed>,
    /// Those that cannot be read.
    pub(crate) unread: Vec<Lost>,
    /// Those that ended their process.
    pub(crate) lost: Vec<Lost>,

    /// Of the files that were read, whether they could be parsed or not.
    pub(crate) lines: u64,
    /// As `lines`.
    pub(crate) bytes: u64,
    /// Of the files that were parsed.
    pub(crate) items: Items,
    pub(crate) largest: Vec<Ranked>,
    pub(crate) slowest: Vec<Ranked>,

    pub(crate) jobs: usize,
    pub(crate) processes: u64,
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub(crate) took: Duration,
    pub(crate) files_per_second: f64,
    pub(crate) megabytes_per_second: f64,
    /// What the pool tells of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<Stats>,
}

/// A file with an error in it, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Unparsed {
    pub(crate) path: String,
    #[serde(flatten)]
    pub(crate) error: SyntaxError,
}

/// A file of which nothing is known, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Lost {
    pub(crate) path: String,
    pub(crate) cause: String,
}

/// A file by its size and its time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ranked {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub(crate) took: Duration,
}

impl Census {
    /// How many files are counted by now.
    pub(crate) fn files(&self) -> u64 {
        self.parsed + (self.unparsed.len() + self.unread.len() + self.lost.len()) as u64
    }

    /// Adds a file that its worker has survived.
    pub(crate) fn add(&mut self, path: &Path, report: Result<FileReport, Failure>) {
        let path = path.display().to_string();
        match report {
            Ok(report) => self.add_read(path, report),
            Err(failure) => self.unread.push(Lost { path, cause: failure.to_string() }),
        }
    }

    fn add_read(&mut self, path: String, report: FileReport) {
        let FileReport { bytes, lines, took, parsed } = report;
        self.bytes += bytes;
        self.lines += lines;
        let ranked = Ranked { path: path.clone(), bytes, took };
        rank(&mut self.largest, ranked.clone(), |file| file.bytes);
        rank(&mut self.slowest, ranked, |file| file.took);
        match parsed {
            Err(error) => self.unparsed.push(Unparsed { path, error }),
            Ok(items) => {
                self.parsed += 1;
                for (kind, count) in items {
                    *self.items.entry(kind).or_default() += count;
                }
            }
        }
    }

    /// Adds a file that has ended its process.
    pub(crate) fn lose(&mut self, path: &Path, cause: &Cause) {
        self.lost.push(Lost { path: path.display().to_string(), cause: cause.to_string() });
    }

    /// Completes the census. The files came in any order: the lists are to be in the order of their paths.
    pub(crate) fn finish(mut self, jobs: NonZeroUsize, took: Duration, pool: Stats) -> Self {
        self.unparsed.sort_by(|a, b| a.path.cmp(&b.path));
        self.unread.sort_by(|a, b| a.path.cmp(&b.path));
        self.lost.sort_by(|a, b| a.path.cmp(&b.path));
        self.jobs = jobs.get();
        self.processes = pool.workers.len() as u64 + pool.ended.values().sum::<u64>();
        self.pool = Some(pool);
        self.took = took;
        self.files_per_second = self.files() as f64 / took.as_secs_f64();
        self.megabytes_per_second = self.bytes as f64 / 1e6 / took.as_secs_f64();
        self
    }
}

/// Adds a file to the highest ones, and forgets the lowest. Among equals the path decides.
fn rank<K: Ord>(top: &mut Vec<Ranked>, file: Ranked, key: impl Fn(&Ranked) -> K) {
    top.push(file);
    top.sort_by(|a, b| (Reverse(key(a)), &a.path).cmp(&(Reverse(key(b)), &b.path)));
    top.truncate(TOP);
}

fn as_seconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_secs_f64())
}
