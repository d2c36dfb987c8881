//! The condition variable: who waits is found by who notifies, and no notice is lost with the process that had it.

use std::sync::{Mutex, MutexGuard};

use crate::atomics::{AtomicU64, Fault, Ordering};
use crate::words::{Attempt, Lock, Member, Members, Notices, Release};
use crate::world::{Bounds, Process, World, join};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// Who is about to wait unlocks, and is counted only then.
    EntersLate,
    /// Nobody tells those who sleep of a death.
    NoStir,
    /// Nobody looks for what the dead have left.
    NoHeir,
    /// Who gives up keeps its notice.
    Keeps,
    /// Who gets the slot of a dead one wakes nobody for the notice that it finds there.
    NoWake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Waits for a notice, and then notifies another.
    PassesOn,
    /// Does not wait any longer.
    GivesUp,
    /// Notifies one, and then waits for a notice, and passes it on.
    Begins,
    /// Notifies one, and does not wait.
    Notifies,
    /// Gets the slot of one that has died while it waited, begins to wait, and gives up.
    Succeeds,
    /// Sleeps from the beginning to the end, and is no thread of the model.
    Sleeps,
    /// Waits under the lock until there is a value.
    Reads,
    /// Writes the value under the lock, and then notifies one.
    Writes,
}

struct Conditions {
    world: World,
    roles: &'static [Role],
    slots: Vec<AtomicU64>,
    who: Vec<Member>,
    notices: Notices,
    ledgers: Vec<AtomicU64>,
    lock: Lock,
    value: AtomicU64,
    /// Who dies is replaced by another process, which gets its slot, and waits.
    is_replaced: bool,
    truth: Mutex<Truth>,
    mistake: Mistake,
}

/// What is true, whatever processes know of it. No step of one is decided by what another has written there.
#[derive(Debug, Default)]
struct Truth {
    has_died: bool,
    /// The one that died had its notice, and has not notified another.
    owes: bool,
    given: u64,
    taken: u64,
}

impl Conditions {
    fn new(world: World, roles: &'static [Role], is_replaced: bool, mistake: Mistake) -> Self {
        let words = || (0..=roles.len()).map(|_| AtomicU64::default()).collect::<Vec<_>>();
        let (slots, ledgers) = (words(), words());
        let who = (0..roles.len()).map(|number| join(Members(&slots), number)).collect();
        let (notices, lock, value, truth) = Default::default();
        let new =
            Self { world, roles, slots, who, notices, ledgers, lock, value, is_replaced, truth, mistake };
        for (number, role) in roles.iter().enumerate() {
            if *role == Role::Sleeps {
                new.notices.wait.sleep(SLEEPER);
            }
            if !matches!(role, Role::Notifies | Role::Reads | Role::Writes) {
                new.enter(new.who[number]);
            }
        }
        new
    }

    fn members(&self) -> Members<'_> {
        Members(&self.slots)
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    fn wake(&self) {
        self.world.wake(&self.notices.wait);
    }

    fn inherit(&self) {
        if self.mistake != Mistake::NoHeir && self.notices.inherit(&self.ledgers, self.members()) {
            self.wake();
        }
    }

    fn enter(&self, me: Member) {
        let is_passed = self.notices.enter(&self.ledgers, self.members(), me).expect("there is room");
        if is_passed && self.mistake != Mistake::NoWake {
            self.wake();
        }
    }

    fn notify(&self) {
        let given = self.notices.notify(&self.ledgers, self.members(), 1);
        self.truth().given += given;
        if given > 0 {
            self.wake();
        }
    }

    fn is_notified(&self, me: Member) -> bool {
        self.notices.notified(&self.ledgers, me) > 0
    }

    fn await_notice(&self, number: usize, me: Member) {
        loop {
            if self.is_notified(me) {
                return;
            }
            let stirs = self.world.stirs(number);
            let epoch = self.notices.wait.sleep(number as u32);
            if self.is_notified(me) {
                return;
            }
            self.inherit();
            self.world.sleep(number, &self.notices.wait, epoch, stirs);
        }
    }

    fn take(&self, me: Member) {
        self.notices.take(&self.ledgers, me);
        self.truth().taken += 1;
    }

    fn leave(&self, me: Member) {
        let is_passed = match self.mistake {
            Mistake::Keeps => {
                self.notices.take(&self.ledgers, me);
                false
            }
            _ => self.notices.leave(&self.ledgers, self.members(), me, 0),
        };
        if is_passed {
            self.wake();
        }
    }

    fn pass_on(&self, number: usize, me: Member) {
        self.await_notice(number, me);
        self.take(me);
        // Nobody else has had a step since.
        self.truth().owes |= number == 0;
        self.notify();
        self.truth().owes &= number != 0;
    }

    fn lock(&self, number: usize, me: Member) {
        let attempt = || matches!(self.lock.try_acquire(me, self.members()), Attempt::Acquired { .. });
        loop {
            let stirs = self.world.stirs(number);
            if attempt() {
                return;
            }
            let epoch = self.lock.wait.sleep(number as u32);
            if attempt() {
                return;
            }
            if self.lock.sleep(self.members()) {
                self.world.sleep(number, &self.lock.wait, epoch, stirs);
            }
        }
    }

    fn unlock(&self, me: Member) {
        if self.lock.release(me, Release { commit: true, recover: true }) {
            self.world.wake(&self.lock.wait);
        }
    }

    fn read(&self, number: usize, me: Member) {
        self.lock(number, me);
        while self.value.load(Ordering::Relaxed) == 0 {
            if self.mistake == Mistake::EntersLate {
                self.unlock(me);
                self.enter(me);
            } else {
                self.enter(me);
                self.unlock(me);
            }
            self.await_notice(number, me);
            self.lock(number, me);
            self.take(me);
        }
        self.unlock(me);
    }

    fn write(&self, number: usize, me: Member) {
        self.lock(number, me);
        self.value.store(1, Ordering::Relaxed);
        self.unlock(me);
        self.notify();
    }
}

impl Conditions {
    /// One that comes, begins to wait, and gives up.
    fn come_and_go(&self) {
        let me = join(self.members(), 7);
        // What the dead have left is for those who wait already.
        self.inherit();
        self.enter(me);
        self.leave(me);
    }

    fn succeed(&self, dead: Member) {
        self.members().remove(dead);
        self.come_and_go();
    }
}

impl Process for Conditions {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        let me = self.who[number];
        match self.roles[number] {
            Role::PassesOn => self.pass_on(number, me),
            Role::GivesUp => self.leave(me),
            Role::Begins => {
                self.notify();
                self.pass_on(number, me);
            }
            Role::Notifies => self.notify(),
            Role::Succeeds => self.succeed(me),
            Role::Sleeps => unreachable!("it is no thread"),
            Role::Reads => self.read(number, me),
            Role::Writes => self.write(number, me),
        }
    }

    fn bury(&self, number: usize) {
        self.truth().has_died = true;
        self.members().remove(self.who[number]);
        if self.mistake != Mistake::NoStir {
            self.world.stir();
        }
        if self.is_replaced {
            self.come_and_go();
        }
        let owes = self.truth().owes;
        if owes {
            // It has taken its notice: what it was to do then is nobody else's to find.
            self.notify();
        }
    }

    fn audit(&self) {
        self.inherit();
        if let Some(number) = self.roles.iter().position(|role| *role == Role::Sleeps) {
            return self.was_woken(self.who[number]);
        }
        let me = join(self.members(), 8);
        self.notify_nobody();
        self.enter(me);
        assert!(!self.is_notified(me), "a notice was kept for one that comes later");
        let truth = self.truth();
        assert!(truth.has_died || truth.given == truth.taken, "a notice is lost, or there is one too many");
    }
}

/// The bell of the one that sleeps.
const SLEEPER: u32 = 31;

impl Conditions {
    fn was_woken(&self, sleeper: Member) {
        assert!(self.is_notified(sleeper), "a notice is lost");
        assert_ne!(self.notices.wait.epoch(), 0, "one was notified, and sleeps for ever");
    }

    fn notify_nobody(&self) {
        let given = self.notices.notify(&self.ledgers, self.members(), 1);
        assert_eq!(given, 0, "one was notified, and nobody waits");
    }
}

fn explore(preemptions: usize, roles: &'static [Role], is_replaced: bool, mistake: Mistake) {
    let bounds = Bounds { processes: roles.len(), preemptions };
    bounds.explore_deaths(move |world| Conditions::new(world, roles, is_replaced, mistake));
}

/// Without a death: one has died before.
fn explore_coming(mistake: Mistake) {
    const ROLES: &[Role] = &[Role::Succeeds, Role::Notifies, Role::Sleeps];
    let bounds = Bounds { processes: 2, preemptions: 3 };
    bounds.explore(None, move |world| Conditions::new(world, ROLES, false, mistake));
}

const TWO: &[Role] = &[Role::PassesOn, Role::Begins];
const GIVE_UP: &[Role] = &[Role::GivesUp, Role::Begins];
const READ: &[Role] = &[Role::Reads, Role::Writes];

/// Some of the deaths: with three there are too many orders of the steps for all.
fn explore_three(roles: &'static [Role], mistake: Mistake) {
    let bounds = Bounds { processes: roles.len(), preemptions: 0 };
    bounds.explore_some_deaths(2, move |world| Conditions::new(world, roles, false, mistake));
}

#[test]
fn no_notice_of_three_is_lost() {
    explore_three(&[Role::PassesOn, Role::PassesOn, Role::Begins], Mistake::None);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_heir_of_three() {
    explore_three(&[Role::PassesOn, Role::PassesOn, Role::Begins], Mistake::NoHeir);
}

#[test]
fn no_notice_is_lost() {
    explore(1, TWO, false, Mistake::None);
}

#[test]
fn who_gets_a_slot_leaves_the_notice_to_others() {
    explore(1, TWO, true, Mistake::None);
}

#[test]
fn who_comes_wakes_those_that_sleep() {
    explore_coming(Mistake::None);
}

#[test]
fn who_gives_up_leaves_its_notice() {
    explore(2, GIVE_UP, false, Mistake::None);
}

#[test]
fn who_waits_is_found() {
    explore(2, READ, false, Mistake::None);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_enters_late() {
    explore(2, READ, false, Mistake::EntersLate);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    explore(1, TWO, false, Mistake::NoStir);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_heir() {
    explore(1, TWO, false, Mistake::NoHeir);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_keeps() {
    explore(2, GIVE_UP, false, Mistake::Keeps);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_wake() {
    explore_coming(Mistake::NoWake);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_torn() {
    Bounds { processes: 2, preemptions: 2 }
        .with_fault(Fault::Torn, |world| Conditions::new(world, TWO, false, Mistake::None));
}
