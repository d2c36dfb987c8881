//! Which cores two processes run on. What a message costs differs several times over between one core and two, so
//! that neither is left to chance.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Where this process and a child run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// Both on one.
    One,
    /// Each on its own, where there are two.
    Two,
}

impl Cores {
    /// The core of this process's thread.
    ///
    /// # Errors
    /// Those of `sched_getaffinity(2)`.
    pub fn here(self) -> io::Result<usize> {
        allowed()?.first().copied().ok_or_else(none)
    }

    /// The core of the child's.
    ///
    /// # Errors
    /// Those of `sched_getaffinity(2)`.
    pub fn there(self) -> io::Result<usize> {
        let cores = allowed()?;
        let core = if self == Self::One { cores.first() } else { cores.last() };
        core.copied().ok_or_else(none)
    }
}

fn none() -> io::Error {
    io::Error::other("this thread may run on no core")
}

fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core) == Ok(true)).collect())
}

/// Keeps this thread on one core from now on: what a child does with the core that it is told.
///
/// # Errors
/// Those of `sched_setaffinity(2)`.
pub fn stay_on(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// This thread on one core, until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Keeps this thread on a core.
    ///
    /// # Errors
    /// Those of `sched_setaffinity(2)`.
    pub fn to(core: usize) -> io::Result<Self> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        stay_on(core)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It could do so before.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}
