//! Shared memory that processes write at the same time: atomics, and nothing else.

use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::memory::Mapping;
use crate::shared::words::{Ends, Flag, Lock, Notices, Round, Wait};

/// Memory that others may write at any time. What points into it are atomics, for which any bytes are a value.
#[derive(Debug)]
pub(crate) struct Shared(Mapping);

/// What may be laid over shared memory.
///
/// # Safety
/// It consists of atomics alone, in the order in which they are declared, and has no padding.
pub(crate) unsafe trait Overlay {}

// SAFETY: it is one.
unsafe impl Overlay for AtomicU64 {}
// SAFETY: so are its elements, and there is nothing between them.
unsafe impl<T: Overlay, const N: usize> Overlay for [T; N] {}
// SAFETY: it is a transparent `AtomicU64`.
unsafe impl Overlay for Wait {}
// SAFETY: it is three `AtomicU64`, `repr(C)`.
unsafe impl Overlay for Lock {}
// SAFETY: it is two `AtomicU64`, `repr(C)`.
unsafe impl Overlay for Flag {}
// SAFETY: it is three `AtomicU64`, `repr(C)`.
unsafe impl Overlay for Round {}
// SAFETY: it is two `AtomicU64`, `repr(C)`.
unsafe impl Overlay for Notices {}

// SAFETY: it is sixteen `AtomicU64`, `repr(C)`.
unsafe impl Overlay for Ends {}

impl Shared {
    /// Maps all of a memory. It must be sealed against being cut short.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub(crate) fn map(memory: impl AsFd, length: usize) -> io::Result<Self> {
        Mapping::to_share(memory, length).map(Self)
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// What lies at a place, for as long as it is wanted; `None` as in [`at`](Self::at).
    pub(crate) fn place<T: Overlay>(self: &Arc<Self>, at: usize) -> Option<Place<T>> {
        Some(Place { pointer: self.at::<T>(at)?.into(), _memory: Arc::clone(self) })
    }

    /// What lies at a place, one after another, for as long as it is wanted.
    pub(crate) fn places<T: Overlay>(self: &Arc<Self>, at: usize, count: usize) -> Option<Places<T>> {
        Some(Places { pointer: self.all_at::<T>(at, count)?.into(), _memory: Arc::clone(self) })
    }

    /// All of it, word by word.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.all_at(0, self.len() / size_of::<AtomicU64>()).unwrap_or_default()
    }

    /// What lies at a place; `None` if it is not wholly there, or not aligned.
    #[inline]
    pub(crate) fn at<T: Overlay>(&self, at: usize) -> Option<&T> {
        self.all_at(at, 1)?.first()
    }

    /// What lies at a place, one after another.
    #[inline]
    pub(crate) fn all_at<T: Overlay>(&self, at: usize, count: usize) -> Option<&[T]> {
        let length = count.checked_mul(size_of::<T>())?;
        let start = self.range(at, length)?.cast::<T>();
        // SAFETY: the range lies within the mapping, which lives as long as `self`; it is aligned; and whatever its bytes are,
        // they are values of atomics, which other processes may change, too.
        start.is_aligned().then(|| unsafe { std::slice::from_raw_parts(start, count) })
    }

    #[inline]
    fn range(&self, at: usize, length: usize) -> Option<*mut u8> {
        (at.checked_add(length)? <= self.len()).then(|| self.0.start().wrapping_add(at))
    }
}

/// What lies at a place in shared memory, and that memory with it.
#[derive(Debug)]
pub(crate) struct Place<T> {
    pointer: NonNull<T>,
    _memory: Arc<Shared>,
}

// SAFETY: it gives references to atomics, in memory that stays where it is.
unsafe impl<T: Overlay> Send for Place<T> {}
// SAFETY: as above.
unsafe impl<T: Overlay> Sync for Place<T> {}

impl<T: Overlay> Deref for Place<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: it was made of a reference into the mapping, which lives as long as this.
        unsafe { self.pointer.as_ref() }
    }
}

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        Self { pointer: self.pointer, _memory: Arc::clone(&self._memory) }
    }
}

/// What lies at a place in shared memory, one after another, and that memory with it.
#[derive(Debug)]
pub(crate) struct Places<T> {
    pointer: NonNull<[T]>,
    _memory: Arc<Shared>,
}

// SAFETY: it gives references to atomics, in memory that stays where it is.
unsafe impl<T: Overlay> Send for Places<T> {}
// SAFETY: as above.
unsafe impl<T: Overlay> Sync for Places<T> {}

impl<T: Overlay> Deref for Places<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: it was made of a reference into the mapping, which lives as long as this.
        unsafe { self.pointer.as_ref() }
    }
}

impl<T> Clone for Places<T> {
    fn clone(&self) -> Self {
        Self { pointer: self.pointer, _memory: Arc::clone(&self._memory) }
    }
}
