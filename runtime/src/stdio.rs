//! Where a child's input comes from, and where its output goes.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;

/// Where a child's standard input comes from, or its standard output or errors go.
///
/// If nothing is said, input is empty, and output and errors go where the parent's go.
#[derive(Debug, Clone)]
pub struct Stdio(pub(crate) Kind);

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Inherit,
    Null,
    Piped,
    Traced,
    Given(Arc<OwnedFd>),
}

impl Stdio {
    /// The parent's own.
    #[must_use]
    pub const fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// `/dev/null`: empty as input; as output, nobody's.
    #[must_use]
    pub const fn null() -> Self {
        Self(Kind::Null)
    }

    /// A pipe to the holder of the [`Process`](crate::Process), who takes its end by
    /// [`stdin`](crate::Process::stdin), [`stdout`](crate::Process::stdout) or
    /// [`stderr`](crate::Process::stderr). A call that is awaited in place has no holder: its pipe has no other end.
    #[must_use]
    pub const fn piped() -> Self {
        Self(Kind::Piped)
    }

    /// Output that is carried, line by line, into [`tracing`] events of the target `procession::output`, with the
    /// fields `process`, `pid` and `stream`. The last lines of errors come along in
    /// [`ProcessError::stderr`](crate::ProcessError::stderr). For input it is the same as [`null`](Self::null).
    #[must_use]
    pub const fn traced() -> Self {
        Self(Kind::Traced)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self(Kind::Given(Arc::new(fd)))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

/// What a child gets for a standard stream.
#[derive(Debug)]
pub(crate) enum Theirs {
    /// What its parent has.
    Parents,
    /// `/dev/null`.
    Null,
    Given(Arc<OwnedFd>),
}

/// The two ends of one of a child's standard streams.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) theirs: Theirs,
    /// The parent's, if there is a pipe.
    pub(crate) ours: Option<OwnedFd>,
}

impl Stdio {
    /// Opens what is to be opened for input.
    pub(crate) fn input(&self) -> io::Result<Ends> {
        match &self.0 {
            Kind::Piped => {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                Ok(Ends { theirs: Theirs::Given(Arc::new(reader)), ours: Some(writer) })
            }
            other => Ok(other.unpiped()),
        }
    }

    /// Opens what is to be opened for output.
    pub(crate) fn output(&self) -> io::Result<Ends> {
        match &self.0 {
            Kind::Piped | Kind::Traced => {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                Ok(Ends { theirs: Theirs::Given(Arc::new(writer)), ours: Some(reader) })
            }
            other => Ok(other.unpiped()),
        }
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.0, Kind::Null)
    }

    pub(crate) const fn is_inherited(&self) -> bool {
        matches!(self.0, Kind::Inherit)
    }

    pub(crate) const fn is_traced(&self) -> bool {
        matches!(self.0, Kind::Traced)
    }
}

impl Kind {
    fn unpiped(&self) -> Ends {
        let theirs = match self {
            Self::Inherit => Theirs::Parents,
            Self::Given(fd) => Theirs::Given(Arc::clone(fd)),
            Self::Null | Self::Piped | Self::Traced => Theirs::Null,
        };
        Ends { theirs, ours: None }
    }
}

/// The parent's end of a pipe. It is registered with the runtime that polls it first, so that it can be made
/// without one.
#[derive(Debug)]
enum Lazy<T> {
    Idle(OwnedFd),
    Registered(T),
    Closed,
}

impl<T> Lazy<T> {
    fn get(&mut self, register: fn(OwnedFd) -> io::Result<T>) -> io::Result<&mut T> {
        if let Self::Idle(_) = self {
            Handle::try_current().map_err(io::Error::other)?;
            if let Self::Idle(fd) = std::mem::replace(self, Self::Closed) {
                *self = Self::Registered(register(fd)?);
            }
        }
        match self {
            Self::Registered(registered) => Ok(registered),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// What a child writes to its standard output or errors: the reading end of a pipe.
///
/// It belongs to the runtime that polls it first; without one, or in one that has no I/O driver, it cannot be read.
///
/// # Cancel safety
/// As that of [`tokio::net::unix::pipe::Receiver`].
#[derive(Debug)]
pub struct ChildOutput(Lazy<pipe::Receiver>);

impl ChildOutput {
    pub(crate) const fn new(fd: OwnedFd) -> Self {
        Self(Lazy::Idle(fd))
    }
}

impl AsyncRead for ChildOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.0.get(pipe::Receiver::from_owned_fd)?).poll_read(context, buffer)
    }
}

/// What a child reads from its standard input: the writing end of a pipe. Dropping it ends the input.
///
/// It belongs to the runtime that polls it first; without one, or in one that has no I/O driver, it cannot be written.
///
/// # Cancel safety
/// As that of [`tokio::net::unix::pipe::Sender`].
#[derive(Debug)]
pub struct ChildInput(Lazy<pipe::Sender>);

impl ChildInput {
    pub(crate) const fn new(fd: OwnedFd) -> Self {
        Self(Lazy::Idle(fd))
    }
}

impl AsyncWrite for ChildInput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.0.get(pipe::Sender::from_owned_fd)?).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get(pipe::Sender::from_owned_fd)?).poll_flush(context)
    }

    /// Flushes, and ends the input.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Lazy::Registered(sender) = &mut self.0 {
            std::task::ready!(Pin::new(sender).poll_shutdown(context))?;
        }
        self.0 = Lazy::Closed;
        Poll::Ready(Ok(()))
    }
}
