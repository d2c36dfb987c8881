//! Memory without a name, which goes from process to process by its descriptor: `memfd_create(2)`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_get_seals, fstatfs, memfd_create};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, getrlimit};

/// Makes an empty memory, which can be sealed. The name is for those who look at `/proc` alone.
///
/// # Errors
/// If there is no descriptor left for it.
pub(crate) fn new_memory(name: &CStr) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux has it since 6.3, and can be told to insist on it.
        Err(Errno::INVAL) => Ok(memfd_create(name, flags)?),
        other => Ok(other?),
    }
}

/// Makes a memory of so many bytes, all of which are there: where there is no room for them that is an error here, and no fault
/// later.
///
/// # Errors
/// If there is no memory, or no descriptor.
pub(crate) fn new_memory_of(name: &CStr, length: u64) -> io::Result<OwnedFd> {
    if room().is_some_and(|room| room < length) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let memory = new_memory(name)?;
    retry_on_intr(|| fallocate(&memory, FallocateFlags::empty(), 0, length))?;
    Ok(memory)
}

/// How many bytes a memory may have. Beyond them the kernel sends SIGXFSZ, which ends the process.
pub(crate) fn room() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// The seals of a memory.
///
/// # Errors
/// If it is none. Of a file of another kind it is not known that touching it does not wait, or fault.
pub(crate) fn seals_of(memory: impl AsFd) -> io::Result<SealFlags> {
    const TMPFS: u64 = 0x0102_1994;
    let other = || io::Error::new(io::ErrorKind::InvalidData, "it is no memory");
    // First, since the kernel answers it by itself: a file system that a stranger has made can take its time for the other. It has
    // an answer for memory alone.
    let seals = fcntl_get_seals(&memory).map_err(|_other_file| other())?;
    // Large pages that were reserved for it are memory too, but touching such a page can fail.
    let is_memory = u64::try_from(fstatfs(&memory)?.f_type).is_ok_and(|kind| kind == TMPFS);
    is_memory.then_some(seals).ok_or_else(other)
}
