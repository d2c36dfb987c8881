//! Looking again and again for a moment, before sleeping.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

/// Whether it pays to look again for a moment: where the other side runs on another core and answers at once, sleeping and being
/// woken takes twenty times as long as the answer. Where it shares this core, it does not answer before this one sleeps.
///
/// So it is found out: a long look now and then, as seldom as it has failed; and short ones for as long as they succeed. A few that
/// fail in a row are enough for a long one again: after a pause the two sides find each other by that.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    /// Above zero as long as there are short looks: one that succeeds adds to it, one that fails takes most of it.
    credit: AtomicU32,
    /// How many waits there were since the last long look, and how many there are to be, as a power of two.
    skipped: AtomicU32,
    power: AtomicU32,
}

const SHORT: Duration = Duration::from_micros(3);
/// As long as it takes to wake a process on another core, and to hear from it.
const LONG: Duration = Duration::from_micros(100);
const CREDIT: u32 = 16;
const MOST: u32 = 11;

/// Whether anybody can run while this process does: this one may be kept on one core, and the other side on another.
static HAS_CORES: LazyLock<bool> =
    LazyLock::new(|| matches!(sysconf(SysconfVar::_NPROCESSORS_ONLN), Ok(Some(cores)) if cores > 1));

impl Spin {
    /// Looks for something that is not there yet, if that pays.
    pub(crate) fn look(&self, is_there: impl Fn() -> bool) {
        if !*HAS_CORES {
            return;
        }
        let credit = self.credit.load(Relaxed);
        if credit > 0 {
            let change =
                if look_for(SHORT, is_there) { credit.saturating_add(1).min(CREDIT) } else { credit / 4 };
            self.credit.store(change, Relaxed);
            return;
        }
        let (skipped, power) = (self.skipped.load(Relaxed) + 1, self.power.load(Relaxed));
        if skipped < 1 << power {
            self.skipped.store(skipped, Relaxed);
            return;
        }
        self.skipped.store(0, Relaxed);
        if look_for(LONG, is_there) {
            self.credit.store(CREDIT, Relaxed);
            self.power.store(0, Relaxed);
        } else {
            self.power.store((power + 1).min(MOST), Relaxed);
        }
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
