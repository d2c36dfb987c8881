//! The end of a mailbox that sends.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::body::put_room;
use super::channel::Channel;
use super::end::{self, End, pack_message};
use super::lives::Role;
use super::permit::Permit;
use crate::pipe::{SendError, TrySendError};
use crate::shared::block_on;
use crate::wire::{EncodeError, Message};

/// The end of a [mailbox](super) that sends. A clone, here or in another process, sends to the same one.
///
/// The mailbox ends when its last sender is gone, in whatever process, and however that came; one that stands in a message that
/// nobody has received yet is not.
pub struct Sender<T> {
    end: Arc<End>,
    is: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    pub(super) const fn new(end: Arc<End>) -> Self {
        Self { end, is: PhantomData }
    }

    /// Sends a message; waits while as many are in the mailbox as it has room for.
    ///
    /// Once this is ready the message is in the mailbox, whatever becomes of this process.
    ///
    /// # Errors
    /// The message comes back if it was not sent: the mailbox is closed, or has no receivers any more; it cannot be encoded; it
    /// exceeds a limit; the system has no memory for it.
    ///
    /// # Cancel safety
    /// Safe: if it is dropped before it is ready, nothing was sent; the message is dropped with the future.
    pub async fn send(&self, message: T) -> Result<(), SendError<T>> {
        let bytes = match self.pack(&message) {
            Ok(bytes) => bytes,
            Err(error) => return Err(SendError::Encode(message, error)),
        };
        match self.claim().await {
            Some(slot) => self.put(slot, bytes, message),
            None => Err(SendError::Closed(message)),
        }
    }

    /// Sends a message, blocking this thread until there is room: for code that is not async.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn blocking_send(&self, message: T) -> Result<(), SendError<T>> {
        block_on(self.send(message))
    }

    /// Sends a message, if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Full`](TrySendError::Full) if there is none.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let bytes = match self.pack(&message) {
            Ok(bytes) => bytes,
            Err(error) => return Err(TrySendError::Encode(message, error)),
        };
        match self.try_claim() {
            Some(slot) => Ok(self.put(slot, bytes, message)?),
            None if self.is_closed() => Err(TrySendError::Closed(message)),
            None => Err(TrySendError::Full(message)),
        }
    }

    /// Waits until there is room for a message, and keeps it for one.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the mailbox is closed, or has no receivers any more.
    ///
    /// # Cancel safety
    /// Safe: who is dropped while it waits gives its turn to the next.
    pub async fn reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
        self.claim().await.map(|slot| Permit::new(self, slot)).ok_or(SendError::Closed(()))
    }

    /// Keeps room for a message, if there is some now.
    ///
    /// # Errors
    /// [`TrySendError::Full`] if there is none, or [`TrySendError::Closed`].
    pub fn try_reserve(&self) -> Result<Permit<'_, T>, TrySendError<()>> {
        match self.try_claim() {
            _ if self.is_closed() => Err(TrySendError::Closed(())),
            Some(slot) => Ok(Permit::new(self, slot)),
            None => Err(TrySendError::Full(())),
        }
    }

    async fn claim(&self) -> Option<usize> {
        let channel = self.channel();
        let mut waiting = channel.to_send();
        poll_fn(|context| channel.poll_claim(context, &mut waiting)).await
    }

    fn try_claim(&self) -> Option<usize> {
        let channel = self.channel();
        channel.claim().or_else(|| {
            channel.look_for_lives();
            channel.look_for_deaths();
            channel.claim()
        })
    }

    pub(super) fn pack(&self, message: &T) -> Result<Vec<u8>, EncodeError> {
        pack_message(self.channel(), message)
    }

    /// Puts a message into a slot that was claimed for it, and queues it.
    pub(super) fn put(&self, slot: usize, bytes: Vec<u8>, message: T) -> Result<(), SendError<T>> {
        let written = self.channel().write(slot, &bytes);
        put_room(bytes);
        if let Err(error) = written {
            self.channel().free(slot);
            return Err(SendError::System(message, error));
        }
        if self.channel().publish(slot) { Ok(()) } else { Err(SendError::Closed(message)) }
    }

    /// Waits until everything that was sent is done with: received, or, where it was received to be acknowledged, acknowledged.
    /// Python's `JoinableQueue.join`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn drained(&self) {
        let channel = self.channel();
        let mut waiting = channel.until_drained();
        poll_fn(|context| channel.poll_drained(context, &mut waiting)).await;
    }

    /// Waits until nothing can be sent any more: the mailbox is closed, or its last receiver is gone.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn closed(&self) {
        let channel = self.channel();
        let mut waiting = channel.until_closed();
        poll_fn(|context| channel.poll_closed(context, &mut waiting)).await;
    }

    /// A sender that does not keep the mailbox from its end.
    #[must_use]
    pub fn downgrade(&self) -> WeakSender<T> {
        WeakSender { channel: Arc::clone(self.end.channel()), is: PhantomData }
    }
}

impl<T> Sender<T> {
    pub(super) fn channel(&self) -> &Channel {
        self.end.channel()
    }
}

/// Another sender to the same mailbox.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { end: Arc::clone(&self.end), is: PhantomData }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel().describe(f.debug_struct("Sender"))
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.end.serialize::<T, S>(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { end: End::deserialize::<T, D>(Role::Sender, deserializer)?, is: PhantomData })
    }
}

/// A sender that does not keep its mailbox from its end, and cannot send before it is [upgraded](Self::upgrade).
pub struct WeakSender<T> {
    channel: Arc<Channel>,
    is: PhantomData<fn(T)>,
}

impl<T: Message> WeakSender<T> {
    /// A sender; `None` if the mailbox has no other any more, in any process, or is closed.
    #[must_use]
    pub fn upgrade(&self) -> Option<Sender<T>> {
        let life = self.channel.lives.another_sender()?;
        let sender = Sender::new(End::new(Arc::clone(&self.channel), life, Role::Sender));
        (!self.channel.is_closed()).then_some(sender)
    }
}

/// Another one of the same mailbox.
impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self { channel: Arc::clone(&self.channel), is: PhantomData }
    }
}

impl<T> fmt::Debug for WeakSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.describe(f.debug_struct("WeakSender"))
    }
}

impl<T> Serialize for WeakSender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        end::serialize::<T, S>(&self.channel, None, Role::Weak, serializer)
    }
}

impl<'de, T> Deserialize<'de> for WeakSender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (channel, _no_life) = end::deserialize::<T, D>(Role::Weak, deserializer)?;
        Ok(Self { channel, is: PhantomData })
    }
}
