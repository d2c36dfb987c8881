//! The words of those that read under a lock.

use super::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use super::{AtomicU64, Lock, Member, Members, TRIES, fence};

/// Those that read what a lock protects: for each slot how many of its process do.
///
/// | bits of a slot's ledger | say |
/// |---|---|
/// | 0 to 31 | how many readers its process has |
/// | 46 to 63 | the generation of the member that they are of |
///
/// 1. Who reads adds itself to its slot, and *then* looks whether a writer owns the lock. If so, it takes itself back.
/// 2. Who writes acquires the lock, and *then* looks whether any slot has readers. If so, it waits until none has, and no new
///    one comes.
///
/// Between the two steps of each is a fence of the total order, so that at least one sees the other. Readers of a process
/// that has died do not count: their generation is no member any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readers<'a> {
    pub(crate) lock: &'a Lock,
    /// One for each slot.
    pub(crate) ledger: &'a [AtomicU64],
    pub(crate) members: Members<'a>,
}

/// What came of an attempt to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    Reads {
        /// Which buffer was committed last.
        buffer: usize,
        /// An owner died, and nobody has said since that the value is whole.
        owner_died: bool,
    },
    Held {
        /// By whom, as far as it can be read.
        owner: Option<Member>,
        /// The owner may have seen this one, and sleep until it is gone.
        is_awaited: bool,
    },
}

impl Readers<'_> {
    /// Reads, if no live member owns the lock.
    pub(crate) fn try_enter(self, me: Member) -> Entered {
        // Whom a writer keeps out does not delay it: it adds itself only where there was none before.
        let looked = self.lock.look(self.members);
        if let Err(owner) = looked {
            return Entered::Held { owner, is_awaited: false };
        }
        if !self.change(me, |entry| entry.one_more(me)) {
            return Entered::Held { owner: None, is_awaited: false };
        }
        fence(SeqCst);
        match self.lock.look(self.members) {
            Ok((buffer, owner_died)) => Entered::Reads { buffer, owner_died },
            Err(owner) => Entered::Held { owner, is_awaited: self.leave(me) },
        }
    }

    /// Reads no more. Gives whether the owner may sleep until the readers are gone, and is to be woken.
    pub(crate) fn leave(self, me: Member) -> bool {
        let was_there = self.change(me, |entry| entry.one_less(me));
        // The owner sees that this one is gone, or this one sees the owner.
        fence(SeqCst);
        was_there && self.lock.owner().is_some()
    }

    /// Whether nobody reads any more. For the owner, after it has acquired the lock.
    pub(crate) fn are_gone(self) -> bool {
        fence(SeqCst);
        self.iter().next().is_none()
    }

    /// The members that read.
    pub(crate) fn iter(self) -> impl Iterator<Item = Member> {
        // Acquire: what those that are gone have read, they have read before anything is written now.
        let of = move |(slot, entry): (usize, &AtomicU64)| Entry(entry.load(Acquire)).reader(slot);
        self.ledger.iter().enumerate().filter_map(of).filter(move |member| self.members.contains(*member))
    }

    fn change(self, me: Member, to: impl Fn(Entry) -> Option<Entry>) -> bool {
        let Some(word) = self.ledger.get(me.slot()) else { return false };
        let mut before = word.load(Relaxed);
        for _ in 0..TRIES {
            let Some(after) = to(Entry(before)) else { return false };
            // Release: what this one has read, it has read by now.
            match word.compare_exchange_weak(before, after.0, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(other) => before = other,
            }
        }
        false
    }
}

/// What a slot's ledger says.
#[derive(Debug, Clone, Copy)]
struct Entry(u64);

const COUNT: u64 = (1 << 32) - 1;
const GENERATION: u32 = u64::BITS - Member::GENERATION;

impl Entry {
    const fn count(self) -> u64 {
        self.0 & COUNT
    }

    fn is_of(self, me: Member) -> bool {
        self.0 >> GENERATION == me.generation()
    }

    /// Whatever the one that had the slot before has left is gone.
    fn one_more(self, me: Member) -> Option<Self> {
        let count = if self.is_of(me) { self.count() } else { 0 };
        (count < COUNT).then(|| Self(me.generation() << GENERATION | (count + 1)))
    }

    fn one_less(self, me: Member) -> Option<Self> {
        (self.is_of(me) && self.count() > 0).then(|| Self(self.0 - 1))
    }

    fn reader(self, slot: usize) -> Option<Member> {
        if self.count() > 0 { Member::new(slot, self.0 >> GENERATION) } else { None }
    }
}
