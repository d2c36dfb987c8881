//! The words of a semaphore.

use super::Ordering::{AcqRel, Acquire, Relaxed};
use super::{AtomicU64, Member, Members, Tries};

/// The most permits that there can be at a time, free or not.
pub(crate) const MAX_PERMITS: u16 = u16::MAX;

/// How many permits are free, and for each slot how many its process has.
///
/// A permit is either free or in the ledger of one slot, and two words have to change for it to go from one to the other. So
/// that no death can come between them, the first step announces both, in the word itself:
///
/// | bits of the word | say |
/// |---|---|
/// | 0 to 15 | how many are free |
/// | 16 to 31 | how many the transfer moves |
/// | 32 to 39 | from or to which slot |
/// | 40 to 61 | the lower bits of how many transfers that slot had before this one |
/// | 62 | whether it gives them back |
/// | 63 | whether it is pending |
///
/// | bits of a slot's ledger | say |
/// |---|---|
/// | 0 to 15 | how many permits its process has |
/// | 16 to 45 | how many transfers it had |
/// | 46 to 63 | the generation of the member that they are of |
///
/// 1. The word changes: what is free, and a transfer that is pending.
/// 2. The ledger changes, if it has had as many transfers as the pending one says. It counts one more from then on, so
///    that whoever comes late changes nothing.
/// 3. The word changes: the transfer is no longer pending.
///
/// Whoever finds a transfer pending does 2 and 3, for whomever it may be, before anything of its own. So a process that is
/// killed or stopped at any step loses no permit, doubles none, and keeps none but those that it has.
///
/// What a dead member has is given back by whoever looks for it, by [`reclaim`](Self::reclaim): it is in the ledger with a
/// generation that is no member any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permits<'a> {
    pub(crate) word: &'a AtomicU64,
    /// One for each slot.
    pub(crate) ledger: &'a [AtomicU64],
    pub(crate) members: Members<'a>,
}

impl Permits<'_> {
    /// Takes so many for a member, if they are free. If not, or if the one that had its slot before it has died with
    /// some, it is worth to try again after [`reclaim`](Self::reclaim).
    pub(crate) fn try_acquire(self, me: Member, n: u16) -> bool {
        let mut tries = Tries::new();
        while tries.more() {
            let word = self.settled(&mut tries);
            if word.free() < u64::from(n) {
                return false;
            }
            // After the word, where nothing is pending: so nothing is on its way into or out of a ledger that is taken over.
            let entry = self.entry(me.slot());
            if entry.generation() == me.generation() {
                if self.transfer(word, Transfer { slot: me.slot(), n: n.into(), gives: false }, entry) {
                    return true;
                }
            } else if entry.count() > 0 || !self.members.contains(me) {
                return false;
            } else {
                self.replace(me.slot(), entry, entry.owned_by(me));
            }
        }
        false
    }

    /// Gives back so many of a member's. Gives whether it had them.
    pub(crate) fn release(self, me: Member, n: u16) -> bool {
        let mut tries = Tries::new();
        while tries.more() {
            let word = self.settled(&mut tries);
            let entry = self.entry(me.slot());
            if entry.generation() != me.generation() || entry.count() < u64::from(n) {
                return false;
            }
            if self.transfer(word, Transfer { slot: me.slot(), n: n.into(), gives: true }, entry) {
                return true;
            }
        }
        false
    }

    /// Gives back what those that are no members any more had. Gives whether there was any: then those that sleep are to be woken.
    pub(crate) fn reclaim(self) -> bool {
        let mut tries = Tries::new();
        // Each slot is looked at, whatever the others had.
        (0..self.ledger.len()).filter(|slot| self.reclaim_slot(*slot, &mut tries)).count() > 0
    }

    fn reclaim_slot(self, slot: usize, tries: &mut Tries) -> bool {
        while tries.more() {
            let word = self.settled(tries);
            let entry = self.entry(slot);
            if entry.count() == 0 || entry.member(slot).is_none_or(|member| self.members.contains(member)) {
                return false;
            }
            if self.transfer(word, Transfer { slot, n: entry.count(), gives: true }, entry) {
                return true;
            }
        }
        false
    }

    /// Makes so many more. Gives whether there was room for them below [`MAX_PERMITS`].
    pub(crate) fn add(self, n: u16) -> bool {
        let mut tries = Tries::new();
        while tries.more() {
            let word = self.settled(&mut tries);
            // As long as the word is the same, so are all ledgers: what is counted is the number at one time.
            let taken: u64 = (0..self.ledger.len()).map(|slot| self.entry(slot).count()).sum();
            if word.free() + taken + u64::from(n) > u64::from(MAX_PERMITS) {
                return false;
            }
            let after = Word(word.0 + u64::from(n));
            if !word.is_pending() && self.word.compare_exchange(word.0, after.0, AcqRel, Relaxed).is_ok() {
                return true;
            }
        }
        false
    }

    /// How many are free.
    pub(crate) fn free(self) -> u16 {
        Word(self.word.load(Acquire)).free() as u16
    }

    /// Those that have permits, be they members still or not.
    pub(crate) fn holders(self) -> impl Iterator<Item = Member> {
        // One that has died on the way to some has them from now on.
        self.settled(&mut Tries::new());
        let of = move |slot| (slot, self.entry(slot));
        (0..self.ledger.len())
            .map(of)
            .filter(|(_, entry)| entry.count() > 0)
            .filter_map(|(slot, entry)| entry.member(slot))
    }

    /// The word, without a transfer that is pending but for a hostile process's.
    fn settled(self, tries: &mut Tries) -> Word {
        let mut word = Word(self.word.load(Acquire));
        while word.is_pending() && tries.more() {
            self.complete(word);
            word = Word(self.word.load(Acquire));
        }
        word
    }

    /// Makes a transfer. `false` if the word has changed since it was read: then nothing was done.
    ///
    /// The entry must have been read after the word. It cannot have changed if the word has not, which says of which slot
    /// the last transfer was, and which one that was.
    fn transfer(self, word: Word, transfer: Transfer, entry: Entry) -> bool {
        let pending = word.begin(transfer, entry);
        let is_begun =
            !word.is_pending() && self.word.compare_exchange(word.0, pending.0, AcqRel, Relaxed).is_ok();
        if is_begun {
            self.complete(pending);
        }
        is_begun
    }

    /// Completes a transfer that is pending, unless another does.
    fn complete(self, pending: Word) {
        let slot = pending.slot();
        let entry = self.entry(slot);
        // The word once more, after the entry: one that comes late, when the slot has had other transfers, must not take
        // the entry for one that waits for this. One that comes later still finds another entry than it has read.
        if entry.waits_for(pending) && self.word.load(Acquire) == pending.0 {
            self.replace(slot, entry, entry.with(pending));
        }
        // Whoever has failed so far has done so because it is done.
        let done = pending.0 & !PENDING;
        let _another_was_faster = self.word.compare_exchange(pending.0, done, AcqRel, Relaxed);
    }

    fn entry(self, slot: usize) -> Entry {
        Entry(self.ledger.get(slot).map_or(0, |entry| entry.load(Acquire)))
    }

    fn replace(self, slot: usize, before: Entry, after: Entry) {
        if let Some(entry) = self.ledger.get(slot) {
            let _another_was_faster = entry.compare_exchange(before.0, after.0, AcqRel, Relaxed);
        }
    }
}

/// Permits that go from what is free to a slot, or back.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    slot: usize,
    n: u64,
    gives: bool,
}

/// What is free, and the last transfer.
#[derive(Debug, Clone, Copy)]
struct Word(u64);

const COUNT: u64 = MAX_PERMITS as u64;
const MOVED: u32 = 16;
const SLOT: u32 = 32;
const SLOT_BITS: u64 = 0xff;
const NUMBER: u32 = 40;
const NUMBER_BITS: u64 = (1 << 22) - 1;
const GIVES: u64 = 1 << 62;
const PENDING: u64 = 1 << 63;

impl Word {
    const fn free(self) -> u64 {
        self.0 & COUNT
    }

    const fn moved(self) -> u64 {
        self.0 >> MOVED & COUNT
    }

    const fn slot(self) -> usize {
        (self.0 >> SLOT & SLOT_BITS) as usize
    }

    const fn number(self) -> u64 {
        self.0 >> NUMBER & NUMBER_BITS
    }

    const fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }

    /// The word with a transfer that is pending.
    fn begin(self, Transfer { slot, n, gives }: Transfer, entry: Entry) -> Self {
        let (free, gives) =
            if gives { ((self.free() + n).min(COUNT), GIVES) } else { (self.free().saturating_sub(n), 0) };
        let number = entry.transfers() & NUMBER_BITS;
        Self(PENDING | gives | number << NUMBER | (slot as u64) << SLOT | n << MOVED | free)
    }
}

/// What a slot's ledger says.
#[derive(Debug, Clone, Copy)]
struct Entry(u64);

const TRANSFERS: u32 = 16;
const TRANSFERS_BITS: u64 = (1 << 30) - 1;
const GENERATION: u32 = 46;

impl Entry {
    const fn new(generation: u64, transfers: u64, count: u64) -> Self {
        Self(generation << GENERATION | (transfers & TRANSFERS_BITS) << TRANSFERS | count)
    }

    const fn count(self) -> u64 {
        self.0 & COUNT
    }

    const fn transfers(self) -> u64 {
        self.0 >> TRANSFERS & TRANSFERS_BITS
    }

    const fn generation(self) -> u64 {
        self.0 >> GENERATION
    }

    const fn member(self, slot: usize) -> Option<Member> {
        Member::new(slot, self.generation())
    }

    const fn owned_by(self, me: Member) -> Self {
        Self::new(me.generation(), self.transfers(), self.count())
    }

    const fn waits_for(self, pending: Word) -> bool {
        self.transfers() & NUMBER_BITS == pending.number()
    }

    fn with(self, pending: Word) -> Self {
        let moved = pending.moved();
        let gives = pending.0 & GIVES != 0;
        let count =
            if gives { self.count().saturating_sub(moved) } else { (self.count() + moved).min(COUNT) };
        Self::new(self.generation(), self.transfers() + 1, count)
    }
}
