//! The end of a pipe that receives.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use rustix::event::PollFlags;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use tokio::io::Interest;

use super::ahead::Ahead;
use super::budget::Budget;
use super::error::{RecvError, TryRecvError};
use super::frame::Kind;
use super::travel::{Given, TakenReceiver, check_type, hash_of};
use super::watch::{Done, FOREVER, Watch, uninterrupted, wait_for};
use crate::wire::beside::HandleKind;
use crate::wire::{ASIDE, Limits, Message, unpack};

/// The end of a pipe that receives messages: one half of a [`Pipe`](super::Pipe), or of a [`simplex`](super::simplex()).
///
/// It belongs to one process at a time, and is not `Clone`. As an argument, a result or a field of a message it moves to
/// another process, and takes along what has come and was not received yet.
pub struct Receiver<T> {
    socket: Arc<OwnedFd>,
    limits: Limits,
    watch: Watch,
    budget: Budget,
    ahead: Ahead,
    /// Nothing comes any more.
    has_ended: bool,
    gives: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    pub(super) fn new(socket: Arc<OwnedFd>, limits: Limits) -> Self {
        let (watch, ahead) = (Watch::new(Interest::READABLE), Ahead::default());
        let budget = Budget::default();
        Self { socket, limits, watch, budget, ahead, has_ended: false, gives: PhantomData }
    }

    /// The limits on what it receives: those that the pipe was made with.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Receives the next message; `None` if the sender is gone and everything has been received.
    ///
    /// # Errors
    /// A message that cannot be read is lost, and the next one comes after it; see [`RecvError`].
    ///
    /// # Cancel safety
    /// Safe: nothing is lost if it is dropped.
    pub async fn recv(&mut self) -> Result<Option<T>, RecvError>
    where
        T: Message,
    {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// Receives the next message, if it has come whole.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty) if not, [`Closed`](TryRecvError::Closed) if none will; else as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<T, TryRecvError>
    where
        T: Message,
    {
        match self.try_kind()? {
            Some(Some(kind)) => Ok(self.take_message(kind)?),
            Some(None) => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Receives the next message, and blocks this thread meanwhile: for a plain process function, or a thread of its own. It
    /// needs no runtime.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn blocking_recv(&mut self) -> Result<Option<T>, RecvError>
    where
        T: Message,
    {
        self.blocking_kind()?.map(|kind| self.take_message(kind)).transpose()
    }

    /// Waits until receiving would not wait: a message has come whole, or none will. Python's `poll`.
    ///
    /// # Errors
    /// Why the next message cannot be received.
    ///
    /// # Cancel safety
    /// Safe: nothing is received by this.
    pub async fn readable(&mut self) -> Result<(), RecvError> {
        poll_fn(|context| self.poll_kind(context)).await.map(drop)
    }

    /// Receives bytes that were sent by [`send_bytes`](super::Sender::send_bytes); `None` if the sender is gone and everything
    /// has been received.
    ///
    /// # Errors
    /// [`NotBytes`](RecvError::NotBytes) if what comes next is a message; it stays. Else as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Safe: nothing is lost if it is dropped.
    pub async fn recv_bytes(&mut self) -> Result<Option<Bytes>, RecvError> {
        poll_fn(|context| self.poll_bytes(context, Self::take_bytes)).await
    }

    /// As [`recv_bytes`](Self::recv_bytes), into a buffer; gives how many they are.
    ///
    /// # Errors
    /// [`BufferTooShort`](RecvError::BufferTooShort), with the bytes, if they are more. Else as
    /// [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Cancel safety
    /// Safe: nothing is lost if it is dropped.
    pub async fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
        poll_fn(|context| self.poll_bytes(context, |receiver| receiver.take_bytes_into(buffer))).await
    }

    /// As [`recv_bytes`](Self::recv_bytes), blocking this thread meanwhile.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes).
    pub fn blocking_recv_bytes(&mut self) -> Result<Option<Bytes>, RecvError> {
        let kind = self.blocking_kind()?;
        self.take_if_bytes(kind, Self::take_bytes)
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<T>, RecvError>>
    where
        T: Message,
    {
        ready!(self.budget.poll(context));
        let kind = ready!(self.poll_kind(context));
        Poll::Ready(match kind? {
            Some(kind) => self.take_message(kind).map(Some),
            None => Ok(None),
        })
    }

    fn take_message(&mut self, kind: Kind) -> Result<T, RecvError>
    where
        T: Message,
    {
        if kind != Kind::Message {
            return Err(RecvError::NotAMessage);
        }
        if let Some(body) = self.ahead.take_plain() {
            // A string that should stand aside is longer than most bodies.
            let strings = (body.len() >= ASIDE).then(VecDeque::new);
            return Ok(unpack(body, VecDeque::new(), strings, &self.limits)?);
        }
        let frame = self.ahead.take(&self.socket, &self.limits);
        let mut frame = self.noticed(frame)?;
        let (handles, strings) = (std::mem::take(&mut frame.handles), std::mem::take(&mut frame.strings));
        Ok(unpack(self.ahead.body(&frame), handles, Some(strings), &self.limits)?)
    }

    fn take_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let taken = self.ahead.take_into(buffer, &self.socket, &self.limits);
        self.noticed(taken)
    }

    /// Waits until bytes have come, and takes them.
    fn poll_bytes<B>(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&mut Self) -> Result<B, RecvError>,
    ) -> Poll<Result<Option<B>, RecvError>> {
        ready!(self.budget.poll(context));
        let kind = ready!(self.poll_kind(context))?;
        Poll::Ready(self.take_if_bytes(kind, take))
    }

    /// Takes what has come, if it is bytes.
    fn take_if_bytes<B>(
        &mut self,
        kind: Option<Kind>,
        take: impl FnOnce(&mut Self) -> Result<B, RecvError>,
    ) -> Result<Option<B>, RecvError> {
        match kind {
            Some(Kind::Bytes) => take(self).map(Some),
            Some(Kind::Message) => Err(RecvError::NotBytes),
            None => Ok(None),
        }
    }

    fn take_bytes(&mut self) -> Result<Bytes, RecvError> {
        let frame = self.ahead.take_bytes(&self.socket, &self.limits);
        let frame = self.noticed(frame)?;
        Ok(self.ahead.own_body(frame))
    }

    /// What was taken; an error that ends the pipe does so here.
    fn noticed<B>(&mut self, taken: Result<B, RecvError>) -> Result<B, RecvError> {
        taken.inspect_err(|error| self.has_ended |= error.ends_the_pipe())
    }

    /// Waits until a frame has come whole, and says what it is; `None` at the end.
    fn poll_kind(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Kind>, RecvError>> {
        loop {
            if let Some(known) = self.known()? {
                return Poll::Ready(Ok(known));
            }
            let (ahead, socket, limits) = (&mut self.ahead, &self.socket, &self.limits);
            let filled = ready!(self.watch.poll_by(socket, context, || ahead.fill(socket, limits)));
            self.filled(filled)?;
        }
    }

    /// The same, without waiting; `None` if neither is so yet.
    fn try_kind(&mut self) -> Result<Option<Option<Kind>>, RecvError> {
        loop {
            if let Some(known) = self.known()? {
                return Ok(Some(known));
            }
            match uninterrupted(|| self.ahead.fill(&self.socket, &self.limits)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                filled => self.filled(filled.map(Done::into_inner))?,
            }
        }
    }

    /// The same, blocking this thread.
    fn blocking_kind(&mut self) -> Result<Option<Kind>, RecvError> {
        loop {
            if let Some(known) = self.try_kind()? {
                return Ok(known);
            }
            wait_for(&self.socket, PollFlags::IN, FOREVER)?;
        }
    }

    /// The kind of the next frame, if it has come whole, or that nothing comes any more.
    fn known(&mut self) -> Result<Option<Option<Kind>>, RecvError> {
        if self.has_ended {
            return Ok(Some(None));
        }
        let whole = self.ahead.whole(&self.limits).inspect_err(|_| self.has_ended = true)?;
        Ok(whole.map(Some))
    }

    /// Takes in what came of reading.
    fn filled(&mut self, filled: io::Result<usize>) -> Result<(), RecvError> {
        let error = match filled {
            Ok(0) if !self.ahead.is_partial() => None,
            Ok(0) => Some(RecvError::CutOff),
            Ok(_) => return Ok(()),
            // A receiver of ours that has gone, with bytes that it had not read: slabs that it was to give back.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !self.ahead.is_partial() => None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(RecvError::CutOff),
            Err(error) => {
                let error = RecvError::of_reading(error);
                if !error.ends_the_pipe() {
                    return Err(error);
                }
                Some(error)
            }
        };
        self.has_ended = true;
        self.ahead.forget_slabs();
        error.map_or(Ok(()), Err)
    }
}

/// Each message; after an error that [ends the pipe](RecvError::ends_the_pipe) no more.
impl<T: Message> Stream for Receiver<T> {
    type Item = Result<T, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(context).map(Result::transpose)
    }
}

/// The socket of the pipe: what is written or read there by other means breaks the pipe.
impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let end = Given { socket: &self.socket, kind: HandleKind::PipeReceiver };
        let luggage = self.ahead.luggage(&self.limits).map_err(S::Error::custom)?;
        (end, hash_of::<T>(), self.limits, self.has_ended, luggage).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (TakenReceiver(end), hash, limits, has_ended, luggage) = Deserialize::deserialize(deserializer)?;
        check_type::<T, _>(hash)?;
        let ahead = Ahead::unpacked(luggage).map_err(D::Error::custom)?;
        Ok(Self { ahead, has_ended, ..Self::new(Arc::clone(&end.handle), end.narrow(limits)) })
    }
}
