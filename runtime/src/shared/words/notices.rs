//! The words of a condition variable.

use super::Ordering::{AcqRel, Acquire, Relaxed};
use super::{AtomicU64, Member, Members, Tries, Wait};

/// Who waits to be notified, and who has been: in a ledger for each slot, so that what a dead process has is found.
///
/// | bits of a ledger | say |
/// |---|---|
/// | 0 to 22 | how many notices the process has, which none of its tasks has taken |
/// | 23 to 45 | how many of its tasks wait, those for whom there is a notice among them |
/// | 46 to 63 | the generation of the slot |
///
/// | step | by |
/// |---|---|
/// | one more waits | [`enter`](Self::enter) |
/// | one more notice, where more wait than have one | [`notify`](Self::notify) |
/// | one less waits, one notice less | [`take`](Self::take); [`leave`](Self::leave), when nobody else of the process can have it |
/// | one less waits | `leave` |
/// | none waits, none is notified | [`inherit`](Self::inherit), for a process that has died |
///
/// A notice that passes from one ledger to another is entered there before it is deleted here. So a process that is killed in between
/// has woken one too many, and never one too few.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Notices {
    /// The slot where the next search begins: behind the one that was notified last.
    next: AtomicU64,
    pub(crate) wait: Wait,
}

const NOTIFIED: u64 = 1;
const BITS: u32 = 23;
const WAITING: u64 = 1 << BITS;
/// The most that can wait in one process.
const MOST: u64 = (1 << BITS) - 1;
const GENERATION: u32 = u64::BITS - Member::GENERATION;

#[derive(Clone, Copy)]
struct Ledger(u64);

impl Ledger {
    const fn empty(me: Member) -> Self {
        Self(me.generation() << GENERATION)
    }

    const fn is_of(self, me: Member) -> bool {
        self.0 >> GENERATION == me.generation()
    }

    const fn is_empty(self) -> bool {
        self.waiting() == 0 && self.notified() == 0
    }

    const fn waiting(self) -> u64 {
        self.0 >> BITS & MOST
    }

    const fn notified(self) -> u64 {
        self.0 & MOST
    }

    const fn unnotified(self) -> u64 {
        self.waiting().saturating_sub(self.notified())
    }
}

impl Notices {
    /// How far the word that sleepers wait by stands behind its beginning.
    pub(crate) const WAIT: usize = 8;

    /// Has one more task of a process wait; gives whether somebody is to be woken, or `None` if there is no room for it.
    pub(crate) fn enter(&self, ledgers: &[AtomicU64], members: Members<'_>, me: Member) -> Option<bool> {
        let word = ledgers.get(me.slot())?;
        let (mut is_passed, mut tries) = (false, Tries::new());
        while tries.more() {
            let mut ledger = Ledger(word.load(Acquire));
            let before = ledger;
            if !ledger.is_of(me) {
                // Of one that had the slot before: what it had goes to others.
                tries.walk();
                is_passed |= self.pass(ledgers, members, ledger.notified(), &mut tries) > 0;
                ledger = Ledger::empty(me);
            }
            if ledger.waiting() == MOST {
                return None;
            }
            // Release: who notifies behind this finds it. It comes before the mutex is unlocked.
            if word.compare_exchange_weak(before.0, ledger.0 + WAITING, AcqRel, Relaxed).is_ok() {
                return Some(is_passed);
            }
        }
        None
    }

    /// How many notices a process has.
    pub(crate) fn notified(&self, ledgers: &[AtomicU64], me: Member) -> u64 {
        let ledger = ledgers.get(me.slot()).map_or(Ledger(0), |word| Ledger(word.load(Acquire)));
        if ledger.is_of(me) { ledger.notified() } else { 0 }
    }

    /// Has a task go with a notice.
    pub(crate) fn take(&self, ledgers: &[AtomicU64], me: Member) {
        change(ledgers, me, |ledger, _| ledger.0 - WAITING - ledger.notified().min(NOTIFIED));
    }

    /// Has a task go that gives up, before which so many of its process wait. If there is a notice for it, somebody else gets
    /// that, if anybody waits. Gives whether somebody is to be woken.
    pub(crate) fn leave(&self, ledgers: &[AtomicU64], members: Members<'_>, me: Member, before: u64) -> bool {
        let mut is_passed = false;
        change(ledgers, me, |ledger, tries| {
            let had_notice = before < ledger.notified();
            if had_notice && ledger.unnotified() == 0 {
                tries.walk();
                is_passed = is_passed || self.pass(ledgers, members, 1, tries) > 0;
                return ledger.0 - WAITING - NOTIFIED;
            }
            // What it had is the next one's of this process.
            is_passed |= had_notice;
            ledger.0 - WAITING
        });
        is_passed
    }

    /// Gives notices to so many of those that wait, or to all if there are fewer; gives to how many. They are to be woken.
    pub(crate) fn notify(&self, ledgers: &[AtomicU64], members: Members<'_>, count: u64) -> u64 {
        self.pass(ledgers, members, count, &mut Tries::new())
    }

    fn pass(&self, ledgers: &[AtomicU64], members: Members<'_>, count: u64, tries: &mut Tries) -> u64 {
        let mut left = count;
        if ledgers.is_empty() || count == 0 {
            return 0;
        }
        let first = (self.next.load(Relaxed) % ledgers.len() as u64) as usize;
        let (ahead, behind) = ledgers.split_at(first);
        let from_first = (first..).zip(behind).chain((0..).zip(ahead));
        for (slot, word) in from_first {
            if left == 0 {
                break;
            }
            let given = give(word, slot, members, left, tries);
            if given > 0 {
                self.next.store(slot as u64 + 1, Relaxed);
                left -= given;
            }
        }
        count - left
    }

    /// Passes on the notices of those that have died; gives whether somebody is to be woken.
    pub(crate) fn inherit(&self, ledgers: &[AtomicU64], members: Members<'_>) -> bool {
        let (mut is_passed, mut tries) = (false, Tries::new());
        for (slot, word) in ledgers.iter().enumerate() {
            let ledger = Ledger(word.load(Acquire));
            if ledger.is_empty() || member_of(ledger, slot).is_some_and(|member| members.contains(member)) {
                continue;
            }
            // Read again, behind the look at the members: see `give`.
            let dead = word.load(Acquire);
            if dead >> GENERATION == ledger.0 >> GENERATION {
                is_passed |= self.pass(ledgers, members, Ledger(dead).notified(), &mut tries) > 0;
                // If it is another by now, somebody else has passed them on, too.
                let _cleared = word.compare_exchange(dead, 0, AcqRel, Relaxed);
            }
        }
        is_passed
    }
}

fn member_of(ledger: Ledger, slot: usize) -> Option<Member> {
    Member::new(slot, ledger.0 >> GENERATION)
}

/// Gives notices to the process of a slot, at most so many as there are tasks of it without; gives how many.
fn give(word: &AtomicU64, slot: usize, members: Members<'_>, most: u64, tries: &mut Tries) -> u64 {
    loop {
        let ledger = Ledger(word.load(Acquire));
        let more = ledger.unnotified().min(most);
        let Some(member) = member_of(ledger, slot).filter(|member| members.contains(*member)) else {
            return 0;
        };
        if more == 0 {
            return 0;
        }
        let after = ledger.0 + more * NOTIFIED;
        // Release: who takes it sees what was done before.
        if word.compare_exchange_weak(ledger.0, after, AcqRel, Relaxed).is_ok() {
            // Who buries it from now on sees this notice, and passes it on. Who has done so before may not.
            if members.confirm(member) {
                return more;
            }
            let _taken_back = word.compare_exchange(after, ledger.0, AcqRel, Relaxed);
            return 0;
        }
        if !tries.more() {
            return 0;
        }
    }
}

/// Changes the ledger of a process, if one of its tasks waits.
fn change(ledgers: &[AtomicU64], me: Member, mut change: impl FnMut(Ledger, &mut Tries) -> u64) {
    let Some(word) = ledgers.get(me.slot()) else { return };
    let mut tries = Tries::new();
    while tries.more() {
        let ledger = Ledger(word.load(Acquire));
        if !ledger.is_of(me) || ledger.waiting() == 0 {
            return;
        }
        if word.compare_exchange_weak(ledger.0, change(ledger, &mut tries), AcqRel, Relaxed).is_ok() {
            return;
        }
    }
}
