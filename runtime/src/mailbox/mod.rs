//! Bounded mailboxes: many senders and many receivers, in any processes.

mod body;
mod carrier;
mod channel;
mod delivery;
mod end;
mod error;
mod large;
mod lives;
mod permit;
mod receiver;
mod sender;
mod socket;
mod spin;
mod watch;

use std::io;

use crate::wire::{Limits, Message};

pub use crate::pipe::{SendError, TrySendError};
pub use carrier::{Carrier, Handles, Memory};
pub use delivery::Delivery;
pub use error::{RecvError, TryRecvError};
pub use permit::Permit;
pub use receiver::Receiver;
pub use sender::{Sender, WeakSender};

use channel::{Channel, Config};
use end::End;
use lives::{Lives, Role};

/// Makes a mailbox with room for so many messages. Python's `Queue(maxsize)`; async-channel's `bounded`, across processes.
///
/// # Errors
/// If the capacity is zero or more than 32 768, or the system has no memory or no descriptors for it.
pub fn mailbox<T: Message>(capacity: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    Builder::new(capacity).build()
}

/// Makes a mailbox that is not as most are.
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is made before `build`"]
pub struct Builder {
    capacity: usize,
    slot: usize,
    max_deliveries: u32,
    limits: Limits,
}

/// The bytes of a message that stand in its slot: with its header, seventeen cache lines.
const SLOT: usize = 1072;

impl Builder {
    /// One with room for so many messages.
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, slot: SLOT, max_deliveries: 0, limits: Limits::DEFAULT }
    }

    /// How many bytes of an encoded message stand in the memory that all processes map, for each message that there is room for: 1072,
    /// unless it is said. Longer ones are written and read by calls of the system, and take memory only while they are there.
    pub const fn slot(mut self, bytes: usize) -> Self {
        self.slot = bytes;
        self
    }

    /// How often a message is delivered to be acknowledged. After that [`Receiver::poisoned`] gives it, and nobody else. Any
    /// number of times, unless it is said: one that kills each process that receives it goes round for ever.
    pub const fn max_deliveries(mut self, times: u32) -> Self {
        self.max_deliveries = times;
        self
    }

    /// What a message may be. All processes take part in the same limits.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// If the capacity is zero or more than 32 768, or the system has no memory or no descriptors for it.
    pub fn build<T: Message>(self) -> io::Result<(Sender<T>, Receiver<T>)> {
        self.build_by()
    }

    /// Makes one whose messages can have handles: ends of pipes and mailboxes, files, sockets, locks. The kernel carries them, of which
    /// it has room for about two hundred at a time, whatever the capacity; each takes two calls of the system. They cannot be
    /// acknowledged, and room for them cannot be kept.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with_handles<T: Message>(self) -> io::Result<(Sender<T, Handles>, Receiver<T, Handles>)> {
        Self { slot: 0, ..self }.build_by()
    }

    fn build_by<T: Message, C: Carrier>(self) -> io::Result<(Sender<T, C>, Receiver<T, C>)> {
        let too_large = |_too_large| io::Error::from(io::ErrorKind::InvalidInput);
        let config = Config {
            capacity: u32::try_from(self.capacity).map_err(too_large)?,
            slot: u32::try_from(self.slot).map_err(too_large)?,
            largest: self.limits.max_message,
            deliveries: self.max_deliveries,
            has_handles: C::HAS_HANDLES,
            limits: self.limits,
        };
        let (lives, sender, receiver) = Lives::new()?;
        let (sends, receives) = Channel::pair(config, &lives)?;
        let sender = End::new(sends, sender, Role::Sender);
        let receiver = End::new(receives, receiver, Role::Receiver);
        Ok((Sender::new(sender), Receiver::new(receiver)))
    }
}

/// What senders and receivers have in common.
macro_rules! both_ends {
    ($($end:ident),*) => {$(
        impl<T: Message, C: Carrier> $end<T, C> {
            /// How many messages are queued. Those that somebody has received, or has reserved room for, are not; those that came back
            /// are.
            #[must_use]
            pub fn len(&self) -> usize {
                self.channel().len()
            }

            /// Whether no message is queued.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether there is no room for another: messages, permits, and deliveries that are not acknowledged take it up.
            #[must_use]
            pub fn is_full(&self) -> bool {
                self.channel().is_full()
            }

            /// How many messages it has room for.
            #[must_use]
            pub fn capacity(&self) -> usize {
                self.channel().config.capacity as usize
            }

            /// Has nothing be sent any more, by anybody. What is queued can still be received; then all receivers are told that it
            /// was the end. Gives whether it was open.
            pub fn close(&self) -> bool {
                let was_open = !self.channel().is_closed();
                self.channel().close();
                was_open
            }

            /// Whether nothing can be sent any more.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.channel().is_closed()
            }
        }
    )*};
}

both_ends!(Sender, Receiver);
