//! Memory without a name, which goes from process to process by its descriptor: `memfd_create(2)`.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_get_seals, fstatfs, memfd_create};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
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
    if length >= LARGE && available().is_some_and(|available| available < length) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let memory = new_memory(name)?;
    retry_on_intr(|| fallocate(&memory, FallocateFlags::empty(), 0, length))?;
    Ok(memory)
}

/// From how many bytes on it is asked first whether there are so many: the kernel does not refuse more than there are, but
/// ends processes until it has them.
const LARGE: u64 = 1 << 20;

/// How many bytes of memory could be had now, by swapping too, as `/proc/meminfo` says. Others may want the same.
fn available() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kibibytes("MemAvailable")? + kibibytes("SwapFree")?).saturating_mul(1024))
}

/// How many bytes a memory may have. Beyond them the kernel sends SIGXFSZ, which ends the process.
pub(crate) fn room() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// Writes bytes to a place in a memory, by calls of the system: where there is no room for them that is an error, and no fault.
///
/// # Errors
/// If there is no memory for them, or this process may not have a memory that is as long.
pub(crate) fn write_at(memory: &OwnedFd, at: u64, bytes: &[u8]) -> io::Result<()> {
    if room().is_some_and(|room| room < at.saturating_add(bytes.len() as u64)) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut written = 0;
    while written < bytes.len() {
        match retry_on_intr(|| pwrite(memory, &bytes[written..], at + written as u64))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    Ok(())
}

/// Reads so many bytes from a place in a memory to the beginning of a room, which grows where it is too short. Nobody can cut such a
/// reading short but by an error, so that the memory need not be sealed.
///
/// # Errors
/// If they are not there, or there is no room for them.
pub(crate) fn read_at(memory: &OwnedFd, at: u64, length: usize, room: &mut Vec<u8>) -> io::Result<()> {
    if room.len() < length {
        room.try_reserve_exact(length - room.len()).map_err(|_none| io::ErrorKind::OutOfMemory)?;
        room.resize(length, 0);
    }
    let mut read = 0;
    while read < length {
        match retry_on_intr(|| pread(memory, &mut room[read..length], at + read as u64))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => read += count,
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused_before_it_is_taken() {
        let available = available().unwrap();
        assert!(available > LARGE);
        for length in [available + (1 << 30), 1 << 40, 1 << 62] {
            let refused = new_memory_of(c"test", length).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory, "{length}");
        }
    }
}
