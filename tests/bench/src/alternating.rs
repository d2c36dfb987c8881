//! Comparing two contenders on a machine that others use too.

use std::array::from_fn;
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
    /// Between which multiples of the second the first took in half of the rounds.
    pub spread: [f64; 2],
}

impl Comparison {
    fn of(firsts: Vec<Duration>, seconds: Vec<Duration>) -> Self {
        let ratio = |(first, second): (&Duration, &Duration)| first.as_secs_f64() / second.as_secs_f64();
        let mut ratios: Vec<_> = firsts.iter().zip(&seconds).map(ratio).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let quarter = |quarters| ratios.get(quarters * ratios.len() / 4).copied().unwrap_or_default();
        Self { spread: [quarter(1), quarter(3)], first: median(firsts), second: median(seconds) }
    }

    /// The first's median as a multiple of the second's.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.first.as_secs_f64() / self.second.as_secs_f64()
    }

    /// The same, where each round was so many of what is compared.
    #[must_use]
    pub fn of_each(self, count: u64) -> Self {
        let each = |all: Duration| all.div_f64(count as f64);
        Self { first: each(self.first), second: each(self.second), ..self }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, second, spread: [low, high] } = self;
        write!(f, "{:.2}, half of them {low:.2} to {high:.2} ({first:.1?} / {second:.1?})", self.ratio())
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
    let [comparison] = compare_all(rounds, || [first()], || [second()]);
    comparison
}

/// The same, for several times that each gives of one run.
pub fn compare_all<const N: usize>(
    rounds: usize,
    mut first: impl FnMut() -> [Duration; N],
    mut second: impl FnMut() -> [Duration; N],
) -> [Comparison; N] {
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
    let one = |times: &[[Duration; N]], of: usize| times.iter().map(|times| times[of]).collect();
    from_fn(|of| Comparison::of(one(&firsts, of), one(&seconds, of)))
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
