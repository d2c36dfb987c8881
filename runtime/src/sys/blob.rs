//! Bytes that nobody can change any more, in memory that processes share.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use rustix::fs::{SealFlags, SeekFrom, fstat, seek};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

use crate::wire::memory::seals_of;

/// What keeps bytes as they are, and as many as they are, for ever: a seal cannot be taken off.
pub(crate) const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// All bytes of a sealed memory, mapped to be read.
///
/// Nothing is read ahead: a page is looked up when it is first touched, so that mapping takes the same time at any length.
#[derive(Debug)]
pub(crate) struct SealedBytes {
    /// The beginning of the mapping; without a meaning where the length is zero.
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is memory that nobody writes, and that any thread can unmap.
unsafe impl Send for SealedBytes {}
// SAFETY: as above.
unsafe impl Sync for SealedBytes {}

impl SealedBytes {
    /// Maps a memory, if it is one that nobody can change.
    ///
    /// # Errors
    /// Why it is none; those of `mmap(2)`.
    pub(crate) fn map(memory: impl AsFd) -> io::Result<Self> {
        let length = sealed_length(memory.as_fd())?;
        if length == 0 {
            return Ok(Self { start: NonNull::dangling(), length });
        }
        // A private mapping has the memory's own pages as long as nobody writes, and nobody does. A shared one of memory that is
        // sealed against writing is refused before Linux 6.7.
        // SAFETY: the kernel chooses where, so that no other memory changes.
        let start =
            unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, memory, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }
}

impl Deref for SealedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `map` has mapped so many bytes, or there are none. They stay as they are while they are borrowed, whoever has
        // sent them and whatever he does: the kernel has told that the memory is sealed, so that no process has it mapped to
        // be written, nor ever will, none can write into it otherwise, and it stays as long as it is. This process's mapping is
        // private and to be read only, and goes with this value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for SealedBytes {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping is this value's, and what has borrowed its bytes has borrowed this value.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

/// How long a memory is that nobody can change, and all of which is there.
fn sealed_length(memory: BorrowedFd<'_>) -> io::Result<usize> {
    // Among them against writing, and not for the future alone: that lets mappings live that were there before.
    if !seals_of(memory)?.contains(SEALS) {
        return Err(other("it is not sealed"));
    }
    // No other length counts than this, which the seals keep.
    let stat = fstat(memory)?;
    let (Ok(length), Ok(blocks)) = (u64::try_from(stat.st_size), u64::try_from(stat.st_blocks)) else {
        return Err(other("it has no length"));
    };
    // Who reads a hole makes a page for it, which can fail, and is his own: a stranger could have us make many.
    if !is_all_there(memory, length, blocks)? {
        return Err(other("it has holes"));
    }
    usize::try_from(length).map_err(|_too_long| other("it is longer than memory can be"))
}

/// Whether each page of a sealed memory is there, which it then stays.
fn is_all_there(memory: BorrowedFd<'_>, length: u64, blocks: u64) -> io::Result<bool> {
    /// The unit of `st_blocks`, whatever the block size is; see `inode(7)`.
    const BLOCK: u64 = 512;

    // Among the blocks are those beyond the end, which are no part of the bytes: `FALLOC_FL_KEEP_SIZE` makes such.
    if let Some(beyond) = pages_beyond(memory, length) {
        let beyond = beyond.saturating_mul(page_size() as u64);
        return Ok(blocks.saturating_mul(BLOCK).saturating_sub(beyond) >= length);
    }
    has_no_hole(memory, length)
}

/// The same, by looking at each page: some 20 ms for a gigabyte. It moves the position, too.
fn has_no_hole(memory: BorrowedFd<'_>, length: u64) -> io::Result<bool> {
    let whole = length == 0 || seek(memory, SeekFrom::Hole(0))? == length;
    seek(memory, SeekFrom::Start(0))?;
    Ok(whole)
}

/// How many pages a memory has beyond its end, in memory or swapped out; `None` where the kernel does not tell. For a memory
/// that has none it takes the same time at any length.
fn pages_beyond(memory: BorrowedFd<'_>, length: u64) -> Option<u64> {
    /// `cachestat(2)`, which Linux has since 6.5. An architecture that has another number for it has nothing by this one.
    const CACHESTAT: libc::c_long = 451;

    // From where on, and how many bytes: none are all that follow.
    let range = [length.checked_next_multiple_of(page_size() as u64)?, 0_u64];
    // Pages that are in memory, dirty, being written back, swapped out, and swapped out of late.
    let mut counts = [0_u64; 5];
    // SAFETY: the descriptor is open, and the kernel reads two words and writes five.
    let code = unsafe {
        libc::syscall(CACHESTAT, memory.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0 as libc::c_uint)
    };
    (code == 0).then(|| counts[0].saturating_add(counts[3]))
}

fn other(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};
    use std::os::fd::OwnedFd;

    fn memory(length: u64) -> OwnedFd {
        let memory = memfd_create(c"test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, length).unwrap();
        memory
    }

    /// Whether it is all there, and the same where the kernel does not tell what is beyond the end.
    fn ways(memory: &OwnedFd) -> (bool, bool) {
        let stat = fstat(memory).unwrap();
        let (memory, length, blocks) = (memory.as_fd(), stat.st_size as u64, stat.st_blocks as u64);
        (is_all_there(memory, length, blocks).unwrap(), has_no_hole(memory, length).unwrap())
    }

    #[test]
    fn pages_beyond_the_end_fill_no_hole() {
        let some = page_size() as u64;
        for length in [0, 1, some - 1, some, some + 1, 10 * some] {
            let whole = memory(0);
            rustix::io::pwrite(&whole, &vec![1; length as usize], 0).unwrap();
            assert_eq!(ways(&whole), (true, true), "{length}");
            fallocate(&whole, FallocateFlags::KEEP_SIZE, 20 * some, 5 * some).unwrap();
            assert_eq!(ways(&whole), (true, true), "{length}, and more beyond");
            if length > 0 {
                let hole = memory(length);
                assert_eq!(ways(&hole), (false, false), "a hole of {length}");
                fallocate(&hole, FallocateFlags::KEEP_SIZE, 20 * some, 20 * some).unwrap();
                assert_eq!(ways(&hole), (false, false), "a hole of {length}, and more beyond");
            }
        }
    }

    #[test]
    fn only_what_nobody_can_change_is_mapped() {
        for missing in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
            let [loose, sealed] = [memory(0), memory(0)];
            for memory in [&loose, &sealed] {
                rustix::io::write(memory, b"bytes").unwrap();
            }
            fcntl_add_seals(&loose, SEALS.difference(missing) | SealFlags::FUTURE_WRITE).unwrap();
            assert!(SealedBytes::map(&loose).is_err(), "{missing:?}");
            fcntl_add_seals(&sealed, SEALS).unwrap();
            assert_eq!(&*SealedBytes::map(&sealed).unwrap(), b"bytes");
        }
    }
}
