//! The lock: one has it at a time, who comes next has what was committed last, and nobody sleeps while it is free.

use std::sync::{Mutex, MutexGuard};

use crate::atomics::{AtomicU64, Fault, Ordering};
use crate::words::{Attempt, Lock, Member, Members, Owned, Release};
use crate::world::{Bounds, Process, World, join};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// Who sleeps does not leave word in the lock.
    NoWord,
    /// Who unlocks wakes first.
    WakesFirst,
    /// Nobody tells those who sleep of a death.
    NoStir,
    /// Who sleeps does not see that it was told to look again after it has looked.
    StirsLate,
    /// A process is buried that has not died.
    BuriedAlive,
    /// What is committed goes where the value was read from.
    OneBuffer,
    /// Who could not unlock the short way takes it for done.
    LeavesItAtThat,
    /// Who has it after a death takes it for free.
    NothingHasHappened,
}

/// How it is locked and unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As if it were free and nobody waited, and only then as it is to be: what a mutex does.
    Short,
    Long,
}

/// Each process locks, adds one, and unlocks.
struct Locks {
    world: World,
    slots: Vec<AtomicU64>,
    /// Who is who, in the order of their numbers.
    who: Vec<Member>,
    lock: Lock,
    buffers: [AtomicU64; 2],
    ledger: Mutex<Ledger>,
    way: Way,
    mistake: Mistake,
}

/// What is true, whatever processes know of it.
#[derive(Debug, Default)]
struct Ledger {
    inside: Option<usize>,
    committed: u64,
    token: u64,
    /// An owner has died, and nobody has said since that the value is whole.
    has_died: bool,
}

/// What an acquisition gives.
struct Held {
    owned: Owned,
    value: u64,
    owner_died: bool,
}

impl Locks {
    fn new(world: World, processes: usize, way: Way, mistake: Mistake) -> Self {
        // One more, for the last look.
        let slots: Vec<_> = (0..=processes).map(|_| AtomicU64::default()).collect();
        let who = (0..processes).map(|number| join(Members(&slots), number)).collect();
        let (lock, buffers, ledger) = Default::default();
        Self { world, slots, who, lock, buffers, ledger, way, mistake }
    }

    fn members(&self) -> Members<'_> {
        Members(&self.slots)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn attempt(&self, number: usize, me: Member) -> Option<Held> {
        let Attempt::Acquired { owned, token, owner_died } = self.lock.try_acquire(me, self.members()) else {
            return None;
        };
        Some(self.acquired(number, owned, token, owner_died))
    }

    fn attempt_if_free(&self, number: usize, me: Member) -> Option<Held> {
        let (owned, token) = self.lock.try_acquire_free(me)?;
        Some(self.acquired(number, owned, token, false))
    }

    fn acquired(&self, number: usize, owned: Owned, token: u64, owner_died: bool) -> Held {
        let owner_died = owner_died && self.mistake != Mistake::NothingHasHappened;
        let mut ledger = self.ledger();
        assert_eq!(ledger.inside.replace(number), None, "two have it");
        assert!(token > ledger.token, "a token has not risen");
        ledger.token = token;
        assert_eq!(owner_died, ledger.has_died, "whether an owner died");
        drop(ledger);
        let value = self.buffers[owned.buffer()].load(Ordering::Relaxed);
        assert_eq!(value, self.ledger().committed, "another value than was committed last");
        Held { owned, value, owner_died }
    }

    fn lock(&self, number: usize, me: Member) -> Held {
        if self.way == Way::Short
            && let Some(held) = self.attempt_if_free(number, me)
        {
            return held;
        }
        loop {
            if let Some(held) = self.attempt(number, me) {
                return held;
            }
            let stirs = self.world.stirs(number);
            let epoch = self.lock.wait.sleep(number as u32);
            if let Some(held) = self.attempt(number, me) {
                return held;
            }
            if self.mistake == Mistake::NoWord || self.lock.sleep(self.members()) {
                let stirs = if self.mistake == Mistake::StirsLate { self.world.stirs(number) } else { stirs };
                self.world.sleep(number, &self.lock.wait, epoch, stirs);
            }
        }
    }

    fn unlock(&self, me: Member, owned: Owned, how: Release) {
        if self.mistake == Mistake::WakesFirst {
            self.world.wake(&self.lock.wait);
        }
        let is_done = self.way == Way::Short && self.lock.release_unseen(owned, how.commit);
        let is_left = is_done || self.mistake == Mistake::LeavesItAtThat;
        let is_slept_by = !is_left && self.lock.release(me, how);
        // Nobody else has had a step since the one that unlocked it.
        let mut ledger = self.ledger();
        ledger.inside = None;
        ledger.committed += u64::from(how.commit);
        ledger.has_died &= !how.recover;
        drop(ledger);
        if is_slept_by && self.mistake != Mistake::WakesFirst {
            self.world.wake(&self.lock.wait);
        }
    }
}

impl Process for Locks {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        let me = self.who[number];
        if number == 1 && self.mistake == Mistake::BuriedAlive {
            self.members().remove(self.who[0]);
        }
        let held = self.lock(number, me);
        let to =
            if self.mistake == Mistake::OneBuffer { held.owned.buffer() } else { held.owned.buffer() ^ 1 };
        self.buffers[to].store(held.value + 1, Ordering::Relaxed);
        // The last one leaves what the others know unsaid.
        let recover = held.owner_died && number != 2;
        self.unlock(me, held.owned, Release { commit: true, recover });
    }

    fn bury(&self, number: usize) {
        let is_owner = self.lock.owner() == Some(self.who[number]);
        self.ledger().has_died |= is_owner;
        self.members().remove(self.who[number]);
        // Nobody else has had a step since the one that freed it.
        self.ledger().inside.take_if(|inside| *inside == number);
        if self.mistake != Mistake::NoStir {
            self.world.stir();
        }
    }

    fn audit(&self) {
        let me = join(self.members(), 8);
        let held = self.attempt(8, me).expect("it is free when all have ended");
        self.unlock(me, held.owned, Release { commit: false, recover: held.owner_died });
    }
}

const TWO: Bounds = Bounds { processes: 2, preemptions: 3 };
const THREE: Bounds = Bounds { processes: 3, preemptions: 1 };

fn with_deaths(way: Way, mistake: Mistake) {
    TWO.explore_deaths(move |world| Locks::new(world, TWO.processes, way, mistake));
}

/// Two processes show what comes of a death at each step; three take long.
fn of_three(mistake: Mistake) {
    THREE.explore_some_deaths(8, move |world| Locks::new(world, THREE.processes, Way::Short, mistake));
}

#[test]
fn one_has_it_at_a_time() {
    with_deaths(Way::Short, Mistake::None);
}

#[test]
fn one_has_it_at_a_time_the_long_way() {
    with_deaths(Way::Long, Mistake::None);
}

#[test]
fn one_of_three_has_it_at_a_time() {
    of_three(Mistake::None);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_word() {
    with_deaths(Way::Short, Mistake::NoWord);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_word_of_three() {
    of_three(Mistake::NoWord);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir_of_three() {
    of_three(Mistake::NoStir);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_wakes_first() {
    with_deaths(Way::Short, Mistake::WakesFirst);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    with_deaths(Way::Short, Mistake::NoStir);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_stirs_late() {
    with_deaths(Way::Short, Mistake::StirsLate);
}

#[test]
#[should_panic = "two have it"]
fn control_buried_alive() {
    with_deaths(Way::Short, Mistake::BuriedAlive);
}

#[test]
#[should_panic = "another value"]
fn control_one_buffer() {
    with_deaths(Way::Short, Mistake::OneBuffer);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_leaves_it_at_that() {
    with_deaths(Way::Short, Mistake::LeavesItAtThat);
}

#[test]
#[should_panic = "whether an owner died"]
fn control_nothing_has_happened() {
    with_deaths(Way::Short, Mistake::NothingHasHappened);
}

#[test]
#[should_panic = "a token has not risen"]
fn control_relaxed() {
    TWO.with_fault(Fault::Relaxed, |world| Locks::new(world, 2, Way::Short, Mistake::None));
}

#[test]
#[should_panic = "a token has not risen"]
fn control_torn() {
    TWO.with_fault(Fault::Torn, |world| Locks::new(world, 2, Way::Short, Mistake::None));
}
