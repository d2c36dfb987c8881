//! Bytes of a region that hold a value.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use crate::sys::Shared;

/// A place in shared memory, for a value of plain data: see [`Plain`](super::Plain). Others may write it at any time, so that it is
/// read and written number by number, atomically.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    shared: &'a Shared,
    at: usize,
}

/// Numbers of one size: what is read where it does not lie within the region, or is not aligned, is zero.
macro_rules! numbers {
    ($($load:ident, $store:ident: $number:ty, $atomic:ty;)*) => {$(
        #[doc(hidden)]
        #[inline]
        #[must_use]
        pub fn $load(self) -> $number {
            self.shared.at::<$atomic>(self.at).map_or(0, |cell| cell.load(Relaxed))
        }

        #[doc(hidden)]
        #[inline]
        pub fn $store(self, value: $number) {
            if let Some(cell) = self.shared.at::<$atomic>(self.at) {
                cell.store(value, Relaxed);
            }
        }
    )*};
}

impl<'a> Cells<'a> {
    pub(super) const fn new(shared: &'a Shared, at: usize) -> Self {
        Self { shared, at }
    }

    /// The place so many bytes behind this one.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub const fn behind(self, bytes: usize) -> Self {
        Self { shared: self.shared, at: self.at.saturating_add(bytes) }
    }

    numbers! {
        load_u8, store_u8: u8, AtomicU8;
        load_u16, store_u16: u16, AtomicU16;
        load_u32, store_u32: u32, AtomicU32;
        load_u64, store_u64: u64, AtomicU64;
    }
}
