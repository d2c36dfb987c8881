//! Bounded mailboxes: many senders and many receivers, in any processes.
//!
//! ```
//! use procession::mailbox::{Receiver, Sender};
//! use procession::{Failure, mailbox, process};
//!
//! /// Each number goes to one of those that run this.
//! #[process]
//! async fn square(numbers: Receiver<u64>, squares: Sender<u64>) -> Result<(), Failure> {
//!     while let Some(n) = numbers.recv().await {
//!         squares.send(n * n).await?;
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (outbox, numbers) = mailbox(8)?;
//! let (squares, inbox) = mailbox(8)?;
//! let one = square(numbers.clone(), squares.clone()).spawn().await?;
//! let other = square(numbers, squares).spawn().await?;
//! for n in 1..=4 {
//!     outbox.send(n).await?;
//! }
//! drop(outbox); // The last sender: both receive `None`.
//! let mut sum = 0;
//! while let Some(square) = inbox.recv().await {
//!     sum += square;
//! }
//! assert_eq!(sum, 30);
//! one.await??;
//! other.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # A mailbox or a pipe
//!
//! A [pipe](crate::pipe()) has one process at each end, carries handles, and tells of a message that it cannot read. Take a mailbox where
//! many send, where many receive and share the work, where a message must not be lost with who has received it, or where it
//! must be fast: a message takes no system call as long as nobody sleeps.
//!
//! # How many
//!
//! As many messages as its capacity: who sends more waits, and so a fast sender cannot fill the memory. Those that somebody has
//! [reserved](Sender::reserve) room for count, and those that somebody has received and not [acknowledged](Delivery::ack). There is no
//! unbounded mailbox: what it would hide is that the receivers are too slow, until the memory is full.
//!
//! # Order
//!
//! What one sender sends comes in its order. Between senders there is none but that of the mailbox, and between receivers none at all. A message
//! that comes back because who had received it has died comes before those that were not received yet.
//!
//! # The end
//!
//! | what happens | senders | receivers |
//! |---|---|---|
//! | [`close`](Sender::close) | get their messages back | get what is queued, then `None` |
//! | [`close_now`](Receiver::close_now) | get their messages back | `None`; whoever has called it has what was queued |
//! | the last sender is dropped, or its process dies | | get what is queued, then `None` |
//! | the last receiver is dropped, or its process dies | get their messages back | |
//!
//! A sender counts wherever it is: in a process, on its way in a message, in a mailbox whose messages have handles. It is the kernel that
//! counts, so that no death leaves the number wrong. [`Sender::downgrade`] makes one that does not count.
//!
//! # When a process dies
//!
//! At any instruction, and with whatever it has: the others go on. What it was sending is in the mailbox, or was never sent; what it was
//! taking out is lost, or still there. By [`recv_ack`](Receiver::recv_ack) nothing is lost: another receives what was not acknowledged, with the number of
//! times that it was delivered, and with [`max_deliveries`](Builder::max_deliveries) a message that kills whoever receives it goes round no more.
//! [`drained`](Sender::drained) waits until all that was sent is done with.
//!
//! A process that is stopped (`SIGSTOP`) is not dead: what it has is its own until it goes on, or is killed.
//!
//! # Long messages, and messages with handles
//!
//! A message has at most 16 MiB, unless the mailbox is made with other [`Limits`]. Up to 1072 bytes stand in memory that all processes have mapped, longer
//! ones in a memory that is written and read by calls of the system. Memory cannot carry handles: a mailbox for messages that have some is made
//! by [`Builder::build_with_handles`], and is another type.
//!
//! # What it takes
//!
//! Memory for each message that there is room for, 1.1 KiB unless the [`Builder`] says otherwise, allocated at once; and seven descriptors in each process that has
//! an end. At most 254 processes have ends of one mailbox at a time.
//!
//! # Whom it trusts
//!
//! As [shared memory](crate::shared#whom-it-trusts): who has an end can write to all of the mailbox. It can make messages wrong, lose them, and end
//! the mailbox; it cannot make another process crash, or wait where waiting cannot be cancelled, but in three cases. What cannot be read is passed
//! over and [counted](Receiver::unreadable).
//!
//! The three cases are those in which a call of the system does something that the kernel locks for all who use the same. A hostile process that
//! has a call of its own copy to or from memory which does not come (`userfaultfd(2)`, a file of a FUSE) keeps the lock, and whoever comes next
//! stands in the middle of a call, where not even a signal reaches it, until the hostile process is killed:
//!
//! | what | keeps | so, where somebody is not trusted |
//! |---|---|---|
//! | messages that are longer than a slot | those who send them, and who receives one of more than 64 KiB | allow none: [`max_message`](Limits::max_message) at most [`slot`](Builder::slot) |
//! | messages with handles | receivers, if it is another receiver | give each receiver a mailbox of its own |
//! | that the last sender or receiver is dropped, or its process ends; [`upgrade`](WeakSender::upgrade) | who does that | end the process that is not trusted before you drop your end |

mod body;
mod carrier;
mod channel;
mod config;
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
pub(crate) use spin::Spin;

use channel::Channel;
use config::Config;
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
    /// unless it is said. Longer ones are written and read by calls of the system, and take memory only while they are there: for
    /// processes that trust each other ([why](self#whom-it-trusts)).
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
    /// Its receivers must trust each other: all read from one socket, and a hostile one can have the others wait where waiting cannot be cancelled
    /// ([how](self#whom-it-trusts)). Who does not trust them gives each a mailbox of its own. Senders wait for nobody there.
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
