//! The end of a mailbox that receives.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use tokio_util::sync::ReusableBoxFuture;

use super::carrier::{Carrier, Memory};
use super::channel::{Channel, Found};
use super::delivery::Delivery;
use super::end::End;
use super::error::{RecvError, TryRecvError};
use super::lives::Role;
use crate::shared::block_on;
use crate::shared::words::Receipt;
use crate::wire::Message;

/// The end of a [mailbox](super) that receives. Each message goes to one receiver: a clone, here or in another process, shares the
/// work.
///
/// When the last receiver is gone, in whatever process, and however that came, senders get their messages back; what was
/// queued is lost.
pub struct Receiver<T, C = Memory> {
    end: Arc<End>,
    /// Who polls it as a stream, and waits.
    waits: Option<ReusableBoxFuture<'static, Option<T>>>,
    by: PhantomData<fn() -> C>,
}

impl<T: Message, C: Carrier> Receiver<T, C> {
    pub(super) const fn new(end: Arc<End>) -> Self {
        Self { end, waits: None, by: PhantomData }
    }

    /// Receives the next message; `None` if the mailbox is closed, or its last sender is gone, and everything has been received.
    ///
    /// If this process is killed while it takes a message, that one is lost: see [`recv_ack`](Self::recv_ack). One that cannot be read,
    /// because a hostile process has sent it or its `Deserialize` refuses it, is passed over, logged, and
    /// [counted](Self::unreadable); [`try_recv`](Self::try_recv) says why.
    ///
    /// # Cancel safety
    /// Safe: nothing is received by a future that is dropped before it is ready.
    pub async fn recv(&self) -> Option<T> {
        loop {
            match self.read(self.take(Receipt::Final).await)? {
                Ok(message) => return Some(message),
                Err(error) => self.end.count_unreadable(&error),
            }
        }
    }

    async fn take(&self, receipt: Receipt) -> Found {
        let channel = self.channel();
        let mut waiting = channel.to_receive();
        poll_fn(|context| channel.poll_take(context, &mut waiting, receipt)).await
    }

    /// What was found; `None` at the end.
    fn read(&self, found: Found) -> Option<Result<T, RecvError>> {
        match found {
            Found::InSlot(slot) => Some(self.end.read_and_free(slot)),
            Found::Carried(came) => Some(came.and_then(|parcel| self.end.read_parcel(parcel))),
            Found::End => None,
        }
    }

    /// Receives the next message, blocking this thread meanwhile: for code that is not async.
    pub fn blocking_recv(&self) -> Option<T> {
        block_on(self.recv())
    }

    /// Receives the next message, if there is one now.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty) if not, [`Closed`](TryRecvError::Closed) if none will come, or why it is lost.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let found = self.try_take(Receipt::Final).ok_or(TryRecvError::Empty)?;
        let read = self.read(found).ok_or(TryRecvError::Closed)?;
        Ok(read.inspect_err(|error| self.end.count_unreadable(error))?)
    }

    fn try_take(&self, receipt: Receipt) -> Option<Found> {
        let channel = self.channel();
        channel.take(receipt).or_else(|| {
            channel.look_for_lives();
            channel.look_for_deaths();
            channel.take(receipt)
        })
    }

    /// Receives as many messages as there are, but no more than a limit, and appends them; waits if there are none. Gives how many: zero
    /// if the mailbox is closed and everything has been received, or if the limit is zero.
    ///
    /// # Cancel safety
    /// Safe: nothing is received by a future that is dropped before it is ready.
    pub async fn recv_many(&self, messages: &mut Vec<T>, limit: usize) -> usize {
        if limit == 0 {
            return 0;
        }
        let Some(first) = self.recv().await else { return 0 };
        messages.push(first);
        let mut quiet = Quiet { channel: self.channel(), slots: 0 };
        let rest = std::iter::from_fn(|| match self.channel().take(Receipt::Final)? {
            Found::InSlot(slot) => {
                quiet.count();
                Some(self.end.read_and_free_quietly(slot))
            }
            found => self.read(found),
        });
        let readable = rest
            .take(limit - 1)
            .filter_map(|read| read.inspect_err(|error| self.end.count_unreadable(error)).ok());
        let before = messages.len();
        messages.extend(readable);
        messages.len() - before + 1
    }

    /// Closes the mailbox, and gives what was queued.
    pub fn close_now(&self) -> Vec<T> {
        self.close();
        let next = || match self.try_recv() {
            Ok(message) => Some(Some(message)),
            Err(TryRecvError::Failed(_)) => Some(None),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        };
        // No more can be queued than there is room for, and nothing is any more: who finds more is led on by a hostile process.
        std::iter::from_fn(next).take(self.capacity()).flatten().collect()
    }

    /// How many messages were lost by this receiver and its clones in this process, because they could not be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.end.unreadable.load(Relaxed)
    }
}

/// Messages can come back where memory carries them.
impl<T: Message> Receiver<T> {
    /// Receives the next message to be acknowledged; `None` as in [`recv`](Self::recv).
    ///
    /// Until then it takes up room. If it is dropped, or this process dies, another receiver gets it, with the number of
    /// times that it was [delivered](Delivery::deliveries). A mailbox that is closed ends only when nobody in another process holds
    /// a message that might come back: so acknowledge what you have before you wait for the end.
    ///
    /// # Cancel safety
    /// Safe: nothing is received by a future that is dropped before it is ready.
    pub async fn recv_ack(&self) -> Option<Delivery<T>> {
        loop {
            let Found::InSlot(slot) = self.take(Receipt::Held).await else { return None };
            match self.end.read_held(slot) {
                Ok(message) => return Some(self.deliver(slot, message)),
                Err(error) => self.refuse(slot, &error),
            }
        }
    }

    /// Receives the next message to be acknowledged, if there is one now.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_ack(&self) -> Result<Delivery<T>, TryRecvError> {
        let found = self.try_take(Receipt::Held).ok_or(TryRecvError::Empty)?;
        let Found::InSlot(slot) = found else { return Err(TryRecvError::Closed) };
        match self.end.read_held(slot) {
            Ok(message) => Ok(self.deliver(slot, message)),
            Err(error) => {
                self.refuse(slot, &error);
                Err(error.into())
            }
        }
    }

    fn deliver(&self, slot: usize, message: T) -> Delivery<T> {
        Delivery::new(message, Arc::clone(self.end.channel()), slot)
    }

    fn refuse(&self, slot: usize, error: &RecvError) {
        self.end.count_unreadable(error);
        self.channel().done_with(slot);
    }

    /// Receives a message that was delivered as often as [`Builder::max_deliveries`](super::Builder::max_deliveries) allows, and never
    /// acknowledged; `None` if the mailbox is closed and everything is done with.
    ///
    /// # Cancel safety
    /// Safe: nothing is received by a future that is dropped before it is ready.
    pub async fn poisoned(&self) -> Option<T> {
        let channel = self.channel();
        loop {
            let mut waiting = channel.until_drained();
            let slot = poll_fn(|context| channel.poll_poisoned(context, &mut waiting)).await?;
            match self.end.read_and_free(slot) {
                Ok(message) => return Some(message),
                Err(error) => self.end.count_unreadable(&error),
            }
        }
    }
}

/// Slots that this process frees, of which those that wait are told now and then, and at the end, also if the `Deserialize`
/// of a message panics.
struct Quiet<'a> {
    channel: &'a Channel,
    slots: usize,
}

impl Quiet<'_> {
    /// How many they are told of at once.
    const MOST: usize = 32;

    /// Counts a slot that will be freed.
    fn count(&mut self) {
        if self.slots == Self::MOST {
            self.channel.freed();
            self.slots = 0;
        }
        self.slots += 1;
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if self.slots > 0 {
            self.channel.freed();
        }
    }
}

impl<T, C> Receiver<T, C> {
    pub(super) fn channel(&self) -> &Channel {
        self.end.channel()
    }
}

/// Another receiver of the same mailbox.
impl<T, C> Clone for Receiver<T, C> {
    fn clone(&self) -> Self {
        Self { end: Arc::clone(&self.end), waits: None, by: PhantomData }
    }
}

impl<T, C> fmt::Debug for Receiver<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel().describe(f.debug_struct("Receiver"))
    }
}

impl<T, C: Carrier> Serialize for Receiver<T, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.end.serialize::<(T, C), S>(serializer)
    }
}

impl<'de, T, C: Carrier> Deserialize<'de> for Receiver<T, C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            end: End::deserialize::<(T, C), D>(Role::Receiver, deserializer)?,
            waits: None,
            by: PhantomData,
        })
    }
}

/// The messages, until [`recv`](Receiver::recv) gives `None`.
impl<T: Message, C: Carrier> Stream for Receiver<T, C> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        let end = &this.end;
        let waits = this.waits.get_or_insert_with(|| ReusableBoxFuture::new(wait::<T, C>(Arc::clone(end))));
        waits.poll(context).map(|message| {
            this.waits = None;
            message
        })
    }
}

async fn wait<T: Message, C: Carrier>(end: Arc<End>) -> Option<T> {
    Receiver::<T, C>::new(end).recv().await
}
