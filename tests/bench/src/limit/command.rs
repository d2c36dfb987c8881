//! The least that a start by `execve(2)` can cost: `tokio::process::Command` of this program, whose child has a
//! current-thread runtime and a socketpair to its parent. Nothing guards it, and nothing would be told of its death.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;
use tokio::runtime::Builder;

use super::link::{self, Answers, Link};

/// The arguments that make this program the child.
pub(super) const ONE_ANSWER: &str = "--child-of-the-limit";
pub(super) const MANY_ANSWERS: &str = "--lasting-child-of-the-limit";

/// The child's part. The link is its standard input: no descriptor needs to be made from a number.
pub(super) fn answer(answers: Answers) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        let stream = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        link::answer(&mut link::framed(stream)?, answers).await
    })
}

/// A child that waits for numbers.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    link: Link,
}

impl Child {
    /// Starts one.
    ///
    /// # Errors
    /// Those of `socketpair(2)`, `clone(2)` and `execve(2)`.
    pub fn start(answers: Answers) -> io::Result<Self> {
        let marker = if answers == Answers::One { ONE_ANSWER } else { MANY_ANSWERS };
        let (ours, theirs) = StdUnixStream::pair()?;
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let process = Command::new("/proc/self/exe").arg(marker).stdin(stdin).spawn()?;
        Ok(Self { process, link: link::framed(ours)? })
    }

    /// Its process id, while it has not been waited for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Gives it a number, and gives what it answers.
    ///
    /// # Errors
    /// If it has ended, or says something else.
    pub async fn ask(&mut self, n: u64) -> io::Result<u64> {
        link::ask(&mut self.link, n).await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Those of `waitid(2)`.
    pub async fn wait(mut self) -> io::Result<ExitStatus> {
        drop(self.link);
        self.process.wait().await
    }
}

/// A start, a number in, its square out, the exit seen.
///
/// # Errors
/// If any of it fails.
pub async fn square(n: u64) -> io::Result<u64> {
    let mut child = Child::start(Answers::One)?;
    let square = child.ask(n).await?;
    super::checked(child.wait().await?)?;
    Ok(square)
}
