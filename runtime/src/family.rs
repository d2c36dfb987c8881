//! The children of this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;

use crate::child::Child;

/// Those that have not ended, in the order of their birth, and how many were born.
#[derive(Debug)]
struct Family {
    born: u64,
    living: BTreeMap<u64, Arc<Child>>,
}

static FAMILY: Mutex<Family> = Mutex::new(Family { born: 0, living: BTreeMap::new() });

fn family() -> MutexGuard<'static, Family> {
    FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child's place in the family, given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Membership(u64);

impl Membership {
    pub(crate) fn of(child: &Arc<Child>) -> Self {
        let mut family = family();
        family.born += 1;
        let number = family.born;
        family.living.insert(number, Arc::clone(child));
        Self(number)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // Dropped outside of the lock: it may be the last to hold the child.
        let child = family().living.remove(&self.0);
        drop(child);
    }
}

/// A child of this process that has not ended: one of [`children`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it is one that nobody waits for at the end: see [`Call::daemon`](crate::Call::daemon).
    pub daemon: bool,
}

/// The children of this process that have not ended, the oldest first. Python's `multiprocessing.active_children`.
///
/// One that has ended leaves the list by itself, without a `join`.
#[must_use]
pub fn children() -> Vec<ChildInfo> {
    let info =
        |child: &Arc<Child>| ChildInfo { name: child.name.clone(), pid: child.pid(), daemon: child.daemon };
    family().living.values().map(info).collect()
}

/// Waits until all children that are not daemons have ended, those too that are started meanwhile; then ends the
/// daemons, and waits for them.
///
/// Python does this when its main program ends. Here `main` says so, or carries
/// [`#[procession::main]`](macro@crate::main): a bare `main` that returns ends all children at once.
///
/// # Cancel safety
/// Safe: the children go on when this is dropped, and it can be called again.
pub async fn join_children() {
    // A child leaves the family before it is told that it has ended: it is not found twice.
    while let Some(child) = oldest(|child| !child.daemon) {
        drop(child.wait().await);
    }
    while let Some(child) = oldest(|_| true) {
        // An error means that it is another user's now; there is nothing but to wait for it.
        drop(child.signal(Signal::KILL));
        drop(child.wait().await);
    }
}

fn oldest(which: impl Fn(&Child) -> bool) -> Option<Arc<Child>> {
    family().living.values().find(|child| which(child)).map(Arc::clone)
}
