//! What stands where in a region.
//!
//! | from | is |
//! |---|---|
//! | 0 | [`MAGIC`], length, the number of bells, where the next object goes, who sleeps until somebody joins, pid namespace |
//! | 64 | the members |
//! | 2112 | objects: what each is, and its size; then its words and its data |

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use rustix::fs::{SealFlags, fcntl_add_seals, fstat};

use super::bells::Bells;
use super::identity;
use super::words::SLOTS;
use crate::sys::Shared;
use crate::wire::memory::{new_memory_of, seals_of};

/// What a region begins with: its name, and the version of what follows.
const MAGIC: u64 = u64::from_le_bytes(*b"procreg2");

/// Where things stand, in bytes from the beginning.
pub(super) struct Layout;

impl Layout {
    const MAGIC: usize = 0;
    const LENGTH: usize = 8;
    const BELLS: usize = 16;
    const NEXT: usize = 24;
    pub(super) const JOINS: usize = 32;
    const NAMESPACE: usize = 40;
    pub(super) const MEMBERS: usize = 64;
    const OBJECTS: usize = (Self::MEMBERS + 8 * SLOTS).next_multiple_of(ALIGNMENT);
}

/// Each object begins a cache line, so that two of them do not slow each other down.
const ALIGNMENT: usize = 64;

/// What stands before an object: its kind, and its size.
const HEADER: usize = 8;

const PAGE: usize = 4096;

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Mutex = 1,
    Semaphore = 2,
    RwLock = 3,
    Event = 4,
    Barrier = 5,
    Condvar = 6,
    Atomic = 7,
    Array = 8,
    Mailbox = 9,
}

/// Bytes for objects of so many bytes in all, each with its header and alignment.
pub(crate) const fn room_for(object: usize) -> usize {
    match object.saturating_add(HEADER).checked_next_multiple_of(ALIGNMENT) {
        Some(room) => room,
        // More than any region has.
        None => usize::MAX,
    }
}

/// Makes the memory of a region with room for so many bytes of objects.
///
/// # Errors
/// If the system has none.
pub(super) fn make(room: usize, bells: usize) -> io::Result<OwnedFd> {
    let length =
        room.checked_add(Layout::OBJECTS + PAGE - 1).ok_or(io::ErrorKind::OutOfMemory)? / PAGE * PAGE;
    let memory = new_memory_of(c"procession-region", length as u64)?;
    fcntl_add_seals(&memory, SEALS)?;
    let shared = Shared::map(&memory, length)?;
    let header = [(Layout::LENGTH, length), (Layout::BELLS, bells), (Layout::NEXT, Layout::OBJECTS)];
    for (at, value) in header {
        word(&shared, at)?.store(value as u64, Relaxed);
    }
    word(&shared, Layout::NAMESPACE)?.store(identity::namespace(), Relaxed);
    word(&shared, Layout::MAGIC)?.store(MAGIC, Release);
    Ok(memory)
}

/// The length of a memory that can be a region's: nobody can cut it short, and all of it is there.
///
/// # Errors
/// If it can be none.
pub(super) fn check(memory: BorrowedFd<'_>) -> io::Result<usize> {
    if !seals_of(memory)?.contains(SEALS) {
        return Err(invalid("a region is not sealed"));
    }
    let stat = fstat(memory)?;
    let length = usize::try_from(stat.st_size).map_err(|_negative| invalid("a region has no length"))?;
    let is_whole =
        u64::try_from(stat.st_blocks).is_ok_and(|blocks| blocks.saturating_mul(512) >= length as u64);
    if length < Layout::OBJECTS || !is_whole {
        return Err(invalid("a region is shorter than it says"));
    }
    Ok(length)
}

/// # Errors
/// If what is mapped is no region of this version, of this length, and with these bells.
pub(super) fn check_header(shared: &Shared, bells: &Bells) -> io::Result<()> {
    let read = |at| Ok::<_, io::Error>(word(shared, at)?.load(Acquire));
    if read(Layout::MAGIC)? != MAGIC {
        return Err(invalid("a region is none of this version"));
    }
    let bells = bells.handles().len() as u64;
    if read(Layout::LENGTH)? != shared.len() as u64 || read(Layout::BELLS)? != bells {
        return Err(invalid("a region is not as it says"));
    }
    // There the numbers of processes mean others, so that nobody could tell who has died.
    if read(Layout::NAMESPACE)? != identity::namespace() {
        return Err(invalid("a region is one of processes in another pid namespace"));
    }
    Ok(())
}

/// Takes room for an object; gives where it stands, behind its header.
///
/// # Errors
/// If there is none left.
pub(super) fn allocate(shared: &Shared, kind: Kind, size: usize) -> io::Result<usize> {
    let room = room_for(size) as u64;
    let take = |next: u64| next.checked_add(room).filter(|end| *end <= shared.len() as u64);
    let at = word(shared, Layout::NEXT)?.fetch_update(AcqRel, Acquire, take).map_err(|_full| full())?;
    let at = usize::try_from(at).map_err(|_far| full())?;
    let header = word(shared, at)?;
    header.store((size as u64) << 8 | kind as u64, Release);
    Ok(at + HEADER)
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the region has no room left: make it larger, or another")
}

/// The size of the object that a handle says stands at a place.
///
/// # Errors
/// If there is none of this kind.
pub(super) fn find(shared: &Shared, at: u64, kind: Kind) -> io::Result<(usize, usize)> {
    let none = || invalid("a region has no such object");
    let at = usize::try_from(at).ok().filter(|at| *at >= Layout::OBJECTS + HEADER).ok_or_else(none)?;
    let header = word(shared, at - HEADER).map_err(|_outside| none())?.load(Acquire);
    let size = usize::try_from(header >> 8).map_err(|_large| none())?;
    let is_within = at.checked_add(size).is_some_and(|end| end <= shared.len());
    if (at - HEADER).is_multiple_of(ALIGNMENT) && header as u8 == kind as u8 && is_within {
        Ok((at, size))
    } else {
        Err(none())
    }
}

fn word(shared: &Shared, at: usize) -> io::Result<&AtomicU64> {
    shared.at(at).ok_or_else(|| invalid("a region is shorter than it says"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
