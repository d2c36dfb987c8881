//! Whether this process is a copy of the one that asked before.

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};
use std::sync::{Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// A page that the kernel clears in the child of a `fork(2)`, whoever calls that: `MADV_WIPEONFORK` in `madvise(2)`. It
/// holds the number that [`forks`] gives.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// A number that is another in a copy of this process: what the other one owns is not the copy's.
#[inline]
pub(crate) fn forks() -> u64 {
    let page = PAGE.load(Acquire);
    // SAFETY: it is null, or a page that was made below and is never unmapped.
    match unsafe { page.as_ref() }.map(|page| page.load(Relaxed)) {
        None | Some(0) => count(),
        Some(forks) => forks,
    }
}

/// Counts a fork, or begins to count.
#[cold]
fn count() -> u64 {
    static FORKS: Mutex<u64> = Mutex::new(0);
    let mut forks = FORKS.lock().unwrap_or_else(PoisonError::into_inner);
    if PAGE.load(Acquire).is_null() {
        PAGE.store(new_page().unwrap_or(ptr::null_mut()), Release);
    }
    // SAFETY: as above.
    let Some(page) = (unsafe { PAGE.load(Acquire).as_ref() }) else { return 1 };
    if page.load(Relaxed) == 0 {
        *forks += 1;
        page.store(*forks, Relaxed);
    }
    *forks
}

/// `None` where the system has no memory for it, or is older than Linux 4.14: there a fork is not seen.
fn new_page() -> Option<*mut AtomicU64> {
    const LENGTH: usize = 4096;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses where, so that no other memory changes.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), LENGTH, protection, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the page was just made, is this function's alone, and empty as yet.
    unsafe { madvise(page, LENGTH, Advice::LinuxWipeOnFork) }.ok()?;
    Some(page.cast())
}
