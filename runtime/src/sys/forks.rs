//! Whether this process is a copy of the one that asked before.

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};
use std::sync::{Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// A page that the kernel clears in the child of a `fork(2)`, whoever calls that: `MADV_WIPEONFORK` in `madvise(2)`. It
/// holds the number that [`forks`] gives.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new((&raw const NOTHING).cast_mut());

/// In place of a page, before there is one, and where there can be none: there a fork is not seen.
static NOTHING: AtomicU64 = AtomicU64::new(0);

/// A number that is another in a copy of this process: what the other one owns is not the copy's.
#[inline]
pub(crate) fn forks() -> u64 {
    Forks::page().number()
}

/// The number of [`forks`], at hand for those who look often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forks(&'static AtomicU64);

impl Forks {
    pub(crate) fn get() -> Self {
        // From here on it is a page, if there can be one.
        forks();
        Self::page()
    }

    #[inline]
    fn page() -> Self {
        // SAFETY: it is a static, or a page that was made below and is never unmapped.
        Self(unsafe { &*PAGE.load(Acquire) })
    }

    #[inline]
    pub(crate) fn number(self) -> u64 {
        match self.0.load(Relaxed) {
            0 => count(),
            forks => forks,
        }
    }

    /// Whether this is the process still that has had a number.
    #[inline]
    pub(crate) fn is_still(self, number: u64) -> bool {
        self.0.load(Relaxed) == number
    }
}

/// Counts a fork, or begins to count.
#[cold]
fn count() -> u64 {
    static FORKS: Mutex<u64> = Mutex::new(0);
    let mut forks = FORKS.lock().unwrap_or_else(PoisonError::into_inner);
    if ptr::eq(Forks::page().0, &raw const NOTHING)
        && let Some(page) = new_page()
    {
        PAGE.store(page, Release);
    }
    let Forks(page) = Forks::page();
    if page.load(Relaxed) == 0 {
        *forks += 1;
        page.store(*forks, Relaxed);
    }
    *forks
}

/// `None` where the system has no memory for it, or is older than Linux 4.14.
fn new_page() -> Option<*mut AtomicU64> {
    const LENGTH: usize = 4096;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses where, so that no other memory changes.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), LENGTH, protection, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the page was just made, is this function's alone, and empty as yet.
    unsafe { madvise(page, LENGTH, Advice::LinuxWipeOnFork) }.ok()?;
    Some(page.cast())
}
