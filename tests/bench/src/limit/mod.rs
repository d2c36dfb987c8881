//! The least that things can cost: what ours are measured beside. Nothing here guards anything, and nobody would be
//! told of a death.
//!
//! | limit | of what |
//! |---|---|
//! | [`square`], [`Child`] | a start by `execve(2)`: `tokio::process::Command` |
//! | [`Server`] | a start by `fork(2)`, in a process that does nothing else |
//! | [`Forks`] | a `fork(2)` alone |
//! | [`RoundTrip`] | a call to a process that is there already |
//! | [`FramedRoundTrip`], [`FramedOneWay`] | small messages: frames on tokio's socket |
//! | [`Streamed`] | long bodies on a socket: `write_all` and `read_exact` |
//! | [`Slabs`] | long bodies at all: memory that both processes keep mapped |
//! | [`Rights`] | a descriptor: `SCM_RIGHTS` |
//! | [`FutexLock`], [`FutexCounts`] | a lock in shared memory: a futex |
//! | [`Rings`] | to wake a task of another process: an eventfd and `AsyncFd` |
//! | [`Rounds`] | tasks that wait for each other: a count in shared memory, an eventfd and `AsyncFd` for each |
//! | [`Words`] | the same where both look for a while before they sleep |
//! | [`Queue`] | messages of many to many: a ring in shared memory, and eventfds for those that sleep |
//! | [`HandedMemory`] | memory handed over as it is: `SCM_RIGHTS` and `mmap(2)` |
//!
//! The first four run this program once more, with an argument by which [`was_child`] knows it. The child of the others
//! is one of ours: what is measured is the way between two processes that are there, not how they came to be.

mod command;
mod eventfd;
mod fork;
mod frames;
mod futex;
mod handed;
mod link;
mod message;
mod queue;
mod rights;
mod round_trip;
mod rounds;
mod serve;
mod server;
mod slab;
mod stream;
mod system;
mod words;

use std::io;
use std::process::ExitStatus;

pub use command::{Child, square};
pub use eventfd::{Rings, answer_rings, watched};
pub use fork::Forks;
pub use frames::{FramedOneWay, FramedRoundTrip, echo_frames, take_frames};
pub use futex::{FutexCounts, FutexLock, FutexLocks, count_by_futex};
pub use handed::{HandedMemory, map_memory};
pub use link::Answers;
pub use queue::{Queue, SharedQueue};
pub use rights::{Rights, echo_rights};
pub use round_trip::RoundTrip;
pub use rounds::{Rounds, meet};
pub use server::{Forked, Server};
pub use slab::{SharedSlabs, Slabs, empty_slabs};
pub use stream::{Streamed, read_bodies};
pub use words::{SharedWords, Words, answer_words};

/// Does a child's part and gives `true`, if this process is a child of a limit. The first line of `main`.
///
/// # Errors
/// If the parent has gone, or the system refuses what the part needs.
pub fn was_child() -> io::Result<bool> {
    let argument = std::env::args_os().nth(1).unwrap_or_default();
    let done = match argument.to_str() {
        Some(command::ONE_ANSWER) => command::answer(Answers::One),
        Some(command::MANY_ANSWERS) => command::answer(Answers::Many),
        Some(fork::MARKER) => fork::measure(),
        Some(server::MARKER) => serve::serve(),
        _ => return Ok(false),
    };
    done.map(|()| true)
}

fn checked(status: ExitStatus) -> io::Result<()> {
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// What was read, or that the other side has closed.
fn unless_closed<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
