//! The end of a pipe that sends.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};
use tokio::io::Interest;
use tokio::time::sleep;

use super::budget::Budget;
use super::error::{SendError, TrySendError};
use super::frame::{Header, Kind, SlabEntry, StringEntry};
use super::outbox::Outbox;
use super::pace::Pace;
use super::queue::{Broken, Waiting, Written};
use super::travel::{Given, TakenSender, check_type, hash_of};
use super::watch::{Done, FOREVER, Watch, wait_for};
use crate::control::Control;
use crate::wire::beside::HandleKind;
use crate::wire::handles::{CROWDED, MAX_HANDLES};
use crate::wire::{ASIDE, Aside, EncodeError, Limits, MOST, Message, Named, Parcel, Part, Slabs, pack_into};

/// The end of a pipe that sends messages: one half of a [`Pipe`](super::Pipe), or of a [`simplex`](super::simplex()).
///
/// What was accepted is on its way: at once, or, in a run of messages that follow one another within microseconds, with those
/// behind it, within about a millisecond. [`flush`](Self::flush) waits until the kernel has it; what the kernel has reaches the
/// receiver whatever becomes of this process. A child's function that returns is over when all that it had accepted
/// is with the kernel.
///
/// It belongs to one process at a time, and is not `Clone`. As an argument, a result or a field of a message it moves to
/// another process, if everything that it has accepted is with the kernel: else flush it first.
pub struct Sender<T> {
    outbox: Arc<Outbox>,
    socket: Arc<OwnedFd>,
    aside: Aside,
    limits: Limits,
    room: Watch,
    numbers: Watch,
    budget: Budget,
    /// Whether there was room after the last message: nobody else takes any.
    is_roomy: bool,
    pace: Pace,
    /// The room of the last message that was encoded.
    scratch: Vec<u8>,
    takes: PhantomData<fn(T)>,
}

/// Why a message was not accepted.
enum Refusal {
    Full,
    /// Until the receiver has read one of the slabs.
    Busy,
    Closed,
    Encode(EncodeError),
    System(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::System(error) }
    }
}

impl<T> From<(T, Refusal)> for TrySendError<T> {
    fn from((message, refusal): (T, Refusal)) -> Self {
        match refusal {
            Refusal::Full | Refusal::Busy => Self::Full(message),
            Refusal::Closed => Self::Closed(message),
            Refusal::Encode(error) => Self::Encode(message, error),
            Refusal::System(error) => Self::System(message, error),
        }
    }
}

impl<T> Sender<T> {
    pub(super) fn new(socket: Arc<OwnedFd>, limits: Limits) -> Self {
        Self {
            outbox: Arc::new(Outbox::new(Arc::clone(&socket))),
            aside: Aside::new(Slabs::new(Arc::clone(&socket))),
            socket,
            limits,
            room: Watch::new(Interest::WRITABLE),
            numbers: Watch::new(Interest::READABLE),
            budget: Budget::default(),
            is_roomy: true,
            pace: Pace::default(),
            scratch: Vec::new(),
            takes: PhantomData,
        }
    }

    /// The limits on what it sends: those that the pipe was made with.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Sends a message: waits until there is room for it, and hands it over.
    ///
    /// # Errors
    /// The message comes back if it was not sent. One that cannot be encoded or exceeds a limit leaves the pipe as it was. After
    /// any other error the pipe is done: its receiver is gone, or the system does not let it through.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped before it is ready, nothing of the message was sent; it is dropped with the future.
    pub async fn send(&mut self, message: T) -> Result<(), SendError<T>>
    where
        T: Message,
    {
        let sent = poll_fn(|context| self.poll_accepted(context, |sender| sender.accept(&message)));
        sent.await.map_err(|refusal| refusal.with(message))
    }

    /// Sends a message, if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Full`](TrySendError::Full) if there is none.
    pub fn try_send(&mut self, message: T) -> Result<(), TrySendError<T>>
    where
        T: Message,
    {
        let sent = self.try_room().and_then(|()| self.accept(&message));
        sent.map_err(|refusal| (message, refusal).into())
    }

    /// Sends a message, and blocks this thread meanwhile: for a plain process function, or a thread of its own. It needs no
    /// runtime.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn blocking_send(&mut self, message: T) -> Result<(), SendError<T>>
    where
        T: Message,
    {
        let sent = self.blocking_accepted(|sender| sender.accept(&message));
        sent.map_err(|refusal| refusal.with(message))
    }

    /// Waits until everything that was accepted is with the kernel: from there it reaches the receiver, whatever becomes of
    /// this process.
    ///
    /// # Errors
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the receiver is gone.
    ///
    /// # Cancel safety
    /// Safe: what was accepted stays accepted.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_written(context, Outbox::is_empty)).await
    }

    /// Writes as much of what was accepted as the kernel takes now.
    pub(crate) fn write_now(&self) {
        // What is left is for the control thread, and an error is told to whoever sends next.
        let _ = self.outbox.write();
    }

    /// As [`flush`](Self::flush), blocking this thread meanwhile.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn blocking_flush(&mut self) -> io::Result<()> {
        self.blocking_until(Outbox::is_empty)
    }

    /// Sends bytes as they are, without a copy in between where they are many, to be received by
    /// [`recv_bytes`](super::Receiver::recv_bytes).
    ///
    /// # Errors
    /// If the receiver is gone, or the bytes are more than the pipe's limit.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped before it is ready, nothing was sent.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError<()>> {
        let sent = poll_fn(|context| self.poll_accepted(context, |sender| sender.accept_bytes(bytes)));
        sent.await.map_err(|refusal| refusal.with(()))
    }

    /// As [`send_bytes`](Self::send_bytes), blocking this thread meanwhile.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes).
    pub fn blocking_send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.blocking_accepted(|sender| sender.accept_bytes(bytes)).map_err(|refusal| refusal.with(()))
    }

    /// Waits until there is room, and until what is to be accepted finds it.
    fn poll_accepted(
        &mut self,
        context: &mut Context<'_>,
        mut accept: impl FnMut(&mut Self) -> Result<(), Refusal>,
    ) -> Poll<Result<(), Refusal>> {
        ready!(self.budget.poll(context));
        loop {
            if !self.is_roomy {
                ready!(self.poll_room(context))?;
            }
            match accept(self) {
                Err(Refusal::Busy) => ready!(self.poll_slab(context))?,
                accepted => return Poll::Ready(accepted),
            }
        }
    }

    /// Waits until the receiver has read a slab.
    fn poll_slab(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Both watch one descriptor.
        self.room.stop();
        let aside = &mut self.aside;
        let heard = ready!(self.numbers.poll_by(&self.socket, context, || aside.take_back().map(Done::Some)));
        self.numbers.stop();
        Poll::Ready(heard)
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(context, Outbox::has_room)
    }

    /// Waits until enough was written.
    fn poll_written(
        &mut self,
        context: &mut Context<'_>,
        enough: impl Fn(&Outbox) -> Result<bool, Broken>,
    ) -> Poll<io::Result<()>> {
        let outbox = &self.outbox;
        while !enough(outbox)? {
            outbox.wake_when_written(context);
            // At once, in any case: the socket tells of room only when it has much of it, and others may have written.
            self.numbers.stop();
            let written = match outbox.write()? {
                _ if enough(outbox)? => break,
                Written::Full => {
                    ready!(self.room.poll_by(&self.socket, context, || outbox.write_or_block()))?
                }
                written => written,
            };
            if written == Written::Crowded {
                outbox.drain();
                wake_later(context)?;
                return Poll::Pending;
            }
        }
        // Without a watch the receiver wakes nobody here when it makes room.
        self.room.stop();
        Poll::Ready(Ok(()))
    }

    /// Makes room by writing, if that takes no waiting.
    fn try_room(&self) -> Result<(), Refusal> {
        if self.outbox.has_room().map_err(io::Error::from)? {
            return Ok(());
        }
        self.outbox.write().map_err(io::Error::from)?;
        if self.outbox.has_room().map_err(io::Error::from)? { Ok(()) } else { Err(Refusal::Full) }
    }

    fn blocking_until(&self, enough: impl Fn(&Outbox) -> Result<bool, Broken>) -> io::Result<()> {
        while !enough(&self.outbox)? {
            match self.outbox.write()? {
                Written::All => {}
                Written::Full => wait_for(&self.socket, PollFlags::OUT, FOREVER)?,
                Written::Crowded => std::thread::sleep(CROWDED),
            }
        }
        Ok(())
    }

    /// Waits, blocking, until there is room, and until what is to be accepted finds it.
    fn blocking_accepted(
        &mut self,
        mut accept: impl FnMut(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        loop {
            self.blocking_until(Outbox::has_room)?;
            match accept(self) {
                Err(Refusal::Busy) => wait_for(&self.socket, PollFlags::IN, FOREVER)?,
                accepted => return accepted,
            }
        }
    }

    fn accept(&mut self, message: &T) -> Result<(), Refusal>
    where
        T: Message,
    {
        let room = std::mem::take(&mut self.scratch);
        let packed = pack_into(room, Some(&mut self.aside), message, &self.limits);
        let mut parcel = packed.map_err(|error| {
            self.aside.clear();
            Refusal::Encode(error)
        })?;
        // Each byte of the head takes as many descriptors as there may be: with that many it stays long.
        let is_long =
            parcel.bytes.len() >= ASIDE && self.aside.count() < MOST && parcel.handles.len() < MAX_HANDLES;
        if is_long {
            self.aside.put_owned(std::mem::take(&mut parcel.bytes));
        }
        self.check_slabs()?;
        self.take_in(Kind::Message, is_long, parcel)
    }

    fn accept_bytes(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let (size, limit) = (bytes.len() as u64, self.limits.max_message);
        if size > limit {
            return Err(Refusal::Encode(EncodeError::TooLarge { size, limit }));
        }
        let mut room = std::mem::take(&mut self.scratch);
        room.clear();
        let is_long = bytes.len() >= ASIDE;
        if is_long {
            self.aside.put(bytes);
        } else {
            room.extend_from_slice(bytes);
        }
        self.check_slabs()?;
        self.take_in(Kind::Bytes, is_long, Parcel { bytes: room, handles: Vec::new() })
    }

    /// Whether what stands aside has found room.
    fn check_slabs(&mut self) -> Result<(), Refusal> {
        if !self.aside.is_full() {
            return Ok(());
        }
        self.aside.clear();
        Err(Refusal::Busy)
    }

    /// Puts an encoded message behind those that wait, and writes: now, or, in a run, with what follows.
    fn take_in(&mut self, kind: Kind, body_aside: bool, parcel: Parcel) -> Result<(), Refusal> {
        let Parcel { bytes, handles } = parcel;
        if self.outbox.take_was_alone() {
            self.pace.begin_anew();
        }
        let is_run = self.pace.is_run(self.outbox.waits());
        let (size, limit) = (bytes.len() as u64, u64::from(u32::MAX));
        let too_large = |_| Refusal::Encode(EncodeError::TooLarge { size, limit });
        let mut header = Header {
            length: u32::try_from(size).inspect_err(|_| self.aside.clear()).map_err(too_large)?,
            handles: handles.len() as u16,
            kind,
            aside: self.aside.count() as u8,
            body_aside,
        };
        let pushed = if header.aside == 0 {
            self.outbox.push(&[&header.to_bytes(), &bytes], handles, Vec::new(), is_run)
        } else {
            let (parts, slab) = self.aside.take();
            let new = slab.as_ref().filter(|slab| !slab.is_known).map(|slab| Arc::clone(&slab.memory));
            let handles: Vec<_> = new.into_iter().chain(handles).collect();
            header.handles = handles.len() as u16;
            let (table, strings) = table(slab.as_ref(), parts);
            self.outbox.push(&[&header.to_bytes(), &table, &bytes], handles, strings, is_run)
        };
        self.scratch = bytes;
        self.is_roomy = pushed.map_err(io::Error::from)? == Waiting::Little;
        Ok(())
    }
}

/// Wakes a task when what the system is short of may have come back.
fn wake_later(context: &Context<'_>) -> io::Result<()> {
    let waker = context.waker().clone();
    Control::get().map_err(io::Error::other)?.run(async move {
        sleep(CROWDED).await;
        waker.wake();
    });
    Ok(())
}

impl Refusal {
    /// For whoever had waited for room.
    fn with<T>(self, message: T) -> SendError<T> {
        match self {
            Self::Closed => SendError::Closed(message),
            Self::Encode(error) => SendError::Encode(message, error),
            Self::System(error) => SendError::System(message, error),
            Self::Full | Self::Busy => SendError::System(message, io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// What a frame says of the strings aside, and those that go on the stream.
fn table(slab: Option<&Named>, parts: Vec<Part>) -> (Vec<u8>, Vec<Vec<u8>>) {
    let slab = slab.map(|slab| SlabEntry { number: slab.number, is_new: !slab.is_known });
    let mut table = SlabEntry::to_bytes(slab).to_vec();
    let mut strings = Vec::new();
    for part in parts {
        let (length, in_slab) = match part {
            Part::InSlab { length } => (length, true),
            Part::Here(bytes) => {
                let length = bytes.len() as u64;
                strings.push(bytes);
                (length, false)
            }
        };
        table.extend_from_slice(&StringEntry { length, in_slab }.to_bytes());
    }
    (table, strings)
}

/// What was accepted is still written.
impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Where the receiver is gone nobody misses it.
        let _ = self.outbox.write();
        self.outbox.drain();
    }
}

/// `send` of [`SinkExt`](https://docs.rs/futures) flushes after each message, as every sink's; `feed` does not. `close` flushes, and
/// then ends this direction of the pipe, as dropping the sender does.
impl<T: Message> Sink<T> for Sender<T> {
    type Error = SendError<Option<T>>;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_room(context).map_err(|error| Refusal::from(error).with(None))
    }

    fn start_send(mut self: Pin<&mut Self>, message: T) -> Result<(), Self::Error> {
        // There was room: one that finds the slabs busy goes by the socket.
        self.aside.waits_for_slabs(false);
        let accepted = self.accept(&message);
        self.aside.waits_for_slabs(true);
        accepted.map_err(|refusal| refusal.with(Some(message)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let written = self.poll_written(context, Outbox::is_empty);
        written.map_err(|error| Refusal::from(error).with(None))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.as_mut().poll_flush(context))?;
        // The way back stays open: there is nothing to be heard any more, but closing it is the receiver's.
        Poll::Ready(match rustix::net::shutdown(&self.socket, Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(SendError::System(None, error.into())),
        })
    }
}

/// The socket of the pipe: what is written or read there by other means breaks the pipe.
impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if matches!(self.outbox.write(), Ok(Written::Full | Written::Crowded)) {
            return Err(S::Error::custom(
                "the sender of a pipe has messages that wait for room; flush it first",
            ));
        }
        let end = Given { socket: &self.socket, kind: HandleKind::PipeSender };
        (end, hash_of::<T>(), self.limits).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (TakenSender(end), hash, limits) = Deserialize::deserialize(deserializer)?;
        check_type::<T, _>(hash)?;
        Ok(Self::new(Arc::clone(&end.handle), end.narrow(limits)))
    }
}
