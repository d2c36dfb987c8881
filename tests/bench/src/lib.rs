//! What the benchmarks have in common: the least that things can cost ([`limit`]), a measure that a busy machine
//! does not blur ([`compare`]), and what a process has in memory ([`settled_memory_of`]).
//!
//! | command | shows |
//! |---|---|
//! | `cargo bench -p procession-bench --bench start` | a start, a number in, one out, the exit seen; its ratio to the limit |
//! | `cargo bench -p procession-bench --bench warm` | a number in, one out, where the process is there already |
//! | `cargo bench -p procession-bench --bench pipes` | messages through pipes: round trips, one way, long bodies, handles |
//! | `cargo bench -p procession-bench --bench shared` | locks, events, barriers and blobs in shared memory; what a death costs the next owner |
//! | `cargo bench -p procession-bench --bench mailboxes` | messages through mailboxes: round trips, hot and from sleep, one way, many that send and receive |
//! | `cargo bench -p procession-bench --bench pool` | tasks in a pool: trivial ones, long ones, large ones; how their cost develops with their number |
//! | `cargo bench -p procession-bench --bench idle` | the memory of a child that waits |
//!
//! Times differ from machine to machine and from hour to hour. What counts are ratios within one run.

mod alternating;
mod contender;
mod cores;
mod crowd;
pub mod limit;
mod memory;

pub use alternating::{Comparison, compare, compare_all, median_of, time};
pub use contender::{Contender, Peer, cost, cost_after_pauses, same};
pub use cores::{Cores, Pinned, stay_on};
pub use crowd::{Crowd, each_time};
pub use memory::{Memory, settled_memory_of};
