//! Slots: taken by those that join, freed by those that leave, and by others for those that have died.

use std::sync::{Mutex, MutexGuard};

use crate::atomics::{AtomicU64, Fault};
use crate::words::{Member, Members};
use crate::world::{Bounds, Process, World, identity};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// A slot is compared, and not how many have had it.
    NoGeneration,
}

/// Two slots. One is of a dead process, which all see; each of two others takes one.
struct Memberships {
    world: World,
    slots: Vec<AtomicU64>,
    dead: Member,
    /// Those that take part, as far as they know.
    known: Mutex<Vec<Member>>,
    mistake: Mistake,
}

const DEAD: usize = 9;

impl Memberships {
    fn new(world: World, mistake: Mistake) -> Self {
        let slots: Vec<_> = (0..2).map(|_| AtomicU64::default()).collect();
        let dead = Members(&slots).join(identity(DEAD)).unwrap();
        Self { world, slots, dead, known: Mutex::default(), mistake }
    }

    fn members(&self) -> Members<'_> {
        Members(&self.slots)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Member>> {
        self.known.lock().unwrap()
    }

    fn contains(&self, member: Member) -> bool {
        match self.mistake {
            Mistake::None => self.members().contains(member),
            Mistake::NoGeneration => self.members().iter().any(|(other, _)| other.slot() == member.slot()),
        }
    }
}

impl Process for Memberships {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        self.members().remove(self.dead);
        assert!(!self.contains(self.dead), "one that was removed is a member");
        let me = self.members().join(identity(number)).expect("there is a slot for each");
        let mut known = self.known();
        assert!(known.iter().all(|other| other.slot() != me.slot()), "a slot was given twice");
        known.push(me);
        drop(known);
        assert_eq!(self.members().identity(me), Some(identity(number)), "another has its slot");
        assert!(!self.contains(self.dead), "another has the slot, and not the dead one");
        self.known().retain(|other| *other != me);
        assert!(self.members().remove(me), "nobody else removes a living member");
        assert!(!self.members().contains(me));
    }

    fn bury(&self, number: usize) {
        for (member, who) in self.members().iter() {
            if who == identity(number) {
                self.known().retain(|other| *other != member);
                self.members().remove(member);
            }
        }
    }

    fn audit(&self) {
        // What others have freed was seen by them.
        let (one, other) = (self.members().join(identity(5)), self.members().join(identity(6)));
        assert!(one.is_some() && other.is_some(), "a slot is lost");
        assert!(!self.members().contains(self.dead));
        assert_eq!(self.members().iter().count(), 2);
    }
}

const BOUNDS: Bounds = Bounds { processes: 2, preemptions: 4 };

#[test]
fn nobody_has_anothers_slot() {
    BOUNDS.explore_deaths(|world| Memberships::new(world, Mistake::None));
}

#[test]
#[should_panic = "another has the slot"]
fn control_no_generation() {
    BOUNDS.explore_deaths(|world| Memberships::new(world, Mistake::NoGeneration));
}

#[test]
#[should_panic = "another has its slot"]
fn control_torn() {
    BOUNDS.with_fault(Fault::Torn, |world| Memberships::new(world, Mistake::None));
}
