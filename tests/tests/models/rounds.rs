//! The barrier: all are released, with one leader, or all are told that the round is broken; nobody waits for the dead.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::atomics::{AtomicU64, Fault, Ordering};
use crate::words::{Arrival, MOST_PARTIES, Member, Members, Round};
use crate::world::{Bounds, Process, World, join};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// The last one wakes the others, and then completes the round.
    WakesFirst,
    /// Nobody tells those who sleep of a death.
    NoStir,
    /// Who waits does not look for the dead.
    NoBurial,
    /// Who is released is so because there is another round, whatever became of its own.
    NoHistory,
    /// Who gives up leaves without a word.
    GivesUpSilently,
    /// Who gets the slot of a dead one is taken for it.
    NoGeneration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Waits for the others, and again if the round was broken by a reset.
    Meets,
    /// Gives up as soon as it would wait.
    GivesUp,
    /// Begins another round before it meets the others.
    Resets,
    /// Comes to others that are enough without it, waits until there is room for it, and then gives up.
    ComesToo,
}

struct Rounds {
    world: World,
    roles: &'static [Role],
    parties: usize,
    slots: Vec<AtomicU64>,
    who: Vec<Member>,
    round: Round,
    ledgers: Vec<AtomicU64>,
    /// What each has written before it arrived: all that are released see all of it.
    written: Vec<AtomicU64>,
    /// One that had not arrived has died: who waits for it gives up.
    is_missing: AtomicU64,
    /// Who dies is replaced by another process, which gets its slot.
    is_replaced: bool,
    truth: Mutex<Truth>,
    /// Whether one has come when all were there, in any order of the steps.
    was_full: Arc<AtomicBool>,
    mistake: Mistake,
}

/// What is true, whatever processes know of it. No step is decided by it, and nobody looks at it until all have ended.
#[derive(Debug, Default)]
struct Truth {
    /// Of which round somebody learned what.
    ends: Vec<(u64, End)>,
    has_died: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Leads,
    Follows,
    Broken,
}

impl Rounds {
    fn new(world: World, roles: &'static [Role], is_replaced: bool, mistake: Mistake) -> Self {
        let words = || (0..=roles.len()).map(|_| AtomicU64::default()).collect::<Vec<_>>();
        let (slots, ledgers, written) = (words(), words(), words());
        let who = (0..roles.len()).map(|number| join(Members(&slots), number)).collect();
        let (round, is_missing, truth, was_full) = Default::default();
        let parties = roles.iter().filter(|role| **role != Role::ComesToo).count();
        Self {
            world,
            roles,
            parties,
            slots,
            who,
            round,
            ledgers,
            written,
            is_missing,
            is_replaced,
            truth,
            was_full,
            mistake,
        }
    }

    fn members(&self) -> Members<'_> {
        Members(&self.slots)
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    fn wake(&self) {
        self.world.wake(&self.round.wait);
    }

    /// Arrives; gives the round if it is to wait, or what became of it.
    fn arrive(&self, me: Member) -> Result<u64, Option<End>> {
        match self.round.arrive(&self.ledgers, me, self.parties as u64) {
            Arrival::Waits(round) => Ok(round),
            Arrival::Last(round) => {
                if self.mistake == Mistake::WakesFirst {
                    self.wake();
                }
                let end = if self.round.complete(round) { End::Leads } else { End::Broken };
                // Nobody else has had a step since the one that completed it.
                self.truth().ends.push((round, end));
                if self.mistake != Mistake::WakesFirst {
                    self.wake();
                }
                Err(Some(end))
            }
            Arrival::Full => {
                self.was_full.store(true, Ordering::Relaxed);
                Err(None)
            }
            Arrival::Broken => {
                self.wake();
                Err(Some(End::Broken))
            }
        }
    }

    fn outcome(&self, round: u64) -> Option<End> {
        let is_completed = match self.mistake {
            Mistake::NoHistory => self.round.outcome(round).map(|_| true),
            _ => self.round.outcome(round),
        };
        let end = if is_completed? { End::Follows } else { End::Broken };
        self.truth().ends.push((round, end));
        Some(end)
    }

    fn attempt(&self, me: Member, arrived: &mut Option<u64>) -> Option<End> {
        if let Some(round) = *arrived {
            return self.outcome(round);
        }
        match self.arrive(me) {
            Ok(round) => *arrived = Some(round),
            Err(end) => return end,
        }
        None
    }

    /// Breaks the round if one that has arrived is dead, or if one that has not will not come.
    fn bury(&self, arrived: Option<u64>) -> bool {
        let is_broken = self.mistake != Mistake::NoBurial && self.round.bury(&self.ledgers, self.members());
        if is_broken {
            self.wake();
        }
        let is_missing = self.is_missing.load(Ordering::Acquire) != 0;
        is_broken || is_missing && arrived.is_some_and(|round| self.give_up(round))
    }

    fn wait(&self, number: usize, me: Member) -> End {
        let mut arrived = None;
        loop {
            let stirs = self.world.stirs(number);
            if let Some(end) = self.attempt(me, &mut arrived) {
                return end;
            }
            let epoch = self.round.wait.sleep(number as u32);
            if let Some(end) = self.attempt(me, &mut arrived) {
                return end;
            }
            if !self.bury(arrived) {
                self.world.sleep(number, &self.round.wait, epoch, stirs);
            }
        }
    }

    fn meet(&self, number: usize, me: Member) {
        self.written[number].store(1, Ordering::Relaxed);
        while self.wait(number, me) == End::Broken {
            if self.round.is_broken() {
                // Not reset: it stays broken.
                return;
            }
        }
        // Where one more comes, it may be the other one of this round.
        let all = if self.parties == self.roles.len() { self.parties } else { 0 };
        for written in &self.written[..all] {
            let is_there = written.load(Ordering::Relaxed) == 1;
            assert!(is_there, "one was released, and does not see what another did before");
        }
    }

    /// Waits until there is room, and then gives up.
    fn come_too(&self, number: usize, me: Member) {
        loop {
            let stirs = self.world.stirs(number);
            let mut arrived = None;
            let end = self.attempt(me, &mut arrived);
            if end.is_none() && arrived.is_none() {
                let epoch = self.round.wait.sleep(number as u32);
                if self.attempt(me, &mut arrived).is_none() && arrived.is_none() {
                    if !self.bury(None) {
                        self.world.sleep(number, &self.round.wait, epoch, stirs);
                    }
                    continue;
                }
            }
            if let Some(round) = arrived {
                self.give_up(round);
                self.outcome(round);
            }
            // One of the others may be left alone.
            self.round.abort();
            return self.wake();
        }
    }

    fn give_up(&self, round: u64) -> bool {
        if self.mistake == Mistake::GivesUpSilently {
            return false;
        }
        let is_broken = self.round.break_round(round);
        if is_broken {
            self.wake();
        }
        is_broken
    }

    /// The one that gets the slot of a dead one: it stands in for it, unless that was there already.
    fn replace(&self, number: usize) {
        let before = self.who[number];
        let me = if self.mistake == Mistake::NoGeneration { before } else { join(self.members(), 7) };
        assert_eq!(me.slot(), before.slot());
        let had_arrived = self.has_arrived(before);
        self.written[number].store(1, Ordering::Relaxed);
        match self.arrive(me) {
            Ok(0) => {
                assert!(!had_arrived, "one that is dead and another one are both counted");
                self.give_up(0);
            }
            Ok(round) => drop(self.give_up(round)),
            Err(end) => {
                let is_counted = had_arrived && end == Some(End::Leads);
                assert!(!is_counted, "one that is dead and another one are both counted");
            }
        }
    }

    fn has_arrived(&self, member: Member) -> bool {
        self.ledgers[member.slot()].load(Ordering::Relaxed) & MOST_PARTIES != 0
    }
}

impl Process for Rounds {
    fn world(&self) -> &World {
        &self.world
    }

    fn live(&self, number: usize) {
        let me = self.who[number];
        match self.roles[number] {
            Role::Meets => self.meet(number, me),
            Role::GivesUp => {
                self.written[number].store(1, Ordering::Relaxed);
                if let Ok(round) = self.arrive(me) {
                    self.give_up(round);
                    // The others may have come by then.
                    self.outcome(round);
                }
            }
            Role::ComesToo => self.come_too(number, me),
            Role::Resets => {
                self.round.reset();
                self.wake();
                self.meet(number, me);
            }
        }
    }

    fn bury(&self, number: usize) {
        let me = self.who[number];
        if !self.has_arrived(me) {
            self.is_missing.store(1, Ordering::Release);
        }
        self.truth().has_died = true;
        self.members().remove(me);
        if self.mistake != Mistake::NoStir {
            self.world.stir();
        }
        if self.is_replaced {
            self.replace(number);
        }
    }

    fn audit(&self) {
        let truth = self.truth();
        for (round, _) in &truth.ends {
            let of = |end| truth.ends.iter().filter(|other| **other == (*round, end)).count();
            let (leaders, followers) = (of(End::Leads), of(End::Follows));
            if leaders + followers == 0 {
                continue;
            }
            assert_eq!(leaders, 1, "how many lead in a round that was completed");
            assert_eq!(of(End::Broken), 0, "a round was completed, and is broken");
            let all = leaders + followers;
            assert!(all == self.parties || truth.has_died && all < self.parties, "{all} were released");
        }
        let is_met = truth.ends.iter().any(|(_, end)| *end == End::Leads);
        let is_to_meet =
            !truth.has_died && self.roles.iter().all(|role| matches!(role, Role::Meets | Role::Resets));
        assert!(is_met || !is_to_meet, "nobody was released, and nobody has died");
    }
}

fn explore(preemptions: usize, roles: &'static [Role], mistake: Mistake) {
    let bounds = Bounds { processes: roles.len(), preemptions };
    bounds.explore_deaths(move |world| Rounds::new(world, roles, false, mistake));
}

fn explore_replaced(preemptions: usize, mistake: Mistake) {
    let bounds = Bounds { processes: 2, preemptions };
    bounds.explore_deaths(move |world| Rounds::new(world, MEET, true, mistake));
}

/// Without a death: with three there are too many orders of the steps. Gives whether one has come when all were there.
fn explore_three(mistake: Mistake) -> bool {
    const ROLES: &[Role] = &[Role::Meets, Role::Meets, Role::ComesToo];
    let was_full = Arc::new(AtomicBool::new(false));
    let known = Arc::clone(&was_full);
    Bounds { processes: 3, preemptions: 1 }.explore(None, move |world| {
        let was_full = Arc::clone(&known);
        Rounds { was_full, ..Rounds::new(world, ROLES, false, mistake) }
    });
    was_full.load(Ordering::Relaxed)
}

const MEET: &[Role] = &[Role::Meets, Role::Meets];
const GIVE_UP: &[Role] = &[Role::GivesUp, Role::Meets];
const RESET: &[Role] = &[Role::Resets, Role::Meets];

#[test]
fn all_are_released_or_told() {
    explore(2, MEET, Mistake::None);
}

#[test]
fn who_comes_when_all_are_there_waits_for_the_next_round() {
    assert!(explore_three(Mistake::None));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_wakes_first_of_three() {
    explore_three(Mistake::WakesFirst);
}

#[test]
fn who_gives_up_breaks_the_round() {
    explore(2, GIVE_UP, Mistake::None);
}

#[test]
fn a_reset_is_for_all() {
    explore(1, RESET, Mistake::None);
}

#[test]
fn who_gets_a_slot_is_not_the_one_before() {
    explore_replaced(1, Mistake::None);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_wakes_first() {
    explore(2, MEET, Mistake::WakesFirst);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_stir() {
    explore(2, MEET, Mistake::NoStir);
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_no_burial() {
    explore(2, MEET, Mistake::NoBurial);
}

#[test]
#[should_panic = "1 were released"]
fn control_gives_up_silently() {
    explore(2, GIVE_UP, Mistake::GivesUpSilently);
}

#[test]
#[should_panic = "does not see what another did before"]
fn control_no_history() {
    explore(1, RESET, Mistake::NoHistory);
}

#[test]
#[should_panic = "both counted"]
fn control_no_generation() {
    explore_replaced(1, Mistake::NoGeneration);
}

#[test]
#[should_panic = "does not see what another did before"]
fn control_relaxed() {
    Bounds { processes: 2, preemptions: 2 }
        .with_fault(Fault::Relaxed, |world| Rounds::new(world, MEET, false, Mistake::None));
}

#[test]
#[should_panic = "sleeps for ever"]
fn control_torn() {
    Bounds { processes: 2, preemptions: 2 }
        .with_fault(Fault::Torn, |world| Rounds::new(world, MEET, false, Mistake::None));
}
