//! The bounds on a message.

use serde::{Deserialize, Serialize};

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
}

impl Limits {
    /// 16 MiB a message, 128 levels of nesting, and 32 times the message in memory (at least 1 MiB).
    pub const DEFAULT: Self = Self { max_message: 16 << 20, max_depth: 128, max_heap: None };

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

    /// The decoded size allowed to a message of `frame` bytes.
    pub(crate) fn heap_for(&self, frame: usize) -> u64 {
        self.max_heap.unwrap_or_else(|| (frame as u64).saturating_mul(GROWTH).max(1 << 20))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
