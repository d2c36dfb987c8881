//! The least that a `fork(2)` can cost: of a small process with one thread, whose copy does nothing but end.
#![expect(unsafe_code, reason = "fork(2) is unsafe where there are other threads")]

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, waitpid};

use super::system::fork;
use crate::alternating::median_of;

/// The argument that makes this program the small process.
pub(super) const MARKER: &str = "--forks-of-the-limit";

/// The small process's part: it is told how often it is to fork, and tells how many nanoseconds one took.
pub(super) fn measure() -> io::Result<()> {
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    let mut rounds = [0; size_of::<usize>()];
    while stdin.read_exact(&mut rounds).is_ok() {
        let mut failed = None;
        let median = median_of(usize::from_ne_bytes(rounds), || {
            let start = Instant::now();
            failed = one().err().or(failed.take());
            start.elapsed()
        });
        failed.map_or(Ok(()), Err)?;
        let nanoseconds = u64::try_from(median.as_nanos()).map_err(io::Error::other)?;
        stdout.write_all(&nanoseconds.to_ne_bytes())?;
        stdout.flush()?;
    }
    Ok(())
}

/// A fork, and its end seen.
fn one() -> io::Result<()> {
    // SAFETY: the small process starts no threads.
    let child = unsafe { fork(|| 0) }?;
    let ended = waitpid(Some(child), WaitOptions::empty())?;
    match ended {
        Some((pid, status)) if pid == child && status.exit_status() == Some(0) => Ok(()),
        _ => Err(io::Error::other(format!("{child:?} should have ended well: {ended:?}"))),
    }
}

/// A small process that forks, and takes the time.
#[derive(Debug)]
pub struct Forks {
    process: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Forks {
    /// Starts it.
    ///
    /// # Errors
    /// Those of starting a process.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        let mut process = command.arg(MARKER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Self { process, stdin, stdout }),
            _ => Err(io::Error::other("a piped stream should be there")),
        }
    }

    /// The median of `rounds` forks, one after the other, each with its end.
    ///
    /// # Errors
    /// If the process has ended, because a fork has failed.
    pub fn median_of(&mut self, rounds: usize) -> io::Result<Duration> {
        self.stdin.write_all(&rounds.to_ne_bytes())?;
        let mut nanoseconds = [0; 8];
        self.stdout.read_exact(&mut nanoseconds)?;
        Ok(Duration::from_nanos(u64::from_ne_bytes(nanoseconds)))
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those of `waitid(2)`, or if it has failed.
    pub fn end(mut self) -> io::Result<()> {
        drop(self.stdin);
        super::checked(self.process.wait()?)
    }
}
