//! Permits: nobody has one that another has, and none is lost with the process that had it.

use std::sync::Mutex;

use crate::atomics::{AtomicU64, Fault};
use crate::words::{Member, Members, Permits, Wait};
use crate::world::{Bounds, Process, World, join};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// Who gives back wakes first.
    WakesFirst,
    /// Nobody tells those who sleep of a death.
    NoStir,
    /// What those have that are alive is given back.
    TakenFromTheLiving,
}

/// Each process takes a permit, and gives it back; if it is to join again, the second one then leaves, joins, which may get
/// it the slot of one that has died, and does so once more.
struct Semaphores {
    world: World,
    joins_again: bool,
    slots: Vec<AtomicU64>,
    nobody: Vec<AtomicU64>,
    who: Vec<Member>,
    word: AtomicU64,
    ledger: Vec<AtomicU64>,
    wait: Wait,
    /// How many are taken, as those know that have them.
    taken: Mutex<Vec<u16>>,
    mistake: Mistake,
}

impl Semaphores {
    fn new(world: World, processes: usize, joins_again: bool, mistake: Mistake) -> Self {
        let words = || (0..=processes).map(|_| AtomicU64::default()).collect::<Vec<_>>();
        let (slots, nobody, ledger) = (words(), words(), words());
        let who = (0..processes).map(|number| join(Members(&slots), number)).collect();
        let (word, wait) = Default::default();
        let taken = Mutex::new(vec![0; processes]);
        let new = Self { world, joins_again, slots, nobody, who, word, ledger, wait, taken, mistake };
        assert!(new.words().add(PERMITS));
        new
    }

    fn members(&self) -> Members<'_> {
        Members(&self.slots)
    }

    fn words(&self) -> Permits<'_> {
        Permits { word: &self.word, ledger: &self.ledger, members: self.members() }
    }

    fn reclaim(&self) -> bool {
        let members =
            if self.mistake == Mistake::TakenFromTheLiving { Members(&self.nobody) } else { self.members() };
        let had_any = Permits { members, ..self.words() }.reclaim();
        if had_any {
            self.world.wake(&self.wait);
        }
        had_any
    }

    fn attempt(&self, me: Member) -> bool {
        self.words().try_acquire(me, 1) || self.reclaim() && self.words().try_acquire(me, 1)
    }

    fn acquire(&self, number: usize, me: Member) {
        loop {
            let stirs = self.world.stirs(number);
            if self.attempt(me) {
                break;
            }
            let epoch = self.wait.sleep(number as u32);
            if self.attempt(me) {
                break;
            }
            self.world.sleep(number, &self.wait, epoch, stirs);
        }
        let mut taken = self.taken.lock().unwrap();
        taken[number] += 1;
        assert!(taken.iter().sum::<u16>() <= PERMITS, "a permit was given twice");
    }

    fn release(&self, number: usize, me: Member) {
        if self.mistake == Mistake::WakesFirst {
            self.world.wake(&self.wait);
        }
        self.taken.lock().unwrap()[number] -= 1;
        assert!(self.words().release(me, 1), "it had one");
        if self.mistake != Mistake::WakesFirst {
            self.world.wake(&self.wait);
        }
    }
}

impl Process for Semaphores {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        let me = self.who[number];
        self.acquire(number, me);
        self.release(number, me);
        if number == 1 && self.joins_again {
            self.members().remove(me);
            let me = join(self.members(), 7);
            self.acquire(number, me);
            self.release(number, me);
        }
    }

    fn bury(&self, number: usize) {
        // What it has it has until it is no member any more; it may have begun to give it back.
        self.taken.lock().unwrap()[number] = 0;
        self.members().remove(self.who[number]);
        if self.mistake != Mistake::NoStir {
            self.world.stir();
        }
    }

    fn audit(&self) {
        self.words().reclaim();
        assert_eq!(self.words().free(), PERMITS, "a permit is lost, or there is one too many");
        assert_eq!(self.words().holders().count(), 0);
    }
}

const PERMITS: u16 = 1;

fn explore(preemptions: usize, joins_again: bool, mistake: Mistake) {
    let bounds = Bounds { processes: 2, preemptions };
    bounds.explore_deaths(move |world| Semaphores::new(world, 2, joins_again, mistake));
}

#[test]
fn no_permit_is_lost_or_doubled() {
    explore(1, false, Mistake::None);
}

#[test]
fn who_gets_a_slot_has_nothing_of_the_one_before() {
    explore(1, true, Mistake::None);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_wakes_first() {
    explore(2, false, Mistake::WakesFirst);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    explore(1, false, Mistake::NoStir);
}

#[test]
#[should_panic = "it had one"]
fn control_taken_from_the_living() {
    explore(2, false, Mistake::TakenFromTheLiving);
}

#[test]
#[should_panic = "it had one"]
fn control_torn() {
    Bounds { processes: 2, preemptions: 2 }
        .with_fault(Fault::Torn, |world| Semaphores::new(world, 2, false, Mistake::None));
}
