//! Messages that are to be acknowledged.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::channel::Channel;
use crate::sys;

/// A message that was received, and comes back to the mailbox unless it is [acknowledged](Self::ack): what
/// [`Receiver::recv_ack`](super::Receiver::recv_ack) gives.
///
/// It takes up room until then. When it is dropped, or its process dies, another gets the message; so a message may be worked on
/// more than once, and is never lost.
pub struct Delivery<T> {
    /// Until it is acknowledged.
    message: Option<T>,
    channel: Arc<Channel>,
    slot: usize,
    deliveries: u64,
    forks: u64,
}

impl<T> Delivery<T> {
    pub(super) fn new(message: T, channel: Arc<Channel>, slot: usize) -> Self {
        let deliveries = channel.ring().deliveries(slot);
        Self { message: Some(message), channel, slot, deliveries, forks: sys::forks() }
    }

    /// Says that the message is done with, and gives it.
    #[expect(clippy::missing_panics_doc, reason = "the message is there until this takes it")]
    pub fn ack(mut self) -> T {
        let message = self.message.take().expect("it was not acknowledged yet");
        if self.is_of_this_process() {
            self.channel.done_with(self.slot);
        }
        message
    }

    /// How often it was delivered: 1 for the first time.
    #[must_use]
    pub const fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Whether somebody had it before, and did not acknowledge it: it may be half done.
    #[must_use]
    pub const fn is_redelivered(&self) -> bool {
        self.deliveries > 1
    }

    fn is_of_this_process(&self) -> bool {
        self.forks == sys::forks()
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.message.as_ref().expect("it was not acknowledged yet")
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        // In a fork it is the other process's.
        if self.message.is_some() && self.is_of_this_process() {
            self.channel.give_back(self.slot);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
    }
}
