//! The word of a barrier.

use super::Ordering::{AcqRel, Acquire, Relaxed};
use super::{AtomicU64, Member, Members, TRIES, Tries, Wait};

/// The round of a barrier: who has arrived, and whether it can still be completed.
///
/// | bits of `word` | say |
/// |---|---|
/// | 0 to 16 | of each of the last rounds, whether it was reset: bit 0 is the one before this |
/// | 17 | whether this round is broken |
/// | 18 to 29 | how many have arrived |
/// | 30 to 63 | which round it is |
///
/// | from | to | by |
/// |---|---|---|
/// | open | open, one more; all of them: full | [`arrive`](Self::arrive) |
/// | full | open, the next round | [`complete`](Self::complete), by the last one |
/// | open or full | broken | [`break_round`](Self::break_round), [`bury`](Self::bury), [`abort`](Self::abort) |
/// | any | open, the next round | [`reset`](Self::reset) |
///
/// A count does not say who is dead. So each slot has a ledger: how often its process arrives in which round, which is written
/// before the count, and is found there when the process has died.
///
/// | bits of a ledger | say |
/// |---|---|
/// | 0 to 11 | how many tasks of the process arrive; zero before the first one |
/// | 12 to 45 | in which round |
/// | 46 to 63 | the generation of the slot |
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Round {
    word: AtomicU64,
    /// Written once.
    pub(crate) parties: AtomicU64,
    pub(crate) wait: Wait,
}

/// The most parties that there is room for.
pub(crate) const MOST_PARTIES: u64 = (1 << ARRIVED_BITS) - 1;

const HISTORY_BITS: u32 = 17;
const HISTORY: u64 = (1 << HISTORY_BITS) - 1;
const BROKEN: u64 = 1 << HISTORY_BITS;
const ARRIVED: u32 = HISTORY_BITS + 1;
const ARRIVED_BITS: u32 = 12;
const ROUND: u32 = ARRIVED + ARRIVED_BITS;
const ROUNDS: u64 = (1 << (u64::BITS - ROUND)) - 1;

/// What came of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It waits for the rest of this round.
    Waits(u64),
    /// It was the last one of this round, and is to complete it.
    Last(u64),
    /// All have arrived, and the last one is about to complete the round: the next one is not open yet.
    Full,
    Broken,
}

#[derive(Clone, Copy)]
struct State(u64);

impl State {
    const fn round(self) -> u64 {
        self.0 >> ROUND
    }

    const fn arrived(self) -> u64 {
        self.0 >> ARRIVED & MOST_PARTIES
    }

    const fn is_broken(self) -> bool {
        self.0 & BROKEN != 0
    }

    /// The beginning of the next round.
    const fn next(self, is_reset: bool) -> u64 {
        self.round().wrapping_add(1) << ROUND | self.0 << 1 & HISTORY | is_reset as u64
    }

    /// Why nobody can arrive.
    fn refusal(self, parties: u64) -> Option<Arrival> {
        if self.is_broken() {
            return Some(Arrival::Broken);
        }
        (self.arrived() >= parties).then_some(Arrival::Full)
    }
}

#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    const GENERATION: u32 = u64::BITS - Member::GENERATION;

    const fn arrivals(self) -> u64 {
        self.0 & MOST_PARTIES
    }

    const fn is_of_round(self, round: u64) -> bool {
        self.0 >> ARRIVED_BITS & ROUNDS == round && self.arrivals() > 0
    }

    const fn is_of(self, me: Member) -> bool {
        self.0 >> Self::GENERATION == me.generation()
    }

    /// With one arrival more. `None` if this is of one that had the slot before: it has died in this round.
    fn one_more(self, me: Member, round: u64) -> Option<Self> {
        let others = match (self.is_of_round(round), self.is_of(me)) {
            (true, true) => self.arrivals().min(MOST_PARTIES - 1),
            (true, false) => return None,
            (false, _) => 0,
        };
        Some(Self(me.generation() << Self::GENERATION | round << ARRIVED_BITS | (others + 1)))
    }
}

impl Round {
    /// How far the word that sleepers wait by stands behind its beginning.
    pub(crate) const WAIT: usize = 16;

    /// Has one more arrive: first in the ledger of its process, so that it is found if that dies; then in the count.
    pub(crate) fn arrive(&self, ledgers: &[AtomicU64], me: Member, parties: u64) -> Arrival {
        let Some(ledger) = ledgers.get(me.slot()) else { return Arrival::Broken };
        let mut tries = Tries::new();
        while tries.more() {
            let entry = Entry(ledger.load(Acquire));
            // Behind the entry: which is of this round, then, or of one before.
            let state = State(self.word.load(Acquire));
            if let Some(refusal) = state.refusal(parties) {
                return refusal;
            }
            let Some(more) = entry.one_more(me, state.round()) else {
                self.break_round(state.round());
                return Arrival::Broken;
            };
            if ledger.compare_exchange(entry.0, more.0, AcqRel, Relaxed).is_err() {
                continue;
            }
            if let Some(arrival) = self.count(state.round(), parties, &mut tries) {
                return arrival;
            }
            withdraw(ledger, me, state.round(), &mut tries);
        }
        Arrival::Broken
    }

    /// `None` if the round takes nobody more.
    fn count(&self, round: u64, parties: u64, tries: &mut Tries) -> Option<Arrival> {
        while tries.more() {
            let state = State(self.word.load(Relaxed));
            if state.round() != round || state.refusal(parties).is_some() {
                return None;
            }
            // Release: who is released sees what this one did before. Acquire: the last one hands all of that on.
            let more = state.0 + (1 << ARRIVED);
            if self.word.compare_exchange_weak(state.0, more, AcqRel, Relaxed).is_ok() {
                let is_last = state.arrived() + 1 == parties;
                return Some(if is_last { Arrival::Last(round) } else { Arrival::Waits(round) });
            }
        }
        None
    }

    /// Releases all that wait for a round: `false` if it was broken before. They are to be woken.
    pub(crate) fn complete(&self, round: u64) -> bool {
        self.change(|state| (state.round() == round && !state.is_broken()).then(|| state.next(false)))
    }

    /// Breaks a round, unless it is over, or broken already. Those that wait are to be woken.
    pub(crate) fn break_round(&self, round: u64) -> bool {
        self.change(|state| (state.round() == round && !state.is_broken()).then_some(state.0 | BROKEN))
    }

    /// Breaks whatever round it is. Those that wait are to be woken.
    pub(crate) fn abort(&self) {
        self.word.fetch_or(BROKEN, AcqRel);
    }

    /// Begins another round. Those that wait for this one are to be woken, and learn that it is broken.
    pub(crate) fn reset(&self) {
        self.change(|state| Some(state.next(true)));
    }

    fn change(&self, change: impl Fn(State) -> Option<u64>) -> bool {
        let mut word = self.word.load(Acquire);
        for _ in 0..TRIES {
            let Some(changed) = change(State(word)) else { return false };
            match self.word.compare_exchange_weak(word, changed, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
        false
    }

    /// Breaks the round if one that has arrived is no member any more. Those that wait are to be woken then.
    pub(crate) fn bury(&self, ledgers: &[AtomicU64], members: Members<'_>) -> bool {
        let Some(round) = self.open_round() else { return false };
        parties_of(ledgers, round).any(|party| !members.contains(party)) && self.break_round(round)
    }

    /// The processes that have arrived in this round; none if it is broken.
    pub(crate) fn arrived(&self, ledgers: &[AtomicU64]) -> impl Iterator<Item = Member> {
        self.open_round().into_iter().flat_map(|round| parties_of(ledgers, round))
    }

    fn open_round(&self) -> Option<u64> {
        let state = State(self.word.load(Acquire));
        (!state.is_broken()).then_some(state.round())
    }

    /// What became of a round in which one has arrived: whether it was completed. `None` as long as it is open.
    ///
    /// Of one that is longer ago than the history goes back, it says that it was: nearly all are.
    pub(crate) fn outcome(&self, round: u64) -> Option<bool> {
        // Acquire: what all of them did before they arrived is there.
        let state = State(self.word.load(Acquire));
        match state.round().wrapping_sub(round) & ROUNDS {
            0 => state.is_broken().then_some(false),
            ago => Some(ago > HISTORY_BITS.into() || state.0 & 1 << (ago - 1) == 0),
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.open_round().is_none()
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u64 {
        let state = State(self.word.load(Acquire));
        if state.is_broken() { 0 } else { state.arrived() }
    }
}

fn parties_of(ledgers: &[AtomicU64], round: u64) -> impl Iterator<Item = Member> {
    ledgers.iter().enumerate().filter_map(move |(slot, ledger)| {
        let entry = Entry(ledger.load(Acquire));
        entry.is_of_round(round).then(|| Member::new(slot, entry.0 >> Entry::GENERATION))?
    })
}

/// Takes back what was entered for one that was not counted.
fn withdraw(ledger: &AtomicU64, me: Member, round: u64, tries: &mut Tries) {
    let mut entry = Entry(ledger.load(Acquire));
    while tries.more() {
        if !entry.is_of(me) || !entry.is_of_round(round) {
            return;
        }
        match ledger.compare_exchange_weak(entry.0, entry.0 - 1, AcqRel, Acquire) {
            Ok(_) => return,
            Err(other) => entry = Entry(other),
        }
    }
}
