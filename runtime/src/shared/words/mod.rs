//! The words that processes share, and what they do to them: no system call, no wait, no memory but atomics.
//!
//! Each step of these protocols is one atomic operation, after which a process may be killed: whoever comes next finds
//! words that mean something. Loops over what another process can change are bounded by [`TRIES`]: one that changes them
//! all the time gets its way, and delays nobody for ever.
//!
//! The tests of `procession-tests` build this folder again over loom's atomics, with a death at each step.

mod flag;
mod lock;
mod members;
mod notices;
mod permits;
mod readers;
mod ring;
mod round;
mod wait;

use super::atomics::{AtomicU64, Ordering, fence};

pub(crate) use flag::Flag;
pub(crate) use lock::{Attempt, Lock, Owned, Release};
pub(crate) use members::{Identity, Member, Members, SLOTS};
pub(crate) use notices::Notices;
pub(crate) use permits::{MAX_PERMITS, Permits};
pub(crate) use readers::{Entered, Readers};
pub(crate) use ring::{Ends, MOST_SLOTS, Receipt, Ring, Take, Undone};
pub(crate) use round::{Arrival, MOST_PARTIES, Round};
pub(crate) use wait::Wait;

/// How often an operation tries again because others were faster, before it takes them for hostile.
const TRIES: usize = 1000;

/// How often one may still do so, in all the loops of an operation together: one within another would multiply.
#[derive(Debug)]
struct Tries(usize);

impl Tries {
    const fn new() -> Self {
        Self(TRIES)
    }

    /// So many tries beside a walk along so many words, which an operation may have to take once.
    #[inline]
    const fn along(words: usize) -> Self {
        Self(2 * TRIES + words)
    }

    /// Whether it may try once more.
    #[inline]
    const fn more(&mut self) -> bool {
        let is_one_left = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        is_one_left
    }

    /// Another walk along all slots, which takes as long as many tries.
    const fn walk(&mut self) {
        self.0 = self.0.saturating_sub(TRIES / 16);
    }
}
