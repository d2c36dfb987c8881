//! What the kernel is told of memory.

use std::mem::MaybeUninit;

use rustix::mm::{Advice, madvise};

/// The size of a large page, and of the largest that there is everywhere else.
const LARGE: usize = 2 << 20;

/// Asks for large pages for memory that is about to be filled: a page of four kibibytes costs a fault, which costs more
/// than its bytes. See `MADV_HUGEPAGE` in `madvise(2)`; where the kernel has none, nothing changes.
pub(crate) fn prefer_large_pages(room: &mut [MaybeUninit<u8>]) {
    let start = room.as_mut_ptr();
    let skipped = start.align_offset(LARGE);
    let Some(length) = room.len().checked_sub(skipped).map(|length| length - length % LARGE) else { return };
    if length > 0 {
        let start = start.wrapping_add(skipped);
        // SAFETY: the range lies within `room`, and the advice changes no byte of it, only what pages it is made of.
        let _ = unsafe { madvise(start.cast(), length, Advice::LinuxHugepage) };
    }
}
