//! The bounds on a message.

use serde::{Deserialize, Serialize};

use super::EncodeError;

/// How much larger a value may be in memory than encoded. A `None` or an empty string has one byte on the wire and up
/// to 24 in memory, so that a smaller factor refuses honest values.
const GROWTH: u64 = 32;

/// How large a message may be, and what reading it may cost.
///
/// The sender checks the size before a byte is written; the receiver checks everything, because what comes
/// from a child is untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub(crate) max_message: u64,
    pub(crate) max_depth: u32,
    pub(crate) max_heap: Option<u64>,
    pub(crate) max_handles: u16,
}

impl Limits {
    /// 16 MiB a message, 128 levels of nesting, 32 times the message in memory (at least 1 MiB), and 64 handles.
    pub const DEFAULT: Self = Self { max_message: 16 << 20, max_depth: 128, max_heap: None, max_handles: 64 };

    /// Sets the most bytes that one encoded message (all arguments, or the result) may have.
    #[must_use]
    pub const fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sets how many containers (structs, enums, sequences, maps, options) may stand inside one another.
    ///
    /// Reading takes stack in proportion: a few hundred bytes a level.
    #[must_use]
    pub const fn max_depth(mut self, levels: u32) -> Self {
        self.max_depth = levels;
        self
    }

    /// Sets the most bytes of memory that reading one message may take, approximately.
    #[must_use]
    pub const fn max_heap(mut self, bytes: u64) -> Self {
        self.max_heap = Some(bytes);
        self
    }

    /// Sets how many handles may stand beside one message; 65 534 at most.
    #[must_use]
    pub const fn max_handles(mut self, handles: u16) -> Self {
        self.max_handles = if handles < u16::MAX { handles } else { u16::MAX - 1 };
        self
    }

    /// These, within others.
    pub(crate) fn within(self, other: &Self) -> Self {
        Self {
            max_message: self.max_message.min(other.max_message),
            max_depth: self.max_depth.min(other.max_depth),
            // Without a number it is in proportion to the message, and no number is narrower for each.
            max_heap: other.max_heap.map(|heap| self.max_heap.map_or(heap, |own| own.min(heap))),
            max_handles: self.max_handles.min(other.max_handles),
        }
    }

    /// # Errors
    /// If a message may not have so many handles.
    #[inline]
    pub(crate) fn check_handles(&self, count: usize) -> Result<(), EncodeError> {
        let limit = self.max_handles;
        if count > usize::from(limit) { Err(EncodeError::TooManyHandles { count, limit }) } else { Ok(()) }
    }

    /// The decoded size allowed to a message of `frame` bytes.
    #[inline]
    pub(crate) fn heap_for(&self, frame: u64) -> u64 {
        self.max_heap.unwrap_or_else(|| frame.saturating_mul(GROWTH).max(1 << 20))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
