//! Sleeping until something has come: who changes something wakes all that sleep by then.

use crate::atomics::{AtomicU64, Ordering};
use crate::words::Wait;
use crate::world::{Bounds, Process, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// Who sleeps has looked before it says so, and not after.
    LooksFirst,
    /// Who changes something wakes first.
    WakesFirst,
    /// Nobody tells those who sleep of a death.
    NoStir,
    /// Who sleeps does not see that it was told to look again after it has looked.
    StirsLate,
}

/// The first process makes some changes. The others wait for each, one after the other.
struct Waits {
    world: World,
    all: u64,
    changes: AtomicU64,
    wait: Wait,
    /// It has died: nobody waits for it any more.
    has_died: AtomicU64,
    mistake: Mistake,
}

impl Waits {
    fn new(world: World, all: u64, mistake: Mistake) -> Self {
        Self {
            world,
            all,
            changes: AtomicU64::default(),
            wait: Wait::default(),
            has_died: AtomicU64::default(),
            mistake,
        }
    }

    fn change(&self) {
        if self.mistake == Mistake::WakesFirst {
            self.world.wake(&self.wait);
        }
        self.changes.fetch_add(1, Ordering::Release);
        if self.mistake != Mistake::WakesFirst {
            self.world.wake(&self.wait);
        }
    }

    fn has_come(&self, changes: u64) -> bool {
        self.changes.load(Ordering::Acquire) >= changes || self.has_died.load(Ordering::Acquire) != 0
    }

    fn wait_for(&self, number: usize, changes: u64) {
        while !self.has_come(changes) {
            let stirs = self.world.stirs(number);
            let epoch = self.wait.sleep(number as u32);
            if self.mistake != Mistake::LooksFirst && self.has_come(changes) {
                return;
            }
            let stirs = if self.mistake == Mistake::StirsLate { self.world.stirs(number) } else { stirs };
            self.world.sleep(number, &self.wait, epoch, stirs);
        }
    }
}

impl Process for Waits {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        for changes in 1..=self.all {
            if number == 0 {
                self.change();
            } else {
                self.wait_for(number, changes);
            }
        }
    }

    fn bury(&self, _number: usize) {
        self.has_died.store(1, Ordering::Release);
        if self.mistake != Mistake::NoStir {
            self.world.stir();
        }
    }

    fn audit(&self) {}
}

const BOUNDS: Bounds = Bounds { processes: 2, preemptions: 3 };

#[test]
fn nobody_sleeps_for_ever() {
    BOUNDS.explore_deaths(|world| Waits::new(world, 2, Mistake::None));
}

#[test]
fn nobody_of_two_sleeps_for_ever() {
    Bounds { processes: 3, preemptions: 1 }.explore_deaths(|world| Waits::new(world, 1, Mistake::None));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_looks_first() {
    BOUNDS.explore_deaths(|world| Waits::new(world, 2, Mistake::LooksFirst));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_wakes_first() {
    BOUNDS.explore_deaths(|world| Waits::new(world, 2, Mistake::WakesFirst));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    BOUNDS.explore_deaths(|world| Waits::new(world, 2, Mistake::NoStir));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_stirs_late() {
    BOUNDS.explore_deaths(|world| Waits::new(world, 2, Mistake::StirsLate));
}
