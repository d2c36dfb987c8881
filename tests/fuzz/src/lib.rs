//! What the fuzz targets share: a count of the memory that a piece of code takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with a count of the bytes in use.
///
/// Install it with `#[global_allocator]`. The counts are the program's, so that only one thread may measure.
#[derive(Debug)]
pub struct Meter {
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Meter {
    /// Nothing counted yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a static needs a const fn")]
    pub const fn new() -> Self {
        Self { used: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    /// Runs `work`, and says how many bytes it had in use at most, beyond those in use before.
    pub fn peak_of<T>(&self, work: impl FnOnce() -> T) -> (T, usize) {
        // Relaxed: one thread measures, and what it counts is its own.
        let before = self.used.load(Ordering::Relaxed);
        self.peak.store(before, Ordering::Relaxed);
        let result = work();
        (result, self.peak.load(Ordering::Relaxed).saturating_sub(before))
    }

    fn take(&self, size: usize) {
        let used = self.used.fetch_add(size, Ordering::Relaxed).wrapping_add(size);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    fn give_back(&self, size: usize) {
        self.used.fetch_sub(size, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on as it is to the system's allocator, which keeps the contract.
#[expect(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.give_back(layout.size());
        // SAFETY: the caller vouches that the block came from `alloc`, which is the system's, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}
