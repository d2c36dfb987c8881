//! The word of an event.

use super::Ordering::{AcqRel, Acquire};
use super::{AtomicU64, Wait};

/// Something that has happened, or not; and who sleeps until it has.
///
/// | bits of `word` | say |
/// |---|---|
/// | 0 | whether it is set |
/// | 1 to 63 | how often it was set and cleared again |
///
/// So `word` is another after each change, and never the same again: who has seen it unset, and sees another word, knows that it
/// was set meanwhile, although it may be clear by now.
///
/// | from | to | by |
/// |---|---|---|
/// | unset | set | [`set`](Self::set) |
/// | set | unset, one more time | [`clear`](Self::clear) |
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Flag {
    word: AtomicU64,
    pub(crate) wait: Wait,
}

const SET: u64 = 1;

impl Flag {
    /// How far the word that sleepers wait by stands behind its beginning.
    pub(crate) const WAIT: usize = 8;

    /// Sets it. Those that sleep are to be woken by [`Wait::wake`], also where it was set before: who did so may not have
    /// come to wake them.
    pub(crate) fn set(&self) {
        // Release: who sees it set, sees what was done before. Acquire: who clears and sets it hands on what others did before.
        self.word.fetch_or(SET, AcqRel);
    }

    /// Clears it, if it is set.
    pub(crate) fn clear(&self) {
        let word = self.word.load(Acquire);
        if word & SET != 0 {
            // Where somebody else is faster it was clear for a moment, and this call's turn was right then.
            let _faster = self.word.compare_exchange(word, word.wrapping_add(1), AcqRel, Acquire);
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.word.load(Acquire) & SET != 0
    }

    /// What a wait that begins now is to remember.
    pub(crate) fn now(&self) -> u64 {
        self.word.load(Acquire)
    }

    /// Whether it is set, or was since a wait began.
    pub(crate) fn was_set_since(&self, began: u64) -> bool {
        let word = self.word.load(Acquire);
        began & SET != 0 || word != began
    }
}
