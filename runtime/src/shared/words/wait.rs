//! A word that processes sleep by, and are woken.

use super::Ordering::{AcqRel, Acquire};
use super::{AtomicU64, TRIES};

/// Who sleeps until something changes: in the low half a bit for each bell that somebody sleeps beside, in the high half how
/// often they were woken.
///
/// 1. Who waits calls [`sleep`](Self::sleep), and *then* looks whether what it waits for has come. If not, it sleeps until
///    the number of wake-ups is another than `sleep` gave.
/// 2. Who changes something does so, and *then* calls [`wake`](Self::wake), and rings the bells that this gives.
///
/// Both are read-modify-writes of one word, so that one of them comes first: if it is `sleep`, `wake` sees the sleeper; if it
/// is `wake`, the sleeper sees the change. All that sleep are woken, so that none can swallow what was another's.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Wait(AtomicU64);

const EPOCH: u64 = 1 << 32;

impl Wait {
    /// Says that somebody is about to sleep beside a bell; gives the number of wake-ups so far.
    pub(crate) fn sleep(&self, bell: u32) -> u32 {
        (self.0.fetch_or(1 << (bell & 31), AcqRel) >> 32) as u32
    }

    /// Whether somebody sleeps, as far as a look without an update can tell.
    #[inline]
    pub(crate) fn is_slept_by(&self) -> bool {
        self.0.load(Acquire) as u32 != 0
    }

    /// Looks at what was changed before those wake-ups that came before this.
    pub(crate) fn catch_up(&self) {
        self.0.fetch_or(0, AcqRel);
    }

    /// The number of wake-ups so far.
    pub(crate) fn epoch(&self) -> u32 {
        (self.0.load(Acquire) >> 32) as u32
    }

    /// Wakes all; gives the bells to ring, as bits.
    #[inline]
    pub(crate) fn wake(&self) -> u32 {
        let mut word = self.0.load(Acquire);
        for _ in 0..TRIES {
            let awake = if word as u32 == 0 { word } else { (word & !(EPOCH - 1)).wrapping_add(EPOCH) };
            // An update even where nobody sleeps: else this could miss one who does not see the change.
            match self.0.compare_exchange_weak(word, awake, AcqRel, Acquire) {
                Ok(before) => return before as u32,
                Err(other) => word = other,
            }
        }
        // Those that sleep stay entered, and are woken once more than they need.
        self.0.fetch_add(EPOCH, AcqRel) as u32
    }
}
