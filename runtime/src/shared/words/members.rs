//! Who takes part in a region.

use std::num::NonZeroU32;

use super::AtomicU64;
use super::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// How many processes can take part in a region at a time.
pub(crate) const SLOTS: usize = 254;

/// Which process: its id, and of the clock tick that it was started in as much as a word has room for. No other process
/// has both, but for one in sixteen million that get the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pid: u32,
    start: u32,
}

impl Identity {
    const PID: u32 = 22;
    const START: u32 = 24;

    pub(crate) fn new(pid: u32, start: u64) -> Self {
        Self { pid: pid & ((1 << Self::PID) - 1), start: (start & ((1 << Self::START) - 1)) as u32 }
    }

    pub(crate) const fn pid(self) -> u32 {
        self.pid
    }

    const fn bits(self) -> u64 {
        self.pid as u64 | (self.start as u64) << Self::PID
    }

    /// Who has a slot; nobody where it is free.
    #[inline]
    fn from_bits(bits: u64) -> Option<Self> {
        let identity = Self::new((bits & ((1 << Self::PID) - 1)) as u32, bits >> Self::PID);
        (identity.pid != 0).then_some(identity)
    }
}

/// A process that takes part: its slot, and how many have had this slot before it. So that of one that has died is nobody
/// else's, whoever gets its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member(NonZeroU32);

impl Member {
    const SLOT: u32 = 8;
    /// How many bits of a word a member takes.
    pub(crate) const BITS: u32 = Self::SLOT + Self::GENERATION;
    /// How many of these say how many have had the slot before.
    pub(crate) const GENERATION: u32 = 18;

    pub(super) const fn new(slot: usize, generation: u64) -> Option<Self> {
        Self::from_bits((slot as u64 + 1) | (generation << Self::SLOT))
    }

    #[inline]
    pub(crate) const fn slot(self) -> usize {
        (self.0.get() & ((1 << Self::SLOT) - 1)) as usize - 1
    }

    #[inline]
    pub(crate) const fn generation(self) -> u64 {
        (self.0.get() >> Self::SLOT) as u64
    }

    /// Never zero, which is nobody.
    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0.get() as u64
    }

    /// Who it is; `None` for nobody, and for what no process of ours writes.
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Option<Self> {
        let slot = bits & ((1 << Self::SLOT) - 1);
        if slot == 0 || slot > SLOTS as u64 {
            return None;
        }
        match NonZeroU32::new((bits & ((1 << Self::BITS) - 1)) as u32) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }
}

/// The slots of a region: in each the generation (18 bits), and the identity of the process that has it, or zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'a>(pub(crate) &'a [AtomicU64]);

const GENERATION: u32 = u64::BITS - Member::GENERATION;

impl<'a> Members<'a> {
    /// Takes a free slot, if there is one.
    pub(crate) fn join(self, who: Identity) -> Option<Member> {
        let free = |(slot, word): (usize, &AtomicU64)| {
            let before = word.load(Relaxed);
            let member = Member::new(slot, (before >> GENERATION) + 1)?;
            let after = member.generation() << GENERATION | who.bits();
            let is_free = occupant(before).is_none();
            // Acquire: what the one before has left there is seen by the one behind it.
            (is_free && word.compare_exchange(before, after, Acquire, Relaxed).is_ok()).then_some(member)
        };
        self.0.iter().enumerate().find_map(free)
    }

    /// Who a member is, as long as it is one.
    #[inline]
    pub(crate) fn identity(self, member: Member) -> Option<Identity> {
        let word = self.0.get(member.slot())?.load(Acquire);
        (word >> GENERATION == member.generation()).then(|| occupant(word))?
    }

    #[inline]
    pub(crate) fn contains(self, member: Member) -> bool {
        self.identity(member).is_some()
    }

    /// Whether it is one still, behind all that was done before: who frees its slot from now on, and who learns of that, sees it.
    pub(crate) fn confirm(self, member: Member) -> bool {
        let Some(word) = self.0.get(member.slot()) else { return false };
        // An update, so that one of this and `remove` comes first. A load may be done before what stands before it.
        let word = word.fetch_or(0, AcqRel);
        word >> GENERATION == member.generation() && occupant(word).is_some()
    }

    /// Frees the slot of a member that has left, or has died. Gives whether it had it still.
    pub(crate) fn remove(self, member: Member) -> bool {
        let Some(word) = self.0.get(member.slot()) else { return false };
        let before = word.load(Relaxed);
        let is_there = before >> GENERATION == member.generation() && occupant(before).is_some();
        let after = member.generation() << GENERATION;
        // Release: who joins next sees what it has left.
        is_there && word.compare_exchange(before, after, Release, Relaxed).is_ok()
    }

    /// All that take part.
    pub(crate) fn iter(self) -> impl Iterator<Item = (Member, Identity)> + use<'a> {
        let of = |(slot, word): (usize, &AtomicU64)| {
            let word = word.load(Acquire);
            Some((Member::new(slot, word >> GENERATION)?, occupant(word)?))
        };
        self.0.iter().enumerate().filter_map(of)
    }
}

#[inline]
fn occupant(word: u64) -> Option<Identity> {
    Identity::from_bits(word & ((1 << GENERATION) - 1))
}
