//! The end of a mailbox that sends.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::body::put_room;
use super::carrier::{Carrier, Memory};
use super::channel::{Channel, Put, Unsent};
use super::end::{self, End, pack_message};
use super::lives::Role;
use super::permit::Permit;
use crate::pipe::{SendError, TrySendError};
use crate::shared::block_on;
use crate::wire::{Message, Parcel};

/// The end of a [mailbox](super) that sends. A clone, here or in another process, sends to the same one.
///
/// The mailbox ends when its last sender is gone, in whatever process, and however that came; one that stands in a message that
/// nobody has received yet is not.
pub struct Sender<T, C = Memory> {
    end: Arc<End>,
    is: PhantomData<fn(T, C)>,
}

impl<T: Message, C: Carrier> Sender<T, C> {
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
        let parcel = match pack_message(self.channel(), &message) {
            Ok(parcel) => parcel,
            Err(error) => return Err(SendError::Encode(message, error)),
        };
        let channel = self.channel();
        let mut waiting = channel.to_send();
        let sent = poll_fn(|context| channel.poll_put(context, &mut waiting, &parcel)).await;
        put_room(parcel.bytes);
        sent.map_err(|unsent| match unsent {
            Unsent::Closed => SendError::Closed(message),
            Unsent::System(error) => SendError::System(message, error),
        })
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
        let parcel = match pack_message(self.channel(), &message) {
            Ok(parcel) => parcel,
            Err(error) => return Err(TrySendError::Encode(message, error)),
        };
        let channel = self.channel();
        let put = channel.put(&parcel).or_else(|| {
            channel.look_for_lives();
            channel.look_for_deaths();
            channel.put(&parcel)
        });
        put_room(parcel.bytes);
        match put {
            Some(Put::Done) => Ok(()),
            Some(Put::Closed) => Err(TrySendError::Closed(message)),
            Some(Put::Failed(error)) => Err(TrySendError::System(message, error)),
            Some(Put::Crowded) | None => Err(TrySendError::Full(message)),
        }
    }

    /// Waits until everything that was sent is done with: received, or, where it was received to be acknowledged, acknowledged.
    /// Python's `JoinableQueue.join`. If the last receiver is gone, nothing is done with any more: then this is ready, too, and the
    /// mailbox is [closed](Self::is_closed).
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
    pub fn downgrade(&self) -> WeakSender<T, C> {
        WeakSender { channel: Arc::clone(self.end.channel()), is: PhantomData }
    }
}

/// Room can be kept where memory carries the messages.
impl<T: Message> Sender<T> {
    /// Waits until there is room for a message, and keeps it for one.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the mailbox is closed, or has no receivers any more.
    ///
    /// # Cancel safety
    /// Safe: who is dropped while it waits gives its turn to the next.
    pub async fn reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
        let permit = self.claim().await.map(|slot| Permit::new(self, slot));
        permit.filter(|_| !self.is_closed()).ok_or(SendError::Closed(()))
    }

    /// Keeps room for a message, if there is some now.
    ///
    /// # Errors
    /// [`TrySendError::Full`] if there is none, or [`TrySendError::Closed`].
    pub fn try_reserve(&self) -> Result<Permit<'_, T>, TrySendError<()>> {
        match self.try_claim().map(|slot| Permit::new(self, slot)) {
            _ if self.is_closed() => Err(TrySendError::Closed(())),
            Some(permit) => Ok(permit),
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

    /// Puts a message into a slot that was claimed for it, and queues it.
    pub(super) fn put(&self, slot: usize, message: T, parcel: Parcel) -> Result<(), SendError<T>> {
        let channel = self.channel();
        let put = channel.me().map_or(Put::Closed, |me| channel.put_in(me, slot, &parcel.bytes));
        put_room(parcel.bytes);
        match put {
            Put::Done => Ok(()),
            Put::Failed(error) => Err(SendError::System(message, error)),
            Put::Closed | Put::Crowded => Err(SendError::Closed(message)),
        }
    }
}

impl<T, C> Sender<T, C> {
    pub(super) fn channel(&self) -> &Channel {
        self.end.channel()
    }
}

/// Another sender to the same mailbox.
impl<T, C> Clone for Sender<T, C> {
    fn clone(&self) -> Self {
        Self { end: Arc::clone(&self.end), is: PhantomData }
    }
}

impl<T, C> fmt::Debug for Sender<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel().describe(f.debug_struct("Sender"))
    }
}

impl<T, C: Carrier> Serialize for Sender<T, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.end.serialize::<(T, C), S>(serializer)
    }
}

impl<'de, T, C: Carrier> Deserialize<'de> for Sender<T, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { end: End::deserialize::<(T, C), D>(Role::Sender, deserializer)?, is: PhantomData })
    }
}

/// A sender that does not keep its mailbox from its end, and cannot send before it is [upgraded](Self::upgrade).
pub struct WeakSender<T, C = Memory> {
    channel: Arc<Channel>,
    is: PhantomData<fn(T, C)>,
}

impl<T: Message, C: Carrier> WeakSender<T, C> {
    /// A sender; `None` if the mailbox has no other any more, in any process, or is closed.
    #[must_use]
    pub fn upgrade(&self) -> Option<Sender<T, C>> {
        let life = self.channel.lives.another_sender()?;
        let sender = Sender::new(End::new(Arc::clone(&self.channel), life, Role::Sender));
        (!self.channel.is_closed()).then_some(sender)
    }
}

/// Another one of the same mailbox.
impl<T, C> Clone for WeakSender<T, C> {
    fn clone(&self) -> Self {
        Self { channel: Arc::clone(&self.channel), is: PhantomData }
    }
}

impl<T, C> fmt::Debug for WeakSender<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.describe(f.debug_struct("WeakSender"))
    }
}

impl<T, C: Carrier> Serialize for WeakSender<T, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        end::serialize::<(T, C), S>(&self.channel, None, Role::Weak, serializer)
    }
}

impl<'de, T, C: Carrier> Deserialize<'de> for WeakSender<T, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (channel, _no_life) = end::deserialize::<(T, C), D>(Role::Weak, deserializer)?;
        Ok(Self { channel, is: PhantomData })
    }
}
