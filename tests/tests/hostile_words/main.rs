//! The words that processes share, beside one that is hostile: whatever it writes, each operation ends after a bounded number
//! of steps, and none panics. Requirement 29.
//!
//! The sources of the words are built once more here, over atomics that change whenever somebody looks.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "libtest captures it, and shows it where the test fails")]

mod atomics;
#[path = "../../../runtime/src/shared/words/mod.rs"]
#[expect(dead_code, unused_imports, reason = "what only the library needs is not looked at")]
mod words;

use atomics::{AtomicU64, Peer, steps_beside};
use words::{
    Arrival, Ends, Flag, Identity, Lock, MAX_PERMITS, MOST_PARTIES, Member, Members, Notices, Permits,
    Readers, Receipt, Release, Ring, Round, SLOTS, Take, Wait,
};

/// The most steps of one operation: some milliseconds. A poll has sixteen.
const MOST_STEPS: u64 = 300_000;

struct Words {
    members: Vec<AtomicU64>,
    ledger: Vec<AtomicU64>,
    permits: AtomicU64,
    lock: Lock,
    flag: Flag,
    round: Round,
    notices: Notices,
    wait: Wait,
    ends: Ends,
    cells: Vec<AtomicU64>,
    slots: Vec<AtomicU64>,
    me: Member,
}

/// How many messages the mailbox has room for, and how many cells it has.
const ROOM: usize = 60;
const CELLS: usize = 64;
/// So many times that where it is to take long.
const LARGER: usize = 8;

impl Words {
    fn new() -> Self {
        Self::larger(1)
    }

    fn larger(times: usize) -> Self {
        let words = || (0..SLOTS).map(|_| AtomicU64::default()).collect::<Vec<_>>();
        let members = words();
        let me =
            (0..3).map(|pid| Members(&members).join(Identity::new(pid + 1, 1)).unwrap()).next_back().unwrap();
        let (permits, lock, flag, round, notices, wait, ends) = Default::default();
        let [cells, slots] =
            [CELLS, ROOM].map(|count| (0..count * times).map(|_| AtomicU64::default()).collect());
        let words = Self {
            members,
            ledger: words(),
            permits,
            lock,
            flag,
            round,
            notices,
            wait,
            ends,
            cells,
            slots,
            me,
        };
        words.fill_mailbox();
        words
    }

    /// Some messages wait, and one was received, and is not done.
    fn fill_mailbox(&self) {
        Ring::begin(&self.cells);
        for slot in 0..5 {
            assert_eq!(self.ring().claim(self.me, self.members(), slot), Some(slot));
            self.ring().publish(self.me, slot).unwrap();
        }
        assert_eq!(self.ring().take(self.me, Receipt::Held), Take::Taken(0));
    }

    /// So many messages come and go.
    fn lap_mailbox(&self, count: usize) {
        for _ in 0..count {
            let slot = self.ring().claim(self.me, self.members(), 7).unwrap();
            self.ring().publish(self.me, slot).unwrap();
            let Take::Taken(slot) = self.ring().take(self.me, Receipt::Final) else { panic!("there is one") };
            self.ring().free(slot);
        }
    }

    fn members(&self) -> Members<'_> {
        Members(&self.members)
    }

    fn readers(&self) -> Readers<'_> {
        Readers { lock: &self.lock, ledger: &self.ledger, members: self.members() }
    }

    fn permits(&self) -> Permits<'_> {
        Permits { word: &self.permits, ledger: &self.ledger, members: self.members() }
    }

    fn ring(&self) -> Ring<'_> {
        Ring { ends: &self.ends, cells: &self.cells, slots: &self.slots }
    }
}

type Operation = (&'static str, fn(&Words));

const HOW: Release = Release { commit: true, recover: true };

/// All that is ever done to the words of a region.
const OPERATIONS: &[Operation] = &[
    ("join", |words| _ = words.members().join(Identity::new(7, 7))),
    ("remove", |words| _ = words.members().remove(words.me)),
    ("confirm", |words| _ = words.members().confirm(words.me)),
    ("members", |words| _ = words.members().iter().count()),
    ("sleep", |words| _ = words.wait.sleep(40)),
    ("wake", |words| _ = words.wait.wake()),
    ("acquire a lock", |words| _ = words.lock.try_acquire(words.me, words.members())),
    ("sleep by a lock", |words| _ = words.lock.sleep(words.members())),
    ("release a lock", |words| _ = words.lock.release(words.me, HOW)),
    ("recover a lock", |words| _ = (words.lock.recover(words.members()), words.lock.owner())),
    ("read", |words| _ = words.readers().try_enter(words.me)),
    ("read no more", |words| _ = words.readers().leave(words.me)),
    ("wait for readers", |words| _ = (words.readers().are_gone(), words.readers().iter().count())),
    ("acquire a permit", |words| _ = words.permits().try_acquire(words.me, 1)),
    ("acquire all permits", |words| _ = words.permits().try_acquire(words.me, MAX_PERMITS)),
    ("release permits", |words| _ = words.permits().release(words.me, 2)),
    ("reclaim permits", |words| _ = words.permits().reclaim()),
    ("add permits", |words| _ = words.permits().add(3)),
    ("holders of permits", |words| _ = (words.permits().holders().count(), words.permits().free())),
    ("set a flag", |words| words.flag.set()),
    ("clear a flag", |words| words.flag.clear()),
    ("wait for a flag", |words| _ = words.flag.was_set_since(words.flag.now())),
    ("arrive", |words| arrive(words, 3)),
    ("arrive alone", |words| arrive(words, 1)),
    ("arrive with many", |words| arrive(words, MOST_PARTIES)),
    ("complete a round", |words| _ = words.round.complete(0)),
    ("break a round", |words| _ = (words.round.break_round(0), words.round.abort())),
    ("reset a round", |words| words.round.reset()),
    ("bury in a round", |words| _ = words.round.bury(&words.ledger, words.members())),
    ("what became of a round", |words| _ = (words.round.outcome(3), words.round.waiting())),
    ("wait to be notified", |words| _ = words.notices.enter(&words.ledger, words.members(), words.me)),
    ("look for a notice", |words| _ = words.notices.notified(&words.ledger, words.me)),
    ("take a notice", |words| words.notices.take(&words.ledger, words.me)),
    ("leave a notice", |words| _ = words.notices.leave(&words.ledger, words.members(), words.me, 0)),
    ("notify one", |words| _ = words.notices.notify(&words.ledger, words.members(), 1)),
    ("notify all", |words| _ = words.notices.notify(&words.ledger, words.members(), u64::MAX)),
    ("inherit notices", |words| _ = words.notices.inherit(&words.ledger, words.members())),
    ("claim a slot", |words| _ = words.ring().claim(words.me, words.members(), 7)),
    ("queue a message", |words| _ = words.ring().publish(words.me, 7)),
    ("take a message", |words| take(words, Receipt::Final)),
    ("hold a message", |words| take(words, Receipt::Held)),
    ("give back a message", |words| words.ring().give_back(0)),
    ("take what was not done", take_undone),
    ("close a mailbox", |words| _ = words.ring().close()),
    ("sleep by a mailbox", |words| _ = (words.ring().is_to_look(), words.ring().sleep())),
    ("look at a mailbox", |words| _ = (words.ring().is_closed(), words.ring().has_more_than_one())),
    ("how many are queued", |words| assert!(words.ring().len() <= words.slots.len())),
    ("whether it is full", |words| _ = words.ring().is_full(words.members())),
    ("whether it is drained", |words| _ = words.ring().is_drained(words.members())),
    ("what may come back", |words| _ = words.ring().may_come_back(words.me, words.members(), |_| true)),
    ("those that have slots", |words| _ = words.ring().owners().count()),
    ("have a message carried", |words| {
        words.ring().end_to_send(words.me, 9, words.ring().begin_to_send(words.me, 9))
    }),
    ("one that was carried", |words| _ = [0, ROOM, usize::MAX].map(|slot| words.ring().received(slot, 3))),
    ("what is on its way", clear),
];

fn arrive(words: &Words, parties: u64) {
    let arrival = words.round.arrive(&words.ledger, words.me, parties);
    if let Arrival::Waits(round) | Arrival::Last(round) = arrival {
        words.round.complete(round);
    }
}

/// Whatever is taken is one of those that there are: its body is to be read.
fn take(words: &Words, receipt: Receipt) {
    if let Take::Taken(slot) = words.ring().take(words.me, receipt) {
        assert!(slot < words.slots.len());
        words.ring().free(slot);
    }
}

fn take_undone(words: &Words) {
    for undone in words.ring().undone(words.members()).take(1) {
        assert!(undone.slot < words.slots.len());
        words.ring().retake(undone, words.me, Receipt::Held);
    }
}

fn clear(words: &Words) {
    _ = words.ring().on_the_way(words.members()).take(1).filter(|lost| words.ring().clear(*lost)).count();
    _ = words.ring().sent_and_not_received();
}

/// Runs all beside one; says which takes most steps, and gives how many.
fn most_steps(name: &str, new: impl Fn() -> Peer) -> u64 {
    let of = |(operation, what): &Operation| {
        let words = Words::new();
        // Where the one before has left it.
        (0..3).map(|_| (steps_beside(new(), || what(&words)), *operation)).max().unwrap()
    };
    let (steps, operation) = OPERATIONS.iter().map(of).max().unwrap();
    if steps > MOST_STEPS / 10 {
        println!("{name}: {steps} steps to {operation}");
    }
    steps
}

/// Numbers without a pattern, the same ones each time.
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Beside one that leaves each word as it finds it once in a while, and else writes what a function makes of it.
fn beside(name: &str, change: impl Fn(u64, u64) -> u64 + Copy + 'static) {
    for often in [1, 2, 3, 8, 500] {
        let mut seed = 0;
        let most = (0..2)
            .map(|_| {
                seed += 1;
                most_steps(name, || {
                    let mut random = Random::new(seed + often);
                    Box::new(move |word| {
                        let number = random.next();
                        if (number >> 32).is_multiple_of(often) { change(word, number) } else { word }
                    })
                })
            })
            .max();
        assert!(most <= Some(MOST_STEPS), "{name}: {most:?} steps");
    }
}

#[test]
fn nothing_is_written() {
    // The control: then nothing takes more than a look at all slots.
    assert!(most_steps("nothing", || Box::new(|word| word)) < 10 * SLOTS as u64);
}

#[test]
fn the_same_everywhere() {
    for bits in
        (0..64).map(|bit| 1 << bit).chain([0, !0, 1 << 63 | 1, 3 << 62 | 1 << 16, 3 << 46 | 1, 1 << 17])
    {
        beside("the same", move |_, _| bits);
        beside("all but that", move |_, _| !bits);
    }
}

#[test]
fn anything() {
    beside("anything", |_, number| number);
    beside("small numbers", |_, number| number >> (number % 64));
    beside("large numbers", |_, number| number << (number % 64));
}

#[test]
fn another_bit() {
    beside("another bit", |word, number| word ^ 1 << (number % 64));
}

/// Whatever was read has changed when it is to be replaced.
#[test]
fn always_another() {
    for bit in 0..64 {
        beside("one more", move |word, _| word.wrapping_add(1 << bit));
        beside("one more of the lower ones", move |word, number| word ^ (number & ((1 << bit) - 1)));
    }
}

/// Permits are always on their way.
#[test]
fn always_pending() {
    beside("pending", |word, number| word ^ number >> 48 << 16 | 1 << 63);
    beside("pending, of all slots", |_, number| 1 << 63 | number >> 1);
    // The ledgers are those of others that are dead, and have some.
    beside("pending, of the dead", |word, number| match word >> 46 {
        2..=4 => word,
        _ => 1 << 63 | 2 << 46 | (number % 255) << 32 | 5 << 16 | 5,
    });
}

/// Ledgers of those that are dead, with something for others.
#[test]
fn always_dead() {
    beside("dead", |word, _| if word & 1 << 46 == 0 { 2 << 46 | 5 << 23 | 5 } else { word });
    beside("dead and another", |_, number| {
        (2 + number % 3) << 46 | (number >> 8 & 7) << 23 | number >> 16 & 7
    });
    beside("waiting", |_, number| 1 << 46 | 7 << 23 | number & 3);
}

/// Whoever looks at the mailbox is sent back to its beginning each time, and finds that what it wants to replace is another.
#[test]
fn always_behind() {
    let is_end = |word: u64| word < (LARGER * CELLS) as u64;
    let is_to_be_filled = |word: u64| word >> 63 != 0;
    let is_queued = |word: u64| word & 7 == 2;
    for (operation, what) in OPERATIONS {
        let words = Words::larger(LARGER);
        words.lap_mailbox(LARGER * CELLS - 20);
        let steps = steps_beside(
            Box::new(move |word| match word {
                end if is_end(end) => 0,
                cell if is_to_be_filled(cell) => cell ^ 1,
                slot if is_queued(slot) => slot ^ 8,
                other => other,
            }),
            || what(&words),
        );
        assert!(steps <= MOST_STEPS, "{steps} steps to {operation}");
    }
}
