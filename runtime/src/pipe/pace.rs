//! Whether messages come in a run.

use std::time::{Duration, Instant};

/// Messages that follow one another faster than this are a run: gathering them costs less than writing each.
const QUICK: Duration = Duration::from_micros(20);

/// How many must have done so. What comes alone, or in a handful, is written at once.
const RUN: u32 = 8;

/// In a run the clock is looked at once in so many messages: a look costs as much as the rest.
const STRIDE: u32 = 8;

/// How messages have come.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    quick: u32,
    /// Messages that are taken to belong to the run.
    unseen: u32,
}

impl Pace {
    /// What was taken for a run was none.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// One more has come; whether it belongs to a run. What came before may still wait for more.
    pub(super) fn is_run(&mut self, waits: bool) -> bool {
        if self.unseen > 0 && waits {
            self.unseen -= 1;
            return true;
        }
        let now = Instant::now();
        let messages = if self.quick >= RUN { STRIDE - self.unseen } else { 1 };
        let is_quick = self.last.is_some_and(|last| now - last < messages * QUICK);
        self.last = Some(now);
        self.quick = if is_quick { self.quick.saturating_add(1) } else { 0 };
        let is_run = self.quick >= RUN;
        if is_run {
            self.unseen = STRIDE - 1;
        }
        is_run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handful_is_no_run() {
        let mut pace = Pace::default();
        assert!((0..RUN).all(|_| !pace.is_run(true)));
    }

    #[test]
    fn a_pause_ends_a_run() {
        let mut pace = Pace { last: Some(Instant::now() + Duration::from_secs(3600)), quick: RUN, unseen: 0 };
        assert!((0..STRIDE).all(|_| pace.is_run(true)), "time that runs back is no pause");
        pace.last = Instant::now().checked_sub(2 * STRIDE * QUICK);
        assert!(!pace.is_run(true));
    }

    #[test]
    fn the_clock_is_looked_at_when_nothing_waits() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(1));
        let mut pace = Pace { last: long_ago, quick: RUN, unseen: STRIDE - 1 };
        assert!(!pace.is_run(false));
    }
}
