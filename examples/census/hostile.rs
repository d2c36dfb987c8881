//! Two files that end their process, for whoever wants to see what becomes of the census.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

/// More than any stack has room for, when a parser descends for each of them.
const DEPTH: usize = 100_000;

/// A directory with hostile files in it, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Hostile {
    directory: TempDir,
}

impl Hostile {
    /// Writes one that overflows the parser's stack, and one that hangs it: a FIFO to which nobody writes.
    pub(crate) fn create() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("census-").tempdir();
        let hostile = Self { directory: directory.context("there is no place for hostile files")? };
        let nested = format!("fn f() {{ {}{} }}\n", "(".repeat(DEPTH), ")".repeat(DEPTH));
        fs::write(hostile.overflows(), nested)?;
        mkfifoat(CWD, hostile.hangs(), Mode::RUSR | Mode::WUSR)?;
        Ok(hostile)
    }

    fn overflows(&self) -> PathBuf {
        self.directory.path().join("overflows.rs")
    }

    fn hangs(&self) -> PathBuf {
        self.directory.path().join("hangs.rs")
    }

    /// Puts the files before the others.
    pub(crate) fn precede(&self, sources: &mut Vec<PathBuf>) {
        sources.splice(..0, [self.overflows(), self.hangs()]);
    }
}
