//! Those that read under a lock: never beside one that writes.

use std::sync::{Mutex, MutexGuard};

use loom::sync::atomic::AtomicUsize;

use crate::atomics::{AtomicU64, Fault, Ordering};
use crate::words::{Attempt, Entered, Lock, Member, Members, Readers, Release, Wait};
use crate::world::{Bounds, Process, World, join};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// Who has read does not wake the writer.
    NoWake,
    /// Nobody tells those who sleep of a death.
    NoStir,
    /// Who writes does not wait for those that read.
    NoWait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Reads,
    Writes,
    /// Writes, and then takes part no more.
    Leaves,
}

/// Each process reads, or writes what it has read and one more.
struct RwLocks {
    world: World,
    roles: &'static [Role],
    slots: Vec<AtomicU64>,
    who: Vec<Member>,
    lock: Lock,
    to_read: Wait,
    alone: Wait,
    ledger: Vec<AtomicU64>,
    buffers: [AtomicU64; 2],
    truth: Mutex<Truth>,
    /// What each changes that reads or writes: loom tries orders of steps where two change the same, and sees no other truth.
    witness: AtomicUsize,
    mistake: Mistake,
}

#[derive(Debug, Default)]
struct Truth {
    reading: Vec<usize>,
    writing: Option<usize>,
    committed: u64,
    has_died: bool,
}

impl RwLocks {
    fn new(world: World, roles: &'static [Role], mistake: Mistake) -> Self {
        let words = || (0..=roles.len()).map(|_| AtomicU64::default()).collect::<Vec<_>>();
        let (slots, ledger) = (words(), words());
        let who = (0..roles.len()).map(|number| join(Members(&slots), number)).collect();
        let (lock, to_read, alone, buffers, truth, witness) = Default::default();
        Self { world, roles, slots, who, lock, to_read, alone, ledger, buffers, truth, witness, mistake }
    }

    fn members(&self) -> Members<'_> {
        Members(&self.slots)
    }

    fn readers(&self) -> Readers<'_> {
        Readers { lock: &self.lock, ledger: &self.ledger, members: self.members() }
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    /// Tries until it succeeds, and sleeps in between.
    fn until<R>(
        &self,
        number: usize,
        wait: &Wait,
        attempt: impl Fn() -> Option<R>,
        is_to_sleep: impl Fn() -> bool,
    ) -> R {
        loop {
            let stirs = self.world.stirs(number);
            if let Some(done) = attempt() {
                return done;
            }
            let epoch = wait.sleep(number as u32);
            if let Some(done) = attempt() {
                return done;
            }
            if is_to_sleep() {
                self.world.sleep(number, wait, epoch, stirs);
            }
        }
    }

    fn has_left(&self, is_awaited: bool) {
        if is_awaited && self.mistake != Mistake::NoWake {
            self.world.wake(&self.alone);
        }
    }

    fn read(&self, number: usize, me: Member) {
        let attempt = || match self.readers().try_enter(me) {
            Entered::Reads { buffer, owner_died } => Some((buffer, owner_died)),
            Entered::Held { is_awaited, .. } => {
                self.has_left(is_awaited);
                None
            }
        };
        let (buffer, owner_died) =
            self.until(number, &self.to_read, attempt, || self.lock.sleep(self.members()));
        self.truth().reading.push(number);
        let value = self.buffers[buffer].load(Ordering::Relaxed);
        self.witness.fetch_add(1, Ordering::Relaxed);
        let mut truth = self.truth();
        assert_eq!(truth.writing, None, "one reads what another writes");
        assert_eq!(value, truth.committed, "another value than was committed last");
        assert!(truth.has_died || !owner_died, "an owner is said to have died that has not");
        truth.reading.retain(|other| *other != number);
        drop(truth);
        self.has_left(self.readers().leave(me));
    }

    fn write(&self, number: usize, me: Member) {
        let attempt = || match self.lock.try_acquire(me, self.members()) {
            Attempt::Acquired { owned, .. } => Some(owned.buffer()),
            Attempt::Held(_) => None,
        };
        let buffer = self.until(number, &self.lock.wait, attempt, || self.lock.sleep(self.members()));
        if self.mistake != Mistake::NoWait {
            self.until(number, &self.alone, || self.readers().are_gone().then_some(()), || true);
        }
        self.witness.fetch_add(1, Ordering::Relaxed);
        let mut truth = self.truth();
        assert_eq!(truth.writing.replace(number), None, "two write");
        assert!(truth.reading.is_empty(), "one writes what another reads");
        drop(truth);
        let value = self.buffers[buffer].load(Ordering::Relaxed);
        self.buffers[buffer ^ 1].store(value + 1, Ordering::Relaxed);
        self.unlock(me);
    }

    fn unlock(&self, me: Member) {
        let is_slept_by = self.lock.release(me, Release { commit: true, recover: true });
        // Nobody else has had a step since the one that unlocked it.
        let mut truth = self.truth();
        truth.writing = None;
        truth.committed += 1;
        drop(truth);
        if is_slept_by {
            self.world.wake(&self.to_read);
            self.world.wake(&self.lock.wait);
        }
    }
}

impl Process for RwLocks {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        match self.roles[number] {
            Role::Reads => self.read(number, self.who[number]),
            Role::Writes => self.write(number, self.who[number]),
            Role::Leaves => {
                self.write(number, self.who[number]);
                self.members().remove(self.who[number]);
                self.world.stir();
            }
        }
    }

    fn bury(&self, number: usize) {
        let mut truth = self.truth();
        truth.reading.retain(|other| *other != number);
        truth.has_died = true;
        drop(truth);
        self.members().remove(self.who[number]);
        // Nobody else has had a step since the one that freed it.
        self.truth().writing.take_if(|writing| *writing == number);
        if self.mistake != Mistake::NoStir {
            self.world.stir();
        }
    }

    fn audit(&self) {
        let me = join(self.members(), 8);
        assert!(self.readers().are_gone(), "nobody reads when all have ended");
        assert!(matches!(self.lock.try_acquire(me, self.members()), Attempt::Acquired { .. }));
    }
}

fn explore(roles: &'static [Role], mistake: Mistake) {
    let bounds = Bounds { processes: roles.len(), preemptions: 2 };
    bounds.explore_deaths(move |world| RwLocks::new(world, roles, mistake));
}

#[test]
fn nobody_reads_beside_one_that_writes() {
    explore(&[Role::Reads, Role::Writes], Mistake::None);
}

#[test]
fn nobody_writes_beside_one_that_reads() {
    explore(&[Role::Writes, Role::Reads], Mistake::None);
}

/// With three parties fewer orders of their steps, as there are too many, and some of the deaths.
fn explore_three(every: usize, roles: &'static [Role], mistake: Mistake) {
    let bounds = Bounds { processes: roles.len(), preemptions: 1 };
    bounds.explore_some_deaths(every, move |world| RwLocks::new(world, roles, mistake));
}

#[test]
fn who_has_left_has_unlocked() {
    explore(&[Role::Leaves, Role::Reads], Mistake::None);
}

#[test]
fn two_write_and_one_reads() {
    explore_three(3, &[Role::Reads, Role::Writes, Role::Writes], Mistake::None);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_wake_of_three() {
    explore_three(3, &[Role::Reads, Role::Writes, Role::Writes], Mistake::NoWake);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_wake() {
    explore(&[Role::Reads, Role::Writes], Mistake::NoWake);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    explore(&[Role::Reads, Role::Writes], Mistake::NoStir);
}

#[test]
#[should_panic = "what another"]
fn control_no_wait() {
    explore(&[Role::Reads, Role::Writes], Mistake::NoWait);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_fence() {
    Bounds { processes: 2, preemptions: 2 }
        .with_fault(Fault::NoFence, |world| RwLocks::new(world, &[Role::Reads, Role::Writes], Mistake::None));
}
