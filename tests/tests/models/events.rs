//! The event: who waited when it was set goes on, although it may be clear again by then.

use crate::atomics::{AtomicU64, Ordering};
use crate::words::Flag;
use crate::world::{Bounds, Process, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// Who waits looks whether it is set, and not whether it was.
    LooksAtTheMoment,
    /// Nobody tells those who sleep of a death.
    NoStir,
}

/// The first process sets it, and clears it. The others have waited since before.
struct Events {
    world: World,
    flag: Flag,
    began: u64,
    /// The first process has died: nobody waits for it any more.
    has_died: AtomicU64,
    mistake: Mistake,
}

impl Events {
    fn new(world: World, mistake: Mistake) -> Self {
        let flag = Flag::default();
        let began = flag.now();
        Self { world, flag, began, has_died: AtomicU64::default(), mistake }
    }

    fn has_come(&self) -> bool {
        let has_come = match self.mistake {
            Mistake::LooksAtTheMoment => self.flag.is_set(),
            _ => self.flag.was_set_since(self.began),
        };
        has_come || self.has_died.load(Ordering::Acquire) != 0
    }
}

impl Process for Events {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        if number == 0 {
            self.flag.set();
            self.world.wake(&self.flag.wait);
            self.flag.clear();
            return;
        }
        loop {
            let stirs = self.world.stirs(number);
            if self.has_come() {
                return;
            }
            let epoch = self.flag.wait.sleep(number as u32);
            if self.has_come() {
                return;
            }
            self.world.sleep(number, &self.flag.wait, epoch, stirs);
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

const TWO: Bounds = Bounds { processes: 2, preemptions: 3 };
const THREE: Bounds = Bounds { processes: 3, preemptions: 1 };

#[test]
fn nobody_misses_it() {
    TWO.explore_deaths(|world| Events::new(world, Mistake::None));
    THREE.explore_deaths(|world| Events::new(world, Mistake::None));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_looks_at_the_moment() {
    TWO.explore_deaths(|world| Events::new(world, Mistake::LooksAtTheMoment));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    TWO.explore_deaths(|world| Events::new(world, Mistake::NoStir));
}
