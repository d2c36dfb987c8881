//! Waiting for what happens outside of this process, where there is nothing to wait on but a look.
//!
//! A limit here is a watchdog: generous, and reached only by a defect. [`patience`] stretches all of them.

use std::env;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::proc::info;

/// The environment variable that multiplies all time limits, for slow machines: `PROCESSION_TESTS_PATIENCE=4`.
const PATIENCE: &str = "PROCESSION_TESTS_PATIENCE";
/// The first pause between two looks; each is twice the one before it.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// How long [`in_time`] waits.
const IN_TIME: Duration = Duration::from_secs(40);
/// How long [`wait_until_gone`] waits.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// A time limit, stretched by the factor in `PROCESSION_TESTS_PATIENCE`.
///
/// # Panics
/// If the variable is set to something other than a whole number above zero.
#[must_use]
pub fn patience(limit: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        let value = env::var(PATIENCE).unwrap_or_else(|_unset| "1".to_owned());
        let factor = value.parse().ok().filter(|factor| *factor > 0);
        factor.unwrap_or_else(|| panic!("{PATIENCE} is {value:?}, not a whole number above zero"))
    });
    limit.saturating_mul(*FACTOR)
}

/// Returns as soon as the condition holds, looking every few milliseconds. Blocks the thread.
///
/// # Panics
/// If it does not hold within the limit, naming the caller's line.
#[track_caller]
pub fn eventually(limit: Duration, condition: impl FnMut() -> bool) {
    if !holds_within(limit, condition) {
        not_within(limit, Location::caller());
    }
}

/// As [`eventually`], but lets the runtime go on between two looks.
///
/// The limit is real time, also where tokio's clock is paused.
///
/// # Panics
/// If the condition does not hold within the limit, naming the caller's line.
#[track_caller]
pub fn eventually_async(limit: Duration, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let mut looks = Looks::new(limit);
        while !condition() {
            let Some(pause) = looks.next() else { not_within(limit, caller) };
            tokio::time::sleep(pause).await;
        }
    }
}

/// What a future gives, or the end of the test.
///
/// When the limit is over the future is not polled once more, as it is by `tokio::time::timeout`: one that has missed its wake-up
/// would find then what it waits for.
///
/// # Panics
/// If it is not ready within the limit, naming the caller's line.
#[track_caller]
pub fn within<F: Future>(limit: Duration, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let (mut future, mut over) = (pin!(future), pin!(tokio::time::sleep(patience(limit))));
        poll_fn(|context| {
            if over.as_mut().poll(context).is_ready() {
                not_within(limit, caller);
            }
            future.as_mut().poll(context)
        })
        .await
    }
}

/// What a future gives that comes at once where nothing is broken: [`within`] what a busy machine may take for that.
///
/// # Panics
/// If it does not come in time, naming the caller's line.
#[track_caller]
pub fn in_time<F: Future>(future: F) -> impl Future<Output = F::Output> {
    within(IN_TIME, future)
}

/// Returns as soon as there is no process with this id: it has ended and was reaped.
///
/// # Panics
/// If it is still there after ten seconds, alive or as a zombie.
#[track_caller]
pub fn wait_until_gone(pid: u32) {
    let mut last = None;
    let is_gone = || {
        last = info(pid);
        last.is_none()
    };
    if !holds_within(GONE_LIMIT, is_gone) {
        panic!(
            "not gone within {GONE_LIMIT:?}: {}",
            last.map(|process| process.to_string()).unwrap_or_default()
        );
    }
}

/// Whether the condition holds before the limit is over.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let mut looks = Looks::new(limit);
    while !condition() {
        let Some(pause) = looks.next() else { return false };
        thread::sleep(pause);
    }
    true
}

fn not_within(limit: Duration, caller: &Location<'_>) -> ! {
    panic!("what {caller} waits for did not happen within {:?}", patience(limit))
}

/// The pauses between looks, until the limit is over.
struct Looks {
    deadline: Instant,
    pause: Duration,
}

impl Looks {
    fn new(limit: Duration) -> Self {
        Self { deadline: Instant::now() + patience(limit), pause: FIRST_PAUSE }
    }
}

impl Iterator for Looks {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.pause;
        self.pause = LONGEST_PAUSE.min(pause * 2);
        (Instant::now() < self.deadline).then_some(pause)
    }
}
