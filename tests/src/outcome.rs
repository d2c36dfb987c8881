//! How a test ended.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file, in the directory of a test, that the verdict is written to.
const FILE: &str = "verdict";

/// What became of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It ran to its end and left nothing.
    Passed,
    /// It panicked or returned an error; says which.
    Failed(String),
    /// It ran to its end, but what the process holds is not what it held before; one line per difference.
    Leaked(String),
    /// It did not come to its end in time; who waits for what.
    Stuck(String),
    /// Its process ended before the body did, or could not be started.
    Died(String),
}

impl Verdict {
    /// Writes the verdict, whole or not at all.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let unfinished = directory.join("unfinished-verdict");
        fs::write(&unfinished, serde_json::to_vec(self)?)?;
        fs::rename(unfinished, directory.join(FILE))
    }

    /// Reads the verdict; `None` when the process ended without one.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(FILE)).ok()?).ok()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "passed"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Leaked(things) => write!(f, "the body passed, but the leak check found\n{things}"),
            Self::Stuck(report) => write!(f, "watchdog: {report}"),
            Self::Died(reason) => write!(f, "died: {reason}"),
        }
    }
}

/// The end of a test, as a value.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The path of the test within its binary.
    pub test: String,
    /// What became of it.
    pub verdict: Verdict,
    /// What it wrote to its standard output and standard error.
    pub output: String,
}

/// A test that did not pass. Its `Debug` is for people, since that is what libtest shows.
#[derive(Clone)]
pub struct NotPassed {
    test: String,
    verdict: Verdict,
}

impl Outcome {
    /// Says whether the test passed.
    ///
    /// # Errors
    /// Every verdict but [`Verdict::Passed`].
    pub fn passed(self) -> Result<(), NotPassed> {
        match self.verdict {
            Verdict::Passed => Ok(()),
            verdict => Err(NotPassed { test: self.test, verdict }),
        }
    }
}

impl fmt::Debug for NotPassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NotPassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.test, self.verdict)
    }
}

impl std::error::Error for NotPassed {}
