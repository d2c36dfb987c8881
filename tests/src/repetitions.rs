//! How often tests repeat what may go wrong once in a long time.

use std::env;

/// The factor by which tests repeat such things more often: one, or what `PROCESSION_REPETITIONS` says, as in `.ci/chaos`.
///
/// # Panics
/// If that is no number.
#[must_use]
pub fn repetitions() -> u64 {
    env::var("PROCESSION_REPETITIONS").map_or(1, |factor| factor.parse().expect("a whole number"))
}
