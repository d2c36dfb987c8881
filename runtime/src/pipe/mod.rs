//! Pipes.

mod ahead;
mod error;
mod frame;
mod lingering;
mod outbox;
mod pace;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;
mod travel;
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

/// Makes a pipe for messages one way. Python's `Pipe(duplex=False)`.
///
/// # Errors
/// Those of `socketpair(2)`: this process can have no more descriptors.
pub fn simplex<T: Message>() -> io::Result<(Sender<T>, Receiver<T>)> {
    simplex_with(Limits::DEFAULT)
}

/// As [`simplex`], with other limits.
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

/// As [`pipe`], with other limits.
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

impl<S: Message, R> Pipe<S, R> {
    /// Sends a message. See [`Sender::send`].
    ///
    /// # Errors
    /// The message comes back if it was not sent: the other end is gone, it cannot be encoded, it exceeds a limit, or the
    /// system does not let it through.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped before it is ready, nothing of the message was sent; it is dropped with the future.
    pub async fn send(&mut self, message: S) -> Result<(), SendError<S>> {
        self.sender.send(message).await
    }

    /// Sends a message, if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Full`](TrySendError::Full) if there is none.
    pub fn try_send(&mut self, message: S) -> Result<(), TrySendError<S>> {
        self.sender.try_send(message)
    }

    /// Sends a message, and blocks this thread meanwhile.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn blocking_send(&mut self, message: S) -> Result<(), SendError<S>> {
        self.sender.blocking_send(message)
    }
}

impl<S, R: Message> Pipe<S, R> {
    /// Receives the next message; `None` if the other end is gone and everything has been received.
    ///
    /// # Errors
    /// A message that cannot be read is lost, and the next one comes after it; see [`RecvError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is lost if it is dropped.
    pub async fn recv(&mut self) -> Result<Option<R>, RecvError> {
        self.receiver.recv().await
    }

    /// Receives the next message, if it has come whole.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty) if not, [`Closed`](TryRecvError::Closed) if none will; else as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<R, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives the next message, and blocks this thread meanwhile.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn blocking_recv(&mut self) -> Result<Option<R>, RecvError> {
        self.receiver.blocking_recv()
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
