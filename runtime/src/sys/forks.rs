//! Whether this process is a copy of the one that asked before.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// A page that the kernel clears in the child of a `fork(2)`, whoever calls that. See `MADV_WIPEONFORK` in `madvise(2)`.
struct Page(&'static AtomicU32);

impl Page {
    const LENGTH: usize = 4096;

    /// `None` where the system has no memory for it, or is older than Linux 4.14.
    fn new() -> Option<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses where, so that no other memory changes.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), Self::LENGTH, protection, MapFlags::PRIVATE) }
                .ok()?;
        // SAFETY: the page was just made, is this function's alone, and empty as yet.
        unsafe { madvise(start, Self::LENGTH, Advice::LinuxWipeOnFork) }.ok()?;
        // SAFETY: it is aligned, never unmapped, and an atomic from now on.
        Some(Self(unsafe { AtomicU32::from_ptr(start.cast()) }))
    }
}

/// How many forks lie between this process and the one that asked first. Another number than before means: this is a
/// copy, and what the other one owns is not this one's.
pub(crate) fn forks() -> u64 {
    static PAGE: OnceLock<Option<Page>> = OnceLock::new();
    static FORKS: AtomicU64 = AtomicU64::new(0);
    let Some(page) = PAGE.get_or_init(Page::new) else { return 0 };
    if page.0.load(Relaxed) == 0 && page.0.swap(1, Relaxed) == 0 {
        FORKS.fetch_add(1, Relaxed);
    }
    FORKS.load(Relaxed)
}
