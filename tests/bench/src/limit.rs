//! The least that a start can cost: `tokio::process::Command` of this program, whose child has a current-thread
//! runtime and a socketpair to its parent. Nothing guards it, and nothing would be told of its death.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// The argument that makes this program the limit's child.
const MARKER: &str = "--child-of-the-limit";

type Link = Framed<UnixStream, LengthDelimitedCodec>;

/// Does the child's part and gives `true`, if this process is the limit's child. The first line of `main`.
///
/// # Errors
/// If the parent has gone, or the system refuses a runtime.
pub fn was_child() -> io::Result<bool> {
    let is_child = std::env::args_os().nth(1).is_some_and(|argument| argument == MARKER);
    if is_child {
        tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(answer())?;
    }
    Ok(is_child)
}

/// The link is the child's standard input: no descriptor needs to be made from a number.
async fn answer() -> io::Result<()> {
    use std::os::fd::AsFd;
    let mut link = framed(StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    while let Some(question) = link.next().await {
        let n: u64 = postcard::from_bytes(&question?).map_err(io::Error::other)?;
        send(&mut link, n * n).await?;
        if n != 0 {
            break;
        }
    }
    Ok(())
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
    pub fn start() -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let process = Command::new("/proc/self/exe").arg(MARKER).stdin(stdin).spawn()?;
        Ok(Self { process, link: framed(ours)? })
    }

    /// Its process id, while it has not been waited for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Gives it a number, and gives what it answers. After any number but 0 it ends.
    ///
    /// # Errors
    /// If it has ended, or says something else.
    pub async fn ask(&mut self, n: u64) -> io::Result<u64> {
        send(&mut self.link, n).await?;
        let answer = self.link.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
        postcard::from_bytes(&answer).map_err(io::Error::other)
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
    let mut child = Child::start()?;
    let square = child.ask(n).await?;
    let status = child.wait().await?;
    if status.success() { Ok(square) } else { Err(io::Error::other(status.to_string())) }
}

async fn send(link: &mut Link, n: u64) -> io::Result<()> {
    let body = postcard::to_stdvec(&n).map_err(io::Error::other)?;
    link.send(Bytes::from(body)).await
}

fn framed(stream: StdUnixStream) -> io::Result<Link> {
    stream.set_nonblocking(true)?;
    Ok(Framed::new(UnixStream::from_std(stream)?, LengthDelimitedCodec::new()))
}
