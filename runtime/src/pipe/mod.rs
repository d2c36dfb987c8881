//! Pipes: typed messages between two processes, and handles inside them.
//!
//! [`pipe`] makes a pair of ends that send and receive, [`simplex`] a sender and a receiver. An end is an argument, a result or
//! a field of a message like any other value, and so comes to the process that is to use it.
//!
//! ```
//! use procession::{Failure, Pipe, pipe, process};
//!
//! #[process]
//! async fn oracle(mut pipe: Pipe<u64, String>) -> Result<(), Failure> {
//!     while let Some(question) = pipe.recv().await? {
//!         pipe.send(question.len() as u64).await?;
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut ours, theirs) = pipe::<String, u64>()?;
//! let oracle = oracle(theirs).spawn().await?;
//! ours.send("why?".to_owned()).await?;
//! assert_eq!(ours.recv().await?, Some(4));
//! drop(ours); // The oracle receives `None`.
//! oracle.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # Who owns an end
//!
//! One process at a time: an end is not `Clone`, and sending it moves it, with what it has read ahead. When its process ends,
//! however that comes, the other end hears of it: a receiver gets what is on its way and then `None`, a sender gets
//! [`SendError::Closed`] with its message. Where many processes are to send or receive, give each an end of its own.
//!
//! # What becomes of a message
//!
//! [`Sender::send`] waits for room, and hands the message over whole or not at all: a future that is dropped before it is
//! ready has sent nothing, and one that [`Receiver`] drops has lost nothing. What was sent is *accepted*: it is with the kernel at
//! once or, in a run of messages, within about a millisecond, and reaches the receiver from there whatever becomes of the sender.
//! [`Sender::flush`] waits for that; so does the end of a process function that returns. At most 64 KiB and one message wait
//! outside the kernel: a sender that is faster than its receiver waits.
//!
//! A message has at most 16 MiB and 64 handles, unless the pipe is made with other [`Limits`]; what is larger is refused before a
//! byte of it is written. Long strings of bytes (`bytes::Bytes`, `serde_bytes`, `String`) are not looked at byte by byte, and
//! messages of 64 KiB and more go through shared memory that is used again: four of them at a time, then the sender waits. This
//! memory, up to four times the largest message rounded up to a power of two, goes with the ends, or when 64 more such messages have
//! not used it. A `Vec<u8>` without `serde_bytes` is encoded element by element.
//!
//! # Handles
//!
//! Ends of pipes, and [`Passed`](crate::Passed) files and sockets, stand in any field of a message, at any depth. Outside of
//! Procession's own messages they cannot be encoded. A message that is lost, because it cannot be read or nobody receives it, closes its
//! handles.
//!
//! # Where it runs
//!
//! An end is watched by the tokio runtime that is current when it is waited for, and follows who moves it to another; where none
//! is current, the thread that looks after this program's children watches. The `blocking_` methods need no runtime at all. Like
//! tokio's own sockets, an end panics where it is awaited in a runtime without I/O (`Builder::enable_io`).
//!
//! # Whom it trusts
//!
//! Nobody. What comes is checked against the pipe's limits, and an end that comes in a message has no wider ones than that
//! message has. A hostile peer can make receiving fail, and closes the pipe by that; it cannot make it panic, wait where
//! waiting cannot be cancelled, or hold more memory and descriptors than a message may.
//!
//! That is said of who has the other end. Who passes an end on gives it up, unless it is hostile and has kept a descriptor of the same socket. It
//! can take away what comes, then, and have the new owner of a receiver wait for the kernel's lock of that socket until it is killed, if
//! it reads into memory that does not come (`userfaultfd(2)`, a file of a FUSE). So receive by ends that you have made, or that come from whom you trust.

mod ahead;
mod budget;
mod error;
mod frame;
mod lingering;
mod outbox;
mod pace;
mod queue;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;
pub(crate) mod travel;
mod watch;

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use bytes::Bytes;

use crate::wire::{Limits, Message};

pub use error::{RecvError, SendError, TryRecvError, TrySendError};
pub(crate) use lingering::{is_unwritten, written};
pub use receiver::Receiver;
pub use sender::Sender;
pub(crate) use travel::Held;
pub(crate) use watch::uninterrupted;

/// Makes a pipe for messages one way. Python's `Pipe(duplex=False)`.
///
/// ```
/// use procession::pipe::Sender;
/// use procession::{Failure, process, simplex};
///
/// #[process]
/// async fn count(to: u64, mut numbers: Sender<u64>) -> Result<(), Failure> {
///     for n in 1..=to {
///         numbers.send(n).await?;
///     }
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, mut numbers) = simplex()?;
/// let counter = count(3, sender).spawn().await?;
/// while let Some(n) = numbers.recv().await? {
///     println!("{n}");
/// }
/// counter.await??;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of `socketpair(2)`: this process can have no more descriptors.
pub fn simplex<T: Message>() -> io::Result<(Sender<T>, Receiver<T>)> {
    simplex_with(Limits::DEFAULT)
}

/// As [`simplex`], with other limits. They go with an end that is an argument; one that comes in a message, or as a result, has no
/// wider limits than that message, so that those of the pipe or the call that brings it are to be raised, too.
///
/// # Errors
/// As [`simplex`].
pub fn simplex_with<T: Message>(limits: Limits) -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = sockets()?;
    Ok((Sender::new(sender, limits), Receiver::new(receiver, limits)))
}

fn sockets() -> io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok((Arc::new(one), Arc::new(other)))
}

/// Makes a pipe for messages both ways. Python's `Pipe()`.
///
/// # Errors
/// Those of `socketpair(2)`: this process can have no more descriptors.
pub fn pipe<S: Message, R: Message>() -> io::Result<(Pipe<S, R>, Pipe<R, S>)> {
    pipe_with(Limits::DEFAULT)
}

/// As [`pipe`], with other limits, which travel as those of [`simplex_with`] do.
///
/// # Errors
/// As [`pipe`].
pub fn pipe_with<S: Message, R: Message>(limits: Limits) -> io::Result<(Pipe<S, R>, Pipe<R, S>)> {
    let (to_there, from_here) = simplex_with(limits)?;
    let (to_here, from_there) = simplex_with(limits)?;
    Ok((Pipe { sender: to_there, receiver: from_there }, Pipe { sender: to_here, receiver: from_here }))
}

/// An end of a pipe that sends and receives, each way on its own: neither waits for the other.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
pub struct Pipe<S, R> {
    sender: Sender<S>,
    receiver: Receiver<R>,
}

impl<S, R> Pipe<S, R> {
    /// The two ends that it is made of, for two tasks, or two processes.
    #[must_use]
    pub fn into_split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// Sends a message. See [`Sender::send`].
    ///
    /// # Errors
    /// The message comes back if it was not sent: the other end is gone, it cannot be encoded, it exceeds a limit, or the
    /// system does not let it through.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped before it is ready, nothing of the message was sent; it is dropped with the future.
    pub async fn send(&mut self, message: S) -> Result<(), SendError<S>>
    where
        S: Message,
    {
        self.sender.send(message).await
    }

    /// Sends a message, if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Full`](TrySendError::Full) if there is none.
    pub fn try_send(&mut self, message: S) -> Result<(), TrySendError<S>>
    where
        S: Message,
    {
        self.sender.try_send(message)
    }

    /// Sends a message, and blocks this thread meanwhile.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn blocking_send(&mut self, message: S) -> Result<(), SendError<S>>
    where
        S: Message,
    {
        self.sender.blocking_send(message)
    }

    /// Receives the next message; `None` if the other end is gone and everything has been received.
    ///
    /// # Errors
    /// A message that cannot be read is lost, and the next one comes after it; see [`RecvError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is lost if it is dropped.
    pub async fn recv(&mut self) -> Result<Option<R>, RecvError>
    where
        R: Message,
    {
        self.receiver.recv().await
    }

    /// Receives the next message, if it has come whole.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty) if not, [`Closed`](TryRecvError::Closed) if none will; else as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<R, TryRecvError>
    where
        R: Message,
    {
        self.receiver.try_recv()
    }

    /// Receives the next message, and blocks this thread meanwhile.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn blocking_recv(&mut self) -> Result<Option<R>, RecvError>
    where
        R: Message,
    {
        self.receiver.blocking_recv()
    }

    /// Waits until receiving would not wait. See [`Receiver::readable`].
    ///
    /// # Errors
    /// Why the next message cannot be received.
    ///
    /// # Cancel safety
    /// Safe: nothing is received by this.
    pub async fn readable(&mut self) -> Result<(), RecvError> {
        self.receiver.readable().await
    }

    /// Waits until everything that was accepted is with the kernel. See [`Sender::flush`].
    ///
    /// # Errors
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the other end is gone.
    ///
    /// # Cancel safety
    /// Safe: what was accepted stays accepted.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.sender.flush().await
    }

    /// The same, blocking this thread meanwhile.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn blocking_flush(&mut self) -> io::Result<()> {
        self.sender.blocking_flush()
    }

    /// Sends bytes as they are. See [`Sender::send_bytes`].
    ///
    /// # Errors
    /// If the other end is gone, or the bytes are more than the pipe's limit.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped before it is ready, nothing was sent.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.sender.send_bytes(bytes).await
    }

    /// Receives bytes that were sent as they are. See [`Receiver::recv_bytes`].
    ///
    /// # Errors
    /// [`NotBytes`](RecvError::NotBytes) if what comes next is a message; it stays. Else as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Safe: nothing is lost if it is dropped.
    pub async fn recv_bytes(&mut self) -> Result<Option<Bytes>, RecvError> {
        self.receiver.recv_bytes().await
    }

    /// The same, into a buffer. See [`Receiver::recv_bytes_into`].
    ///
    /// # Errors
    /// [`BufferTooShort`](RecvError::BufferTooShort), with the bytes, if they are more. Else as
    /// [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Cancel safety
    /// Safe: nothing is lost if it is dropped.
    pub async fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
        self.receiver.recv_bytes_into(buffer).await
    }
}

/// What it receives, as a [`Receiver`] does.
impl<S, R: Message> Stream for Pipe<S, R> {
    type Item = Result<R, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

/// What it sends, as a [`Sender`] does.
impl<S: Message, R> Sink<S> for Pipe<S, R> {
    type Error = SendError<Option<S>>;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sender).poll_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: S) -> Result<(), Self::Error> {
        Pin::new(&mut self.sender).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sender).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sender).poll_close(context)
    }
}
