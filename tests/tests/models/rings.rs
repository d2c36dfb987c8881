//! The queue of a mailbox: nothing is lost but what a dead one had in its hands, nothing comes twice, and nobody sleeps beside
//! a message, beside room for one, or beside the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use crate::atomics::{AtomicU64, Fault, Ordering};
use crate::words::{Ends, Member, Members, Receipt, Ring, Take, Wait};
use crate::world::{Bounds, Process, World, join};
use Part::{Closes, Drains, GivesBack, Receives, Sends};
use Receipt::{Final, Held};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// Who sends wakes first.
    WakesFirst,
    /// Who waits for a message does not leave word in the cell that comes next.
    NoWord,
    /// Who frees a slot wakes those only that it sees to sleep.
    FreesQuietly,
    /// Who waits until all is done with does not look at what was freed before it said so.
    NoCatchUp,
    /// Nobody tells those who sleep of a death.
    NoStir,
    /// Who finds that it was closed looks for what came back before that, and for nothing that may come back.
    EndsEarly,
    /// Slots of those that are alive are claimed.
    TakenFromTheLiving,
    /// A message is queued before it is written.
    WritesLate,
    /// Who closes wakes nobody.
    ClosesQuietly,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Sends so many. The last one that does so closes it.
    Sends(u64),
    /// Receives until it is closed.
    Receives(Receipt),
    /// Receives one that it gives back, and then until it is closed.
    GivesBack,
    Closes,
    /// Waits until everything is done with.
    Drains,
}

impl Part {
    fn receives(self) -> bool {
        matches!(self, Self::Receives(_) | Self::GivesBack)
    }

    fn sends(self) -> u64 {
        if let Self::Sends(count) = self { count } else { 0 }
    }
}

/// What happens, with how many slots.
#[derive(Debug, Clone, Copy)]
struct Plot {
    capacity: usize,
    /// How many messages are queued at the beginning.
    queued: u64,
    parts: &'static [Part],
}

impl Plot {
    /// Whether anybody ever waits for room: what nobody sleeps by is not in the model, which would take many times as long.
    fn waits_for_room(self) -> bool {
        self.queued + self.parts.iter().map(|part| part.sends()).sum::<u64>() > self.capacity as u64
    }

    fn has_senders(self) -> bool {
        self.parts.iter().any(|part| part.sends() > 0)
    }

    fn has_receivers(self) -> bool {
        self.parts.iter().any(|part| part.receives())
    }

    fn waits_for_the_last(self) -> bool {
        self.parts.contains(&Drains)
    }
}

/// Who has queued what is there at the beginning.
const SOMEBODY: u64 = 3;

struct Rings {
    world: World,
    plot: Plot,
    members: Vec<AtomicU64>,
    nobody: Vec<AtomicU64>,
    who: Vec<Member>,
    ends: Ends,
    cells: Vec<AtomicU64>,
    slots: Vec<AtomicU64>,
    bodies: Vec<AtomicU64>,
    receivers: Wait,
    senders: Wait,
    drained: Wait,
    ledger: Mutex<Ledger>,
    mistake: Mistake,
}

/// What is true, whatever processes know of it.
#[derive(Debug, Default)]
struct Ledger {
    /// Those that live, or have not come to their end.
    lives: BTreeSet<usize>,
    /// Whose sending has begun, and of which it was said that they are sent.
    begun: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    /// Those that come no more, unless who was done with them has died before it could say so; and who that was.
    done: BTreeMap<u64, usize>,
    /// The last of each sender that each receiver had.
    last: [[u64; 4]; 4],
    killed: Option<usize>,
}

impl Rings {
    fn new(world: World, plot: Plot, mistake: Mistake) -> Self {
        let words = |count: usize| (0..count).map(|_| AtomicU64::default()).collect::<Vec<_>>();
        let processes = plot.parts.len();
        // One more, for the last look, and one for who has queued what is there.
        let members = words(processes + 2);
        let who = (0..processes).map(|number| join(Members(&members), number)).collect();
        let cells = words((plot.capacity + 1).next_power_of_two());
        Ring::begin(&cells);
        let ledger = Ledger { lives: (0..processes).collect(), ..Ledger::default() };
        let (ends, receivers, senders, drained) = Default::default();
        let new = Self {
            world,
            plot,
            members,
            nobody: words(processes + 2),
            who,
            ends,
            cells,
            slots: words(plot.capacity),
            bodies: words(plot.capacity),
            receivers,
            senders,
            drained,
            ledger: ledger.into(),
            mistake,
        };
        new.begin();
        new
    }

    /// Queues what is there from the beginning; where nobody sends, it is closed then.
    fn begin(&self) {
        let somebody = join(self.members(), 9);
        for message in (1..=self.plot.queued).map(|n| 10 * SOMEBODY + n) {
            let slot = self.claim(somebody).unwrap();
            self.bodies[slot].store(message, Ordering::Relaxed);
            assert!(self.ring().publish(somebody, slot).is_ok());
            self.ledger().begun.insert(message);
            self.ledger().sent.insert(message);
        }
        if !self.plot.has_senders() {
            self.ring().close();
        }
    }

    fn ring(&self) -> Ring<'_> {
        Ring { ends: &self.ends, cells: &self.cells, slots: &self.slots }
    }

    fn members(&self) -> Members<'_> {
        Members(&self.members)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Sleeps by a word until an attempt gives something, as `Waiting` does.
    fn wait<R>(
        &self,
        number: usize,
        wait: &Wait,
        attempt: impl Fn() -> Option<R>,
        is_to_sleep: impl Fn() -> bool,
    ) -> R {
        loop {
            if let Some(done) = attempt() {
                return done;
            }
            let stirs = self.world.stirs(number);
            let epoch = wait.sleep(number as u32);
            if let Some(done) = attempt() {
                return done;
            }
            if is_to_sleep() {
                self.world.sleep(number, wait, epoch, stirs);
            }
        }
    }

    fn claim(&self, me: Member) -> Option<usize> {
        let is_careless = self.mistake == Mistake::TakenFromTheLiving;
        let members = if is_careless { Members(&self.nobody) } else { self.members() };
        self.ring().claim(me, members, 0)
    }

    fn send(&self, number: usize, message: u64) {
        let me = self.who[number];
        let attempt = || self.claim(me).map(Some).or_else(|| self.ring().is_closed().then_some(None));
        let Some(slot) = self.wait(number, &self.senders, attempt, || true) else { return };
        self.ledger().begun.insert(message);
        if self.mistake != Mistake::WritesLate {
            self.bodies[slot].store(message, Ordering::Relaxed);
        }
        if self.mistake == Mistake::WakesFirst {
            self.world.wake(&self.receivers);
        }
        match self.ring().publish(me, slot) {
            Ok(is_slept_by) => {
                // Nobody else has had a step since the last one of it.
                self.ledger().sent.insert(message);
                if self.mistake == Mistake::WritesLate {
                    self.bodies[slot].store(message, Ordering::Relaxed);
                }
                let wakes = self.mistake != Mistake::WakesFirst;
                // As `Channel::put_in`.
                if wakes && (is_slept_by || self.receivers.is_slept_by() && self.ring().has_more_than_one()) {
                    self.world.wake(&self.receivers);
                }
            }
            Err(_closed) => self.free(slot),
        }
    }

    /// Takes what was not done with, or the first message; `Some(None)` is the end.
    fn take(&self, me: Member, receipt: Receipt) -> Option<Option<usize>> {
        for undone in self.ring().undone(self.members()) {
            if self.ring().retake(undone, me, receipt) {
                return Some(Some(undone.slot));
            }
        }
        match self.ring().take(me, receipt) {
            Take::Taken(slot) => Some(Some(slot)),
            Take::Empty => None,
            Take::Closed if self.mistake == Mistake::EndsEarly => Some(None),
            Take::Closed => (!self.ring().may_come_back(me, self.members(), |_| false)).then_some(None),
        }
    }

    fn receive(&self, number: usize, receipt: Receipt) -> Option<usize> {
        let me = self.who[number];
        let is_to_sleep =
            || self.mistake == Mistake::NoWord || self.ring().is_closed() || self.ring().sleep();
        self.wait(number, &self.receivers, || self.take(me, receipt), is_to_sleep)
    }

    /// Reads a message, which may be one that was read before only if that was in vain.
    fn read(&self, number: usize, slot: usize) -> u64 {
        let message = self.bodies[slot].load(Ordering::Relaxed);
        let mut ledger = self.ledger();
        assert!(ledger.begun.contains(&message), "nobody has sent {message}");
        let done_by = ledger.done.get(&message).copied();
        let may_come_back = done_by == ledger.killed && self.plot.parts[0] == Receives(Held);
        assert!(done_by.is_none() || may_come_back, "{message} comes twice");
        let is_plain = ledger.killed.is_none() && !self.plot.parts.contains(&GivesBack);
        let last = &mut ledger.last[number][(message / 10) as usize];
        assert!(!is_plain || message > *last, "{message} comes after {last}");
        *last = message;
        message
    }

    fn free(&self, slot: usize) {
        self.ring().free(slot);
        let is_heard = self.mistake != Mistake::FreesQuietly || self.senders.is_slept_by();
        // Who waits for the last relies on that update, too.
        if is_heard && (self.plot.waits_for_room() || self.plot.waits_for_the_last()) {
            self.world.wake(&self.senders);
        }
        if self.plot.waits_for_the_last() && self.drained.is_slept_by() {
            self.world.wake(&self.drained);
        }
    }

    fn receive_all(&self, number: usize, receipt: Receipt) {
        while let Some(slot) = self.receive(number, receipt) {
            let message = self.read(number, slot);
            self.ledger().done.insert(message, number);
            self.free(slot);
            if receipt == Held {
                self.world.wake(&self.receivers);
            }
        }
    }

    fn give_back_one(&self, number: usize) {
        let Some(slot) = self.receive(number, Held) else { return };
        self.read(number, slot);
        self.ring().give_back(slot);
        self.world.wake(&self.receivers);
    }

    fn is_drained(&self) -> bool {
        self.ring().is_drained(self.members())
    }

    fn drain(&self, number: usize) {
        let sent = self.ledger().sent.clone();
        let is_to_sleep = || {
            if self.mistake != Mistake::NoCatchUp {
                self.senders.catch_up();
            }
            !self.is_drained()
        };
        self.wait(number, &self.drained, || self.is_drained().then_some(()), is_to_sleep);
        let ledger = self.ledger();
        assert!(sent.iter().all(|message| ledger.done.contains_key(message)), "it is not drained");
    }

    fn close(&self) {
        self.ring().close();
        if self.mistake == Mistake::ClosesQuietly {
            return;
        }
        self.world.wake(&self.receivers);
        if self.plot.waits_for_room() {
            self.world.wake(&self.senders);
        }
        if self.plot.waits_for_the_last() {
            self.world.wake(&self.drained);
        }
    }

    /// Has one be no more. As the kernel tells of the last end of a pipe, whoever sees that it was the last one closes it.
    fn leave(&self, number: usize) {
        let mut ledger = self.ledger();
        ledger.lives.remove(&number);
        let is_gone = |is: &dyn Fn(Part) -> bool| {
            let is_of_them = |number: &usize| is(self.plot.parts[*number]);
            (0..self.plot.parts.len()).any(|number| is_of_them(&number))
                && !ledger.lives.iter().any(is_of_them)
        };
        let is_over =
            is_gone(&Part::receives) || self.plot.has_receivers() && is_gone(&|part| part.sends() > 0);
        drop(ledger);
        if is_over {
            self.close();
        }
    }
}

impl Process for Rings {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        match self.plot.parts[number] {
            Sends(count) => {
                (1..=count).for_each(|n| self.send(number, 10 * number as u64 + n));
                self.leave(number);
            }
            // It keeps its end: who leaves wakes all, which would hide that nobody else does.
            Receives(receipt) => self.receive_all(number, receipt),
            GivesBack => self.give_back_one(number),
            Closes => self.close(),
            Drains => self.drain(number),
        }
    }

    fn bury(&self, number: usize) {
        self.ledger().killed = Some(number);
        self.members().remove(self.who[number]);
        if self.mistake != Mistake::NoStir {
            self.world.stir();
        }
        self.leave(number);
    }

    fn audit(&self) {
        let me = join(self.members(), 8);
        if !self.plot.has_receivers() {
            while let Take::Taken(slot) = self.ring().take(me, Final) {
                let message = self.read(0, slot);
                self.ledger().done.insert(message, 0);
                self.ring().free(slot);
            }
        }
        let ledger = self.ledger();
        let killed = ledger.killed.map(|number| self.plot.parts[number]);
        let receivers = self.plot.parts.iter().filter(|part| part.receives()).count();
        if receivers > 0 && receivers == usize::from(killed.is_some_and(Part::receives)) {
            // What is left is lost.
            return;
        }
        let lost = ledger.sent.iter().filter(|message| !ledger.done.contains_key(message)).count();
        let may_be_lost = usize::from(killed == Some(Receives(Final)));
        assert!(lost <= may_be_lost, "lost: {ledger:?}");
        drop(ledger);
        assert!(self.is_drained(), "it is never drained");
        let claims = (0..self.plot.capacity).filter(|_| self.ring().claim(me, self.members(), 0).is_some());
        assert_eq!(claims.count(), self.plot.capacity, "a slot is lost");
    }
}

fn with_deaths(preemptions: usize, plot: Plot, mistake: Mistake) {
    let bounds = Bounds { processes: plot.parts.len(), preemptions };
    bounds.explore_deaths(move |world| Rings::new(world, plot, mistake));
}

fn without_deaths(preemptions: usize, plot: Plot, mistake: Mistake) {
    let bounds = Bounds { processes: plot.parts.len(), preemptions };
    bounds.explore(None, move |world| Rings::new(world, plot, mistake));
}

const fn plot(capacity: usize, queued: u64, parts: &'static [Part]) -> Plot {
    Plot { capacity, queued, parts }
}

const ONE: Plot = plot(1, 0, &[Sends(1), Receives(Final)]);
const TWO: Plot = plot(1, 0, &[Sends(2), Receives(Final)]);
const RECEIVER: Plot = plot(1, 0, &[Receives(Final), Sends(2)]);
const SENDERS: Plot = plot(2, 0, &[Sends(1), Sends(1)]);
const RECEIVERS: Plot = plot(2, 2, &[Receives(Final), Receives(Final)]);
const HOLDERS: Plot = plot(1, 1, &[Receives(Held), Receives(Held)]);
const BACK: Plot = plot(1, 1, &[GivesBack, Receives(Held)]);
const CLOSES: Plot = plot(1, 0, &[Closes, Receives(Final), Sends(1)]);
const CLOSED: Plot = plot(1, 0, &[Sends(1), Closes]);
const DRAINS: Plot = plot(1, 0, &[Drains, Receives(Held), Sends(1)]);
const DRAINED: Plot = plot(1, 1, &[Receives(Held), Receives(Held), Drains]);
const OF_THREE: Plot = plot(2, 0, &[Sends(1), Sends(1), Receives(Final)]);

#[test]
fn of_a_sender_that_dies_all_is_lost_but_what_it_has_sent() {
    with_deaths(1, ONE, Mistake::None);
}

#[test]
fn who_waits_for_room_is_woken() {
    without_deaths(1, TWO, Mistake::None);
    without_deaths(1, RECEIVER, Mistake::None);
}

#[test]
fn who_waits_for_room_is_told_that_nobody_receives_any_more() {
    with_deaths(0, RECEIVER, Mistake::None);
}

#[test]
fn senders_share_the_room() {
    with_deaths(2, SENDERS, Mistake::None);
}

#[test]
fn each_message_is_for_one() {
    with_deaths(1, RECEIVERS, Mistake::None);
}

#[test]
fn what_a_dead_one_held_comes_again() {
    with_deaths(1, HOLDERS, Mistake::None);
}

#[test]
fn what_is_given_back_comes_before_the_end() {
    with_deaths(1, BACK, Mistake::None);
}

#[test]
fn what_was_sent_comes_before_the_end() {
    without_deaths(1, CLOSES, Mistake::None);
    with_deaths(0, CLOSES, Mistake::None);
    with_deaths(3, CLOSED, Mistake::None);
}

#[test]
fn who_waits_for_the_last_is_woken() {
    without_deaths(1, DRAINS, Mistake::None);
    with_deaths(0, DRAINED, Mistake::None);
}

#[test]
fn of_three() {
    with_deaths(0, OF_THREE, Mistake::None);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_wakes_first() {
    without_deaths(1, TWO, Mistake::WakesFirst);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_word() {
    without_deaths(1, TWO, Mistake::NoWord);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_frees_quietly() {
    without_deaths(1, TWO, Mistake::FreesQuietly);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_catch_up() {
    without_deaths(1, DRAINED, Mistake::NoCatchUp);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    with_deaths(1, HOLDERS, Mistake::NoStir);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_closes_quietly() {
    without_deaths(1, CLOSES, Mistake::ClosesQuietly);
}

#[test]
#[should_panic = "lost"]
fn control_ends_early() {
    without_deaths(1, BACK, Mistake::EndsEarly);
}

#[test]
#[should_panic = "nobody has sent"]
fn control_writes_late() {
    without_deaths(1, ONE, Mistake::WritesLate);
}

#[test]
#[should_panic = "lost"]
fn control_taken_from_the_living() {
    without_deaths(2, SENDERS, Mistake::TakenFromTheLiving);
}

#[test]
#[should_panic = "lost"]
fn control_relaxed() {
    Bounds { processes: 2, preemptions: 1 }
        .with_fault(Fault::Relaxed, |world| Rings::new(world, ONE, Mistake::None));
}

#[test]
#[should_panic = "comes twice"]
fn control_torn() {
    Bounds { processes: 2, preemptions: 2 }
        .with_fault(Fault::Torn, |world| Rings::new(world, RECEIVERS, Mistake::None));
}
