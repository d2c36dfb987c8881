//! Memory that processes share, and what the kernel is told of memory.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

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

/// Shared memory, mapped. Bytes go in and out by copies: another process may change them at any time.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: it is memory that no thread has references into; those who copy in have the mapping for themselves, and
// those who copy out use atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the beginning of a memory to copy out of. It must be sealed against being cut short: else another process could
    /// make a copy end this one.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub(crate) fn to_read(memory: impl AsFd, length: usize) -> io::Result<Self> {
        Self::new(memory, length, ProtFlags::READ, MapFlags::SHARED)
    }

    /// Maps the beginning of a memory to copy into, all of it at once.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub(crate) fn to_write(memory: impl AsFd, length: usize) -> io::Result<Self> {
        Self::new(memory, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE)
    }

    /// Maps the beginning of a memory that others write, too: for [`Shared`](super::Shared).
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub(super) fn to_share(memory: impl AsFd, length: usize) -> io::Result<Self> {
        Self::new(memory, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    #[inline]
    pub(super) const fn start(&self) -> *mut u8 {
        self.start.as_ptr().cast()
    }

    fn new(memory: impl AsFd, length: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        // SAFETY: the kernel chooses where, so that no other memory changes.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, flags, memory, 0) }?;
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// Copies bytes in; not if they do not fit.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.length) {
            return false;
        }
        let to = self.start.as_ptr().cast::<u8>().wrapping_add(at);
        // SAFETY: the range lies within the mapping, which was made to be written and which is nobody else's in this
        // process; what other processes read meanwhile is their own concern.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        true
    }

    /// Copies bytes out, into all of `room`, and gives it back; not if there are fewer. The copy is fast where `at` is
    /// a multiple of eight.
    pub(crate) fn read<'a>(&self, at: usize, room: &'a mut [MaybeUninit<u8>]) -> Option<&'a mut [u8]> {
        if at.checked_add(room.len()).is_none_or(|end| end > self.length) {
            return None;
        }
        let from = self.start.as_ptr().cast::<u8>().wrapping_add(at);
        let (mut done, count) = (0, room.len());
        if from.align_offset(align_of::<u64>()) == 0 {
            let (words, _) = room.as_chunks_mut::<8>();
            for word in words {
                // SAFETY: the eight bytes lie within the mapping, are aligned, and are only read, atomically: another
                // process may write them.
                let value = unsafe { AtomicU64::from_ptr(from.wrapping_add(done).cast()) }.load(Relaxed);
                *word = value.to_ne_bytes().map(MaybeUninit::new);
                done += 8;
            }
        }
        for (byte, index) in room[done..].iter_mut().zip(done..count) {
            // SAFETY: as above, for one byte.
            let value = unsafe { AtomicU8::from_ptr(from.wrapping_add(index)) }.load(Relaxed);
            byte.write(value);
        }
        // SAFETY: each byte of it was written above.
        Some(unsafe { room.assume_init_mut() })
    }

    /// Copies its beginning out, into all of a buffer; not if there is less.
    pub(crate) fn copy_to(&self, buffer: &mut [u8]) -> bool {
        let (start, count) = (buffer.as_mut_ptr().cast::<MaybeUninit<u8>>(), buffer.len());
        // SAFETY: bytes may be taken for such as need not be initialised, and `read` writes all of them or none.
        let room = unsafe { std::slice::from_raw_parts_mut(start, count) };
        self.read(0, room).is_some()
    }

    /// Copies bytes out, behind those of a vector; not if there are fewer.
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>, at: usize, count: usize) -> bool {
        let room = bytes.spare_capacity_mut().get_mut(..count);
        if room.and_then(|room| self.read(at, room)).is_none() {
            return false;
        }
        // SAFETY: `count` bytes of the spare capacity were written.
        unsafe { bytes.set_len(bytes.len() + count) };
        true
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing points into it.
        let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    #[test]
    fn bytes_go_in_and_out() {
        let memory = memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 100).unwrap();
        let mut ours = Mapping::to_write(&memory, 100).unwrap();
        let theirs = Mapping::to_read(&memory, 100).unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        assert!(ours.write(0, &bytes));
        for at in 0..=100 {
            for count in 0..=100 - at {
                let mut copy = Vec::with_capacity(100);
                assert!(theirs.append_to(&mut copy, at, count));
                assert_eq!(copy, bytes[at..at + count]);
            }
        }
    }

    #[test]
    fn nothing_beyond_its_end() {
        let memory = memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 100).unwrap();
        let mut mapping = Mapping::to_write(&memory, 100).unwrap();
        assert!(!mapping.write(99, b"xx") && !mapping.write(usize::MAX, b"x") && mapping.write(100, b""));
        let mut copy = Vec::with_capacity(200);
        for (at, count) in [(0, 101), (99, 2), (101, 0), (usize::MAX, 1)] {
            assert!(!mapping.append_to(&mut copy, at, count), "{at}, {count}");
        }
    }
}
