//! Looking again and again for a moment, before sleeping.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

/// Whether it pays to look again for a moment: where the other side runs on another core and answers at once, sleeping and being
/// woken takes twenty times as long as the answer. Where it shares this core, it does not answer before this one sleeps.
///
/// So it is found out: a long look now and then, as seldom as it has failed; and short ones for as long as they succeed. A few that
/// fail in a row are enough for a long one again: after a pause the two sides find each other by that. Where long ones alone
/// succeed, time after time, it is as if they had failed.
#[derive(Debug)]
pub(crate) struct Spin {
    /// Above zero as long as there are short looks: one that succeeds adds to it, one that fails takes most of it.
    credit: AtomicU32,
    /// How many waits there were since the last long look, and how many there are to be, as a power of two.
    skipped: AtomicU32,
    power: AtomicU32,
    /// How many more long looks have succeeded than short ones.
    tries: AtomicU32,
}

const SHORT: Duration = Duration::from_micros(3);
/// As long as it takes to wake a process on another core, and to hear from it.
const LONG: Duration = Duration::from_micros(100);
const CREDIT: u32 = 16;
const MOST: u32 = 11;
const TRIES: u32 = 32;
/// What is waited for a few times only is not looked for at all.
const FIRST: u32 = 3;

/// Whether anybody can run while this process does: this one may be kept on one core, and the other side on another.
static HAS_CORES: LazyLock<bool> =
    LazyLock::new(|| matches!(sysconf(SysconfVar::_NPROCESSORS_ONLN), Ok(Some(cores)) if cores > 1));

impl Default for Spin {
    fn default() -> Self {
        let (credit, skipped, tries) = Default::default();
        Self { credit, skipped, power: AtomicU32::new(FIRST), tries }
    }
}

impl Spin {
    /// Looks for something that is not there yet, if that pays.
    pub(crate) fn look(&self, is_there: impl Fn() -> bool) {
        if *HAS_CORES && let Some(time) = self.next() {
            self.learn(time, look_for(time, is_there));
        }
    }

    /// How long this wait is to look, if at all.
    fn next(&self) -> Option<Duration> {
        if self.credit.load(Relaxed) > 0 {
            return Some(SHORT);
        }
        let skipped = self.skipped.load(Relaxed) + 1;
        let is_due = skipped >= 1 << self.power.load(Relaxed);
        self.skipped.store(if is_due { 0 } else { skipped }, Relaxed);
        is_due.then_some(LONG)
    }

    fn learn(&self, time: Duration, has_come: bool) {
        let [credit, tries, power] = [&self.credit, &self.tries, &self.power].map(|word| word.load(Relaxed));
        let (credit, tries, power) = match (time, has_come) {
            (SHORT, true) => (credit.saturating_add(1).min(CREDIT), tries.saturating_sub(1), 0),
            (SHORT, false) => (credit / 4, tries, power),
            (_, true) if tries < TRIES => (CREDIT, tries + 1, 0),
            (_, true) => (0, 0, MOST),
            (_, false) => (0, tries, (power + 1).min(MOST)),
        };
        self.credit.store(credit, Relaxed);
        self.tries.store(tries, Relaxed);
        self.power.store(power, Relaxed);
    }
}

fn look_for(time: Duration, is_there: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    loop {
        for _ in 0..8 {
            if is_there() {
                return true;
            }
            std::hint::spin_loop();
        }
        if began.elapsed() > time {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the next waits do, if what they look for comes as often as that says.
    fn waits(spin: &Spin, number: usize, comes: impl Fn(Duration) -> bool) -> Vec<Option<Duration>> {
        let one = |_| spin.next().inspect(|time| spin.learn(*time, comes(*time)));
        (0..number).map(one).collect()
    }

    #[test]
    fn what_is_waited_for_a_few_times_is_not_looked_for() {
        assert_eq!(waits(&Spin::default(), 7, |_| true), [None; 7]);
    }

    #[test]
    fn what_never_pays_becomes_rare() {
        let spin = Spin::default();
        let looks: Vec<_> = waits(&spin, 100_000, |_| false).into_iter().flatten().collect();
        // One after each power of two, up to the longest pause.
        assert!(looks.len() <= 9 + 100_000 / (1 << MOST), "{}", looks.len());
        assert!(looks.iter().all(|time| *time == LONG));
    }

    /// Whatever comes too late for a short look, and soon enough for a long one.
    #[test]
    fn what_long_looks_alone_find_becomes_rare() {
        let looks = waits(&Spin::default(), 100_000, |time| time == LONG);
        let count = |time| looks.iter().filter(|look| **look == Some(time)).count();
        let pauses = 1 + 100_000 / (1 << MOST);
        assert!(count(LONG) <= pauses * (TRIES as usize + 1), "{}", count(LONG));
        assert!(count(SHORT) <= 3 * count(LONG), "{}", count(SHORT));
    }

    #[test]
    fn what_pays_is_looked_for_each_time() {
        let looks = waits(&Spin::default(), 1000, |_| true);
        assert_eq!(looks[7], Some(LONG));
        assert!(looks[8..].iter().all(|time| *time == Some(SHORT)));
    }

    /// After a pause short looks find nothing, and the other side is found again by a long one soon.
    #[test]
    fn the_other_side_is_found_again() {
        let spin = Spin::default();
        waits(&spin, 100, |_| true);
        let looks = waits(&spin, 4, |time| time == LONG);
        assert_eq!(looks, [Some(SHORT), Some(SHORT), Some(SHORT), Some(LONG)]);
        assert_eq!(spin.next(), Some(SHORT));
    }
}
