//! Shared memory that processes write at the same time: atomics, and nothing else.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use super::memory::Mapping;
use crate::shared::words::{Lock, Wait};

/// Memory that others may write at any time. What points into it are atomics, for which any bytes are a value.
#[derive(Debug)]
pub(crate) struct Shared(Mapping);

/// What may be laid over shared memory.
///
/// # Safety
/// It consists of atomics alone, in the order in which they are declared, and has no padding.
pub(crate) unsafe trait Overlay {}

// SAFETY: it is one.
unsafe impl Overlay for AtomicU8 {}
// SAFETY: it is one.
unsafe impl Overlay for AtomicU16 {}
// SAFETY: it is one.
unsafe impl Overlay for AtomicU32 {}
// SAFETY: it is one.
unsafe impl Overlay for AtomicU64 {}
// SAFETY: it is a transparent `AtomicU64`.
unsafe impl Overlay for Wait {}
// SAFETY: it is three `AtomicU64`, `repr(C)`.
unsafe impl Overlay for Lock {}

impl Shared {
    /// Maps all of a memory. It must be sealed against being cut short.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub(crate) fn map(memory: impl AsFd, length: usize) -> io::Result<Self> {
        Mapping::to_share(memory, length).map(Self)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// What lies at a place; `None` if it is not wholly there, or not aligned.
    pub(crate) fn at<T: Overlay>(&self, at: usize) -> Option<&T> {
        self.all_at(at, 1)?.first()
    }

    /// What lies at a place, one after another.
    pub(crate) fn all_at<T: Overlay>(&self, at: usize, count: usize) -> Option<&[T]> {
        let length = count.checked_mul(size_of::<T>())?;
        let start = self.range(at, length)?.cast::<T>();
        // SAFETY: the range lies within the mapping, which lives as long as `self`; it is aligned; and whatever its bytes are,
        // they are values of atomics, which other processes may change, too.
        start.is_aligned().then(|| unsafe { std::slice::from_raw_parts(start, count) })
    }

    fn range(&self, at: usize, length: usize) -> Option<*mut u8> {
        (at.checked_add(length)? <= self.len()).then(|| self.0.start().wrapping_add(at))
    }
}
