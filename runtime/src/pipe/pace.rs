//! Whether messages come in a run.

use std::time::{Duration, Instant};

/// Messages that follow one another faster than this are a run: gathering them costs less than writing each.
const QUICK: Duration = Duration::from_micros(20);

/// How many must have done so. What comes alone, or in a handful, is written at once.
const RUN: u32 = 8;

/// How messages have come.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    quick: u32,
}

impl Pace {
    /// One more has come; whether it belongs to a run.
    pub(super) fn is_run(&mut self) -> bool {
        let now = Instant::now();
        let is_quick = self.last.is_some_and(|last| now - last < QUICK);
        self.last = Some(now);
        self.quick = if is_quick { self.quick.saturating_add(1) } else { 0 };
        self.quick >= RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handful_is_no_run() {
        let mut pace = Pace::default();
        assert!((0..RUN).all(|_| !pace.is_run()));
    }

    #[test]
    fn a_pause_ends_a_run() {
        let mut pace = Pace { last: Some(Instant::now() + Duration::from_secs(3600)), quick: RUN };
        assert!(pace.is_run(), "time that runs back is no pause");
        pace.last = Instant::now().checked_sub(2 * QUICK);
        assert!(!pace.is_run());
    }
}
