//! What a mailbox is like, and where it stands.

use std::io;

use serde::{Deserialize, Serialize};

use super::body::Bodies;
use crate::shared::words::{Ends, MOST_SLOTS};
use crate::wire::Limits;

/// What a mailbox is like, in all processes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) capacity: u32,
    /// The bytes of a message that stand in the region, in a slot.
    pub(super) slot: u32,
    /// The most bytes of a message.
    pub(super) largest: u64,
    /// How often a message is delivered; zero for any number.
    pub(super) deliveries: u32,
    /// Whether the kernel carries the messages.
    pub(super) has_handles: bool,
    pub(super) limits: Limits,
}

/// Where things stand in the object: two words begin a cache line, where it is said, since an object begins one word behind
/// such a beginning.
pub(super) struct Shape {
    pub(super) cell_count: usize,
    pub(super) slots: usize,
    pub(super) bodies: usize,
    pub(super) size: usize,
}

/// What senders look at, and seldom changes: the word that receivers sleep by, that of who waits for the end, and how often a message was
/// given back.
pub(super) const RECEIVERS: usize = 0;
pub(super) const CLOSED: usize = 8;
pub(super) const GIVEN_BACK: usize = 16;
/// At the beginning of a cache line.
pub(super) const ENDS: usize = 56;
/// What receivers change with each message: the word that senders sleep by, and that of who waits until all is done with.
pub(super) const SENDERS: usize = ENDS + size_of::<Ends>();
pub(super) const DRAINED: usize = SENDERS + 8;
pub(super) const CELLS: usize = SENDERS + LINE;
const LINE: usize = 64;

impl Config {
    /// Whether messages may be longer than a slot.
    #[inline]
    pub(super) const fn has_large(&self) -> bool {
        !self.has_handles && self.largest > self.slot as u64
    }

    /// # Errors
    /// If it has no slots, or too many, or more bytes than there can be.
    pub(super) fn shape(&self) -> io::Result<Shape> {
        let capacity = self.capacity as usize;
        if capacity == 0 || capacity > MOST_SLOTS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the capacity of a mailbox is 1 to {MOST_SLOTS}, not {capacity}"),
            ));
        }
        // One more: that which says that it is closed.
        let cell_count = (capacity + 1).next_power_of_two();
        let slots = CELLS + 8 * cell_count;
        let bodies = (slots + 8 * capacity - ENDS).next_multiple_of(LINE) + ENDS;
        let size = Bodies::stride(self.slot as usize)
            .checked_mul(capacity)
            .and_then(|all| all.checked_add(bodies))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Shape { cell_count, slots, bodies, size })
    }
}
