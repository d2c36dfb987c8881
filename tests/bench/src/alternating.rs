//! Comparing two contenders on a machine that others use too.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// The medians of two contenders that took turns.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// What the first took.
    pub first: Duration,
    /// What the second took.
    pub second: Duration,
}

impl Comparison {
    /// The first's median as a multiple of the second's.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.first.as_secs_f64() / self.second.as_secs_f64()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (self.first.as_micros(), self.second.as_micros());
        write!(f, "{:.2} ({first} us / {second} us)", self.ratio())
    }
}

/// Runs two contenders in turns, `rounds` times each: whatever slows the machine down for a while slows both.
/// Each gives the time that it took. Which goes first changes from round to round, so that neither always follows
/// the other.
pub fn compare(
    rounds: usize,
    mut first: impl FnMut() -> Duration,
    mut second: impl FnMut() -> Duration,
) -> Comparison {
    let (mut firsts, mut seconds) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for round in 0..rounds {
        if round % 2 == 0 {
            firsts.push(first());
            seconds.push(second());
        } else {
            seconds.push(second());
            firsts.push(first());
        }
    }
    Comparison { first: median(firsts), second: median(seconds) }
}

/// The median of one that need not take turns, because it stands for itself.
pub fn median_of(rounds: usize, mut one: impl FnMut() -> Duration) -> Duration {
    median((0..rounds).map(|_| one()).collect())
}

/// How long a future takes.
pub fn time(runtime: &Runtime, run: impl Future<Output = ()>) -> Duration {
    let start = Instant::now();
    runtime.block_on(run);
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
