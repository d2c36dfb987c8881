//! The words of a mailbox.

use super::Ordering::{AcqRel, Acquire, Relaxed, Release};
use super::{AtomicU64, Member, Members, TRIES, Tries};

/// A queue of slots: which one comes when, and whose each of them is.
///
/// A message is written to a slot that a process has [claimed](Self::claim), and is queued by one step: the next cell is made to
/// name the slot. So there is no cell that somebody has taken and not filled yet, for whom all behind it would wait if it died.
/// Whoever receives takes the slot, and leaves the cell as it is: a cell whose slot is not queued there any more is passed over.
///
/// | bits of a cell | say |
/// |---|---|
/// | 0 | somebody sleeps until it is filled |
/// | 1 | the mailbox is closed: nothing comes here, nor behind it |
/// | 2 to 17 | the slot |
/// | 18 to 63 | the position in the queue; one lap back it is still to be filled |
///
/// | bits of a slot | say |
/// |---|---|
/// | 0 to 2 | its state |
/// | 3 to 28 | whose it is |
/// | 29 to 63 | queued: its position; held or returned: how often it was delivered; sending or sent: which message it is |
///
/// | from | to | by |
/// |---|---|---|
/// | free; or reserved, taken or never queued, by a process that has died | reserved | [`claim`](Self::claim) |
/// | reserved | queued | [`publish`](Self::publish) |
/// | queued, in the first cell | taken, or held | [`take`](Self::take) |
/// | reserved, taken, held | free | [`free`](Self::free) |
/// | held | returned | [`give_back`](Self::give_back) |
/// | returned; or held by a process that has died | taken, or held | [`retake`](Self::retake) |
///
/// Where something else carries the messages, a slot is only the room for one, and the cells are not used:
///
/// | from | to | by |
/// |---|---|---|
/// | reserved | sending | [`begin_to_send`](Self::begin_to_send) |
/// | sending | sent | [`end_to_send`](Self::end_to_send) |
/// | sending, sent | free | [`received`](Self::received) |
/// | sent; or sending, by a process that has died | free | [`clear`](Self::clear), where nothing is on its way |
///
/// There are more cells than slots. So a message that is one lap back was taken, and nobody has to empty its cell.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'a> {
    pub(crate) ends: &'a Ends,
    /// As many as a power of two, and more than slots.
    pub(crate) cells: &'a [AtomicU64],
    pub(crate) slots: &'a [AtomicU64],
}

/// Where to begin to look. They may lie behind what is so, never ahead of it, and whoever finds that moves them on.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Ends {
    head: AtomicU64,
    /// In a cache line of its own: others write it.
    _between: [AtomicU64; 7],
    tail: AtomicU64,
    _behind: [AtomicU64; 7],
}

const SLEPT: u64 = 1;
const CLOSED: u64 = 2;
const SLOT: u32 = 2;
/// The most slots.
pub(crate) const MOST_SLOTS: usize = 1 << 15;
const POSITION: u32 = 18;
const POSITIONS: u64 = (1 << (u64::BITS - POSITION)) - 1;

const STATES: u64 = 7;
const FREE: u64 = 0;
const RESERVED: u64 = 1;
const QUEUED: u64 = 2;
const TAKEN: u64 = 3;
const HELD: u64 = 4;
const RETURNED: u64 = 5;
const SENDING: u64 = 6;
const SENT: u64 = 7;
const OWNER: u32 = 3;
const REST: u32 = OWNER + Member::BITS;
const RESTS: u64 = (1 << (u64::BITS - REST)) - 1;

/// How a message is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// For good: if who has taken it dies, it is lost.
    Final,
    /// Until it is acknowledged: if who has taken it dies, another gets it.
    Held,
}

/// What came of an attempt to take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// From this slot.
    Taken(usize),
    Empty,
    Closed,
}

/// A message that was delivered, and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undone {
    pub(crate) slot: usize,
    /// How often it was delivered.
    pub(crate) deliveries: u64,
    word: u64,
}

/// Nothing can be queued any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IsClosed;

/// The first position that nothing is queued at.
enum Frontier {
    /// What its cell is.
    Open(u64, u64),
    Closed(u64),
}

/// The first message.
enum First {
    Queued {
        position: u64,
        slot: usize,
        word: u64,
    },
    /// This is where the next one comes.
    None(u64),
    Closed(u64),
}

impl<'a> Ring<'a> {
    /// What the cells are at first: those of the lap before the first one.
    pub(crate) fn begin(cells: &[AtomicU64]) {
        for (index, cell) in (0_u64..).zip(cells) {
            cell.store(index.wrapping_sub(cells.len() as u64) << POSITION, Relaxed);
        }
    }

    /// Claims a slot for a process, the first that is free from some place on; `None` if all are in use.
    #[inline]
    pub(crate) fn claim(self, me: Member, members: Members<'_>, from: usize) -> Option<usize> {
        let from = if from < self.slots.len() { from } else { 0 };
        if self.slots.get(from).is_some_and(|word| self.claim_one(from, word, me, members)) {
            return Some(from);
        }
        if self.len() == self.slots.len() {
            // All are queued: there is no need to look at each.
            return None;
        }
        let (before, behind) = self.slots.split_at(from);
        let mut in_turn = (from..).zip(behind).chain((0..).zip(before));
        in_turn.find(|(slot, word)| self.claim_one(*slot, word, me, members)).map(|(slot, _)| slot)
    }

    #[inline]
    fn claim_one(self, slot: usize, at: &AtomicU64, me: Member, members: Members<'_>) -> bool {
        let word = at.load(Relaxed);
        let is_free = word & STATES == FREE || self.is_abandoned(slot, word, members);
        // Acquire: whoever had it before has read what it wanted to.
        is_free && at.compare_exchange(word, me.bits() << OWNER | RESERVED, Acquire, Relaxed).is_ok()
    }

    /// Whether a slot is that of a process which has died, with nothing in it for others.
    fn is_abandoned(self, slot: usize, word: u64, members: Members<'_>) -> bool {
        match word & STATES {
            RESERVED | TAKEN => has_died(word, members),
            // One that died between saying so and doing so.
            QUEUED => has_died(word, members) && !self.is_published(slot, word),
            _ => false,
        }
    }

    /// The same for who does not go on to claim it: since its word was read it may have come to be another's.
    fn is_lost(self, slot: usize, word: u64, members: Members<'_>) -> bool {
        self.is_abandoned(slot, word, members) && self.slots[slot].load(Acquire) == word
    }

    fn is_published(self, slot: usize, word: u64) -> bool {
        let cell = self.cell(word >> REST).load(Acquire);
        // Where it was closed meanwhile, no slot stands: not the first one either.
        cell >> POSITION & RESTS == word >> REST && slot_of(cell) == slot && cell & CLOSED == 0
    }

    /// Queues a slot that this process has claimed; gives whether somebody sleeps until then, and is to be woken.
    ///
    /// # Errors
    /// If the mailbox is closed; the slot stays claimed.
    #[inline]
    pub(crate) fn publish(self, me: Member, slot: usize) -> Result<bool, IsClosed> {
        let mut tries = self.tries();
        while tries.more() {
            let Frontier::Open(position, before) = self.frontier(&mut tries) else { break };
            // Before it is queued: from then on it is another's.
            self.slots[slot].store(position << REST | me.bits() << OWNER | QUEUED, Relaxed);
            // Release: who takes it sees what is in it.
            if self.fill(position, before, position << POSITION | (slot as u64) << SLOT) {
                advance(&self.ends.tail, position);
                return Ok(before & SLEPT != 0);
            }
        }
        // It is as it was, for whoever frees it.
        self.slots[slot].store(me.bits() << OWNER | RESERVED, Relaxed);
        Err(IsClosed)
    }

    /// Has nothing be queued from now on; gives whether somebody sleeps until then, and is to be woken. `None` if it was so already.
    pub(crate) fn close(self) -> Option<bool> {
        let mut tries = self.tries();
        while tries.more() {
            let Frontier::Open(position, before) = self.frontier(&mut tries) else { return None };
            if self.fill(position, before, position << POSITION | CLOSED) {
                return Some(before & SLEPT != 0);
            }
        }
        None
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        matches!(self.frontier(&mut self.tries()), Frontier::Closed(_))
    }

    #[inline]
    fn fill(self, position: u64, before: u64, after: u64) -> bool {
        self.cell(position).compare_exchange(before, after, AcqRel, Relaxed).is_ok()
    }

    /// How often an operation may look at a cell: a hostile process can send it back to the beginning each time.
    #[inline]
    const fn tries(self) -> Tries {
        Tries::along(self.cells.len())
    }

    /// Where the next message comes. Who is led on for ever by a hostile process takes the mailbox for closed.
    #[inline]
    fn frontier(self, tries: &mut Tries) -> Frontier {
        let mut position = self.ends.tail.load(Acquire) & POSITIONS;
        while tries.more() {
            let cell = self.cell(position).load(Acquire);
            match ahead_of(cell, position) {
                None => return Frontier::Open(position, cell),
                Some(0) if cell & CLOSED != 0 => break,
                Some(0) => {
                    advance(&self.ends.tail, position);
                    position = behind(position);
                }
                Some(ahead) => position = (position + ahead) & POSITIONS,
            }
        }
        Frontier::Closed(position)
    }

    /// Takes the first message for a process.
    #[inline]
    pub(crate) fn take(self, me: Member, receipt: Receipt) -> Take {
        let mut tries = self.tries();
        while tries.more() {
            match self.first(&mut tries) {
                First::Queued { position, slot, word } => {
                    // Acquire: what was written to it is there. Release: and is for who takes it again from a dead one.
                    let taken = self.slots[slot].compare_exchange(word, receipt.word(me, 1), AcqRel, Relaxed);
                    if taken.is_ok() {
                        advance(&self.ends.head, position);
                        return Take::Taken(slot);
                    }
                }
                First::None(_) => return Take::Empty,
                First::Closed(_) => return Take::Closed,
            }
        }
        Take::Empty
    }

    /// Whether there is something to take, or nothing will come.
    pub(crate) fn is_to_look(self) -> bool {
        !matches!(self.first(&mut self.tries()), First::None(_))
    }

    #[inline]
    fn first(self, tries: &mut Tries) -> First {
        let mut position = self.ends.head.load(Acquire) & POSITIONS;
        while tries.more() {
            // Acquire: the slot that it names is queued.
            let cell = self.cell(position).load(Acquire);
            match ahead_of(cell, position) {
                None => break,
                Some(0) if cell & CLOSED != 0 => return First::Closed(position),
                Some(0) => {
                    let slot = slot_of(cell);
                    let word = self.slots.get(slot).map_or(FREE, |word| word.load(Acquire));
                    if word & STATES == QUEUED && word >> REST == position & RESTS {
                        return First::Queued { position, slot, word };
                    }
                    advance(&self.ends.head, position);
                    position = behind(position);
                }
                // All that stand a lap before that one were taken.
                Some(ahead) => {
                    position = (position + ahead + 1).wrapping_sub(self.cells.len() as u64) & POSITIONS
                }
            }
        }
        First::None(position)
    }

    /// Has whoever fills the next cell wake those that sleep. Gives `false` if there is something that they need not wait for.
    pub(crate) fn sleep(self) -> bool {
        let mut tries = self.tries();
        while tries.more() {
            let Frontier::Open(position, cell) = self.frontier(&mut tries) else { return false };
            if cell & SLEPT != 0 || self.fill(position, cell, cell | SLEPT) {
                // What was queued before is taken by others, or is there.
                return matches!(self.first(&mut self.tries()), First::None(_));
            }
        }
        true
    }

    /// About how many were queued since the beginning.
    #[inline]
    pub(crate) fn sent(self) -> u64 {
        self.ends.tail.load(Relaxed)
    }

    /// Whether more than one is queued, as far as a look at the ends can tell.
    #[inline]
    pub(crate) fn has_more_than_one(self) -> bool {
        let [head, tail] = [&self.ends.head, &self.ends.tail].map(|end| end.load(Relaxed));
        tail.wrapping_sub(head) & POSITIONS > 1
    }

    /// How many are queued.
    pub(crate) fn len(self) -> usize {
        let (First::Queued { position: head, .. } | First::None(head) | First::Closed(head)) =
            self.first(&mut self.tries());
        let (Frontier::Open(tail, _) | Frontier::Closed(tail)) = self.frontier(&mut self.tries());
        let count = tail.wrapping_sub(head) & POSITIONS;
        usize::try_from(count).map_or(self.slots.len(), |count| count.min(self.slots.len()))
    }

    /// Whether nobody could claim a slot now.
    pub(crate) fn is_full(self, members: Members<'_>) -> bool {
        let is_free = |(slot, word): (usize, u64)| word & STATES == FREE || self.is_lost(slot, word, members);
        !self.words().any(is_free)
    }

    /// Whether there is no message that anybody has still to receive, or to acknowledge.
    pub(crate) fn is_drained(self, members: Members<'_>) -> bool {
        let is_over = |(slot, word): (usize, u64)| {
            matches!(word & STATES, FREE | RESERVED) || self.is_lost(slot, word, members)
        };
        self.words().all(is_over)
    }

    /// Whether a message may come back, or has, so that it is not the end yet: another process holds it, or it was not done. What was
    /// delivered too often comes back to nobody.
    ///
    /// One look at each slot for both, since the one becomes the other.
    pub(crate) fn may_come_back(
        self,
        me: Member,
        members: Members<'_>,
        is_poisoned: impl Fn(u64) -> bool,
    ) -> bool {
        let may_be = |word: u64| match word & STATES {
            HELD if has_died(word, members) => !is_poisoned(word >> REST),
            HELD => owner_of(word) != Some(me),
            RETURNED => !is_poisoned(word >> REST),
            _ => false,
        };
        self.words().any(|(_, word)| may_be(word))
    }

    /// Those that have slots, with or without a message.
    pub(crate) fn owners(self) -> impl Iterator<Item = Member> + use<'a> {
        let has_owner = |word: &u64| matches!(word & STATES, RESERVED | TAKEN | HELD | SENDING);
        self.words().map(|(_, word)| word).filter(has_owner).filter_map(owner_of)
    }

    /// How often the message of a slot that a process holds was delivered.
    pub(crate) fn deliveries(self, slot: usize) -> u64 {
        self.slots[slot].load(Relaxed) >> REST
    }

    /// Frees a slot that a process has.
    #[inline]
    pub(crate) fn free(self, slot: usize) {
        // Release: who claims it finds that its message was read.
        self.slots[slot].store(FREE, Release);
    }

    /// Gives back a message that this process holds: another is to get it.
    pub(crate) fn give_back(self, slot: usize) {
        let word = self.slots[slot].load(Relaxed);
        self.slots[slot].store(word >> REST << REST | RETURNED, Release);
    }

    /// What was delivered and is not done: who held it has given it back, or has died.
    pub(crate) fn undone<'m>(self, members: Members<'m>) -> impl Iterator<Item = Undone> + use<'a, 'm> {
        let of = move |(slot, word): (usize, u64)| {
            let is_undone = match word & STATES {
                RETURNED => true,
                HELD => has_died(word, members),
                _ => false,
            };
            is_undone.then_some(Undone { slot, deliveries: word >> REST, word })
        };
        self.words().filter_map(of)
    }

    /// Takes what was not done; gives whether this process has it now.
    pub(crate) fn retake(self, undone: Undone, me: Member, receipt: Receipt) -> bool {
        let mine = receipt.word(me, undone.deliveries + 1);
        // As when it was first taken.
        self.slots[undone.slot].compare_exchange(undone.word, mine, AcqRel, Relaxed).is_ok()
    }

    /// Says that a message goes out, for which this process has claimed a slot; gives which one it is.
    pub(crate) fn begin_to_send(self, me: Member, slot: usize) -> u64 {
        let stamp = self.ends.head.fetch_add(1, Relaxed) & RESTS;
        self.slots[slot].store(stamp << REST | me.bits() << OWNER | SENDING, Release);
        stamp
    }

    /// Says that it has gone out. It may be received already.
    pub(crate) fn end_to_send(self, me: Member, slot: usize, stamp: u64) {
        let [before, after] = [SENDING, SENT].map(|state| stamp << REST | me.bits() << OWNER | state);
        let _received = self.slots[slot].compare_exchange(before, after, AcqRel, Relaxed);
    }

    /// Frees the slot of a message that came; gives whether it had that still.
    pub(crate) fn received(self, slot: usize, stamp: u64) -> bool {
        let Some(at) = self.slots.get(slot) else { return false };
        let mut word = at.load(Acquire);
        for _ in 0..TRIES {
            if word & STATES < SENDING || word >> REST != stamp {
                return false;
            }
            match at.compare_exchange(word, FREE, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
        false
    }

    /// What is on its way, and nobody will receive if nothing is on its way.
    pub(crate) fn on_the_way<'m>(
        self,
        members: Members<'m>,
    ) -> impl Iterator<Item = (usize, u64)> + use<'a, 'm> {
        let is_out = move |word| word & STATES == SENT || word & STATES == SENDING && has_died(word, members);
        self.words().filter(move |(_, word)| is_out(*word))
    }

    /// Frees a slot of a message that was on its way, and is lost; gives whether it was so still.
    pub(crate) fn clear(self, (slot, word): (usize, u64)) -> bool {
        self.slots[slot].compare_exchange(word, FREE, AcqRel, Relaxed).is_ok()
    }

    /// How many are on their way.
    pub(crate) fn sent_and_not_received(self) -> usize {
        self.words().filter(|(_, word)| word & STATES >= SENDING).count()
    }

    fn words(self) -> impl Iterator<Item = (usize, u64)> + use<'a> {
        self.slots.iter().map(|word| word.load(Acquire)).enumerate()
    }

    #[inline]
    fn cell(self, position: u64) -> &'a AtomicU64 {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }
}

impl Receipt {
    #[inline]
    fn word(self, me: Member, deliveries: u64) -> u64 {
        let (deliveries, state) = match self {
            Self::Final => (0, TAKEN),
            Self::Held => (deliveries, HELD),
        };
        deliveries << REST | me.bits() << OWNER | state
    }
}

/// How far a cell is ahead of a position; `None` if it is to be filled with that.
#[inline]
fn ahead_of(cell: u64, position: u64) -> Option<u64> {
    let ahead = (cell >> POSITION).wrapping_sub(position) & POSITIONS;
    (ahead <= POSITIONS / 2).then_some(ahead)
}

#[inline]
fn behind(position: u64) -> u64 {
    (position + 1) & POSITIONS
}

/// Moves an end on behind a position, unless somebody else has.
#[inline]
fn advance(end: &AtomicU64, position: u64) {
    let _moved = end.compare_exchange(position, behind(position), AcqRel, Relaxed);
}

#[inline]
fn slot_of(cell: u64) -> usize {
    (cell >> SLOT) as usize & (2 * MOST_SLOTS - 1)
}

#[inline]
fn owner_of(word: u64) -> Option<Member> {
    Member::from_bits(word >> OWNER & ((1 << Member::BITS) - 1))
}

#[inline]
fn has_died(word: u64, members: Members<'_>) -> bool {
    owner_of(word).is_some_and(|owner| !members.contains(owner))
}
