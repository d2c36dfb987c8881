//! What the tests of Procession have in common: each body in a process of its own, and a leak check after it.
//!
//! ```no_run
//! procession_tests::isolated! {
//!     /// PR10: `kill()` ends a process, and nothing of it stays.
//!     async fn pr10_kill() {
//!         // ...
//!     }
//! }
//! ```
//!
//! [`isolated!`] describes the forms of a test and what is checked. The rest of this crate is what bodies
//! need: a look at processes ([`children_of`], [`fork_servers_of`], [`descendants_of`], [`state`]), at the test's own
//! process ([`open_fds`], [`threads`], [`shared_mappings`]), and waiting for what happens outside of it
//! ([`eventually`], [`wait_until_gone`]).
//!
//! # Under both start methods
//!
//! Each body runs twice, as a test for each [`StartMethod`]: `pr10_kill::fork_server` and `pr10_kill::spawn`. The method is
//! the default of the inner process and of all that this starts by Procession; other programs learn it from their
//! environment, and use it if they call [`take_start_method`]. A body to which it makes no difference is `#[once]`.
//!
//! # A test's three processes
//!
//! | process | is | does |
//! |---|---|---|
//! | outer | what `cargo test` or nextest runs | starts the keeper, shows the output, gives the verdict |
//! | keeper | the same binary, run again | adopts orphans and reaps them as init would; kills what is left |
//! | inner | the same binary, once more | warms up, counts, runs the body, counts again |
//!
//! Between inner and outer stands the keeper because an orphan would otherwise end as a zombie of the inner
//! process, which did not start it and has no reason to reap it; so a zombie is always the fault of the body.

mod census;
mod example;
mod family;
mod files;
mod inner;
mod isolated;
mod keeper;
mod kernel;
mod leaver;
mod marker;
mod meeting;
mod method;
mod outcome;
mod outer;
mod own;
mod proc;
mod repetitions;
mod skip;
mod wait;
mod warm_up;
mod watchdog;

pub use example::example;
pub use isolated::Isolated;
pub use kernel::{remembers_ends, signals_groups};
pub use leaver::has_a_child_that_leaves;
pub use meeting::{arrive, has_arrived};
pub use method::take_start_method;
pub use outcome::{NotPassed, Outcome, Verdict};
pub use own::{open_fds, shared_mappings, threads};
pub use proc::{ProcInfo, children_of, descendants_of, fork_servers_of, info, state};
/// What [`under_both!`] gives to a test.
pub use procession::StartMethod;
pub use repetitions::repetitions;
pub use skip::{is_root, needing, succeeds};
pub use wait::{eventually, eventually_async, in_time, patience, wait_until_gone, within};
pub use warm_up::warm_up;
