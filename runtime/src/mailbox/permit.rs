//! Room for one message.

use std::fmt;
use std::marker::PhantomData;

use super::end::pack_message;
use super::sender::Sender;
use crate::pipe::SendError;
use crate::sys;
use crate::wire::Message;

/// Room for one message in a mailbox, as long as this lives: what [`Sender::reserve`] gives.
#[must_use = "the room is given up when this is dropped"]
pub struct Permit<'a, T: Message> {
    sender: &'a Sender<T>,
    slot: usize,
    forks: u64,
    is: PhantomData<fn(T)>,
}

impl<'a, T: Message> Permit<'a, T> {
    pub(super) fn new(sender: &'a Sender<T>, slot: usize) -> Self {
        Self { sender, slot, forks: sys::forks(), is: PhantomData }
    }

    /// Sends a message in this room, without waiting.
    ///
    /// # Errors
    /// The message comes back if it was not sent: the mailbox was closed meanwhile, it cannot be encoded, it exceeds a limit, or
    /// the system has no memory for it.
    pub fn send(mut self, message: T) -> Result<(), SendError<T>> {
        let parcel = match pack_message(self.sender.channel(), &message) {
            Ok(parcel) => parcel,
            Err(error) => return Err(SendError::Encode(message, error)),
        };
        if !self.is_of_this_process() {
            return Err(SendError::Closed(message));
        }
        let slot = self.slot;
        // What becomes of the slot from here on is said there.
        self.forks = 0;
        self.sender.put(slot, message, parcel)
    }

    fn is_of_this_process(&self) -> bool {
        self.forks == sys::forks()
    }
}

impl<T: Message> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        // In a fork the slot is the other process's.
        if self.is_of_this_process() {
            self.sender.channel().free(self.slot);
        }
    }
}

impl<T: Message> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
