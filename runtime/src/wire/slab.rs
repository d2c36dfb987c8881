//! Slabs: memory that carries long strings from process to process.
//!
//! A slab is a memfd, mapped by its sender and its receiver, and sealed: nobody can make it shorter, so that no peer can make the
//! other fault, and whoever receives it cannot write into it. A sender has a few, and uses one again when the receiver has
//! said, by its number on the socket's way back, that it has read it: fresh memory for each message costs more than the copy.
//! Where none is free the pipe has no room; where the system has no memory for one, the socket carries the string.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{SealFlags, fcntl_add_seals, fstat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::memory::{new_memory_of, seals_of};
use crate::sys::{self, Mapping};

/// How many slabs a sender has.
pub(crate) const SLABS: usize = 4;

/// The size of the smallest slab; others are powers of two.
const SMALLEST: usize = 256 << 10;

/// Where strings begin in a slab: at multiples of this.
const ALIGNMENT: usize = 64;

/// After how many messages in other slabs a slab is given up, by its sender and its receiver alike: the one does not tell the
/// other. So a receiver has no more slabs than this, whoever sends them.
const IDLE: u32 = 64;

/// Above a slab's number, where the receiver does not have it.
const UNKNOWN: u64 = 1 << 62;

/// From how many bytes on memory is asked for in large pages.
const LARGE: usize = 4 << 20;

/// The slabs of a sender.
#[derive(Debug)]
pub(crate) struct Slabs {
    /// Where their numbers come back.
    socket: Arc<OwnedFd>,
    slabs: Vec<Slab>,
    /// The slab of the message that is being written, and how much of it is full.
    claimed: Option<(u64, usize)>,
    /// The receiver is gone, or has said something else than numbers: there are no slabs any more.
    is_off: bool,
}

#[derive(Debug)]
struct Slab {
    number: u64,
    memory: Arc<OwnedFd>,
    mapping: Mapping,
    /// Whether the receiver has its descriptor.
    is_known: bool,
    is_busy: bool,
    idle: u32,
}

/// A slab, as a message names it.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) number: u64,
    pub(crate) memory: Arc<OwnedFd>,
    /// Whether the receiver has its descriptor.
    pub(crate) is_known: bool,
}

/// What comes of putting a string into a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Done,
    /// The receiver has not read the slabs that there are.
    Busy,
    /// There is no room left in the message's slab, or the system has none for another, or the receiver plays tricks.
    No,
}

impl Slabs {
    pub(crate) const fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, slabs: Vec::new(), claimed: None, is_off: false }
    }

    /// Puts a string behind those that stand in the message's slab.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Put {
        if self.claimed.is_none() {
            match self.claim(bytes.len()) {
                Put::Done => {}
                other => return other,
            }
        }
        let Some((number, full)) = self.claimed else { return Put::No };
        let Some(slab) = self.slabs.iter_mut().find(|slab| slab.number == number) else { return Put::No };
        if !slab.mapping.write(full, bytes) {
            return Put::No;
        }
        self.claimed = Some((number, (full + bytes.len()).next_multiple_of(ALIGNMENT)));
        Put::Done
    }

    /// Takes a free slab for a message: the smallest that is large enough, or a new one.
    fn claim(&mut self, length: usize) -> Put {
        if self.slabs.iter().all(|slab| slab.is_busy) {
            // An error is one of the next write's, too.
            drop(self.take_back());
        }
        if self.is_off {
            return Put::No;
        }
        let fitting = self.slabs.iter_mut().filter(|slab| !slab.is_busy && slab.mapping.len() >= length);
        if let Some(slab) = fitting.min_by_key(|slab| slab.mapping.len()) {
            slab.is_busy = true;
            self.claimed = Some((slab.number, 0));
            return Put::Done;
        }
        if self.slabs.len() == SLABS {
            // One that is too small makes room; the receiver will see that it is not used any more.
            let Some(small) = self.slabs.iter().position(|slab| !slab.is_busy) else { return Put::Busy };
            self.slabs.swap_remove(small);
        }
        let Ok(slab) = Slab::new(length) else { return Put::No };
        self.claimed = Some((slab.number, 0));
        self.slabs.push(slab);
        Put::Done
    }

    /// Hears which slabs were read, and which the receiver does not have.
    ///
    /// # Errors
    /// Those of `recv(2)`: that there is nothing to hear, for one.
    pub(crate) fn take_back(&mut self) -> io::Result<()> {
        let mut words = [0; 8 * SLABS];
        let (count, _) = recv(&*self.socket, &mut words[..], RecvFlags::DONTWAIT)?;
        let (words, rest) = words[..count].as_chunks();
        self.is_off |= words.is_empty() || !rest.is_empty();
        for word in words.iter().map(|bytes| u64::from_le_bytes(*bytes)) {
            self.slabs.retain(|slab| slab.number | UNKNOWN != word);
            if let Some(slab) = self.slabs.iter_mut().find(|slab| slab.number == word) {
                slab.is_busy = false;
            }
        }
        Ok(())
    }

    /// The message goes out, and its slab, if it has one, with it: that is the receiver's until it says otherwise.
    pub(super) fn send(&mut self) -> Option<Named> {
        let (number, _) = self.claimed.take()?;
        self.slabs.iter_mut().for_each(|slab| slab.idle += 1);
        let slab = self.slabs.iter_mut().find(|slab| slab.number == number)?;
        slab.idle = 0;
        let is_known = std::mem::replace(&mut slab.is_known, true);
        let memory = Arc::clone(&slab.memory);
        self.slabs.retain(|slab| slab.idle < IDLE);
        Some(Named { number, memory, is_known })
    }

    /// The message does not go out.
    pub(super) fn give_up(&mut self) {
        if let Some((number, _)) = self.claimed.take()
            && let Some(slab) = self.slabs.iter_mut().find(|slab| slab.number == number)
        {
            slab.is_busy = false;
        }
    }
}

impl Slab {
    /// One that is claimed at once.
    fn new(length: usize) -> io::Result<Self> {
        let length = length.max(SMALLEST).checked_next_power_of_two().ok_or(io::ErrorKind::OutOfMemory)?;
        // All of it now: where there is no memory that is an error here, and a fault in the middle of a copy.
        let memory = new_memory_of(c"procession", length as u64)?;
        let mapping = Mapping::to_write(&memory, length)?;
        seal(&memory)?;
        // No other memfd has the same, in whatever process.
        let number = fstat(&memory)?.st_ino & !UNKNOWN;
        Ok(Self { number, memory: Arc::new(memory), mapping, is_known: false, is_busy: true, idle: 0 })
    }
}

fn seal(memory: &OwnedFd) -> io::Result<()> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    match fcntl_add_seals(memory, seals | SealFlags::FUTURE_WRITE) {
        // Linux has it since 5.1. Without it a receiver can spoil what is sent to itself.
        Err(Errno::INVAL) => Ok(fcntl_add_seals(memory, seals)?),
        other => Ok(other?),
    }
}

/// The slabs of a sender, as its receiver has them.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<Received>);

#[derive(Debug)]
struct Received {
    number: u64,
    memory: Arc<OwnedFd>,
    mapping: Mapping,
    idle: u32,
}

impl Known {
    /// Takes in a slab that has come.
    ///
    /// # Errors
    /// `InvalidData` if it is none; what the system lacks for it.
    pub(crate) fn add(&mut self, number: u64, memory: Arc<OwnedFd>) -> io::Result<()> {
        let length = check(&memory)?;
        let mapping = Mapping::to_read(&memory, length);
        let mapping = mapping.map_err(|error| lack_or(error, "a slab cannot be mapped"))?;
        self.0.push(Received { number, memory, mapping, idle: 0 });
        Ok(())
    }

    /// The slab of a message.
    ///
    /// # Errors
    /// `InvalidData` if it has never come.
    pub(crate) fn slab(&mut self, number: u64) -> io::Result<&Mapping> {
        self.0.iter_mut().for_each(|slab| slab.idle += 1);
        if let Some(slab) = self.0.iter_mut().find(|slab| slab.number == number) {
            slab.idle = 0;
        }
        self.0.retain(|slab| slab.idle < IDLE);
        let known = self.0.iter().find(|slab| slab.number == number);
        known.map(|slab| &slab.mapping).ok_or_else(|| none("a slab has never come"))
    }

    /// The numbers and descriptors of all.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<OwnedFd>)> {
        self.0.iter().map(|slab| (slab.number, &slab.memory))
    }
}

/// The length of a slab, if it is one: memory that stays as long as it is.
///
/// # Errors
/// `InvalidData` if it is none; what the system lacks for a look.
fn check(memory: &OwnedFd) -> io::Result<usize> {
    let no_memory = |error: io::Error| lack_or(error, "a slab is no memory");
    let seals = seals_of(memory).map_err(no_memory)?;
    if !seals.contains(SealFlags::SHRINK) {
        return Err(none("a slab is not sealed"));
    }
    let length = fstat(memory).map_err(|error| no_memory(error.into()))?.st_size;
    usize::try_from(length).ok().filter(|length| *length > 0).ok_or_else(|| none("a slab is empty"))
}

/// The error of a look at what came: the system's, if it lacks something.
fn lack_or(error: io::Error, reason: &'static str) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOMEM | Errno::AGAIN | Errno::MFILE | Errno::NFILE) => error,
        _ => none(reason),
    }
}

/// What came is no slab.
fn none(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Where in its slab the string behind one begins.
pub(crate) const fn behind(at: usize, length: usize) -> usize {
    at.saturating_add(length).saturating_add(ALIGNMENT - 1) & !(ALIGNMENT - 1)
}

/// Copies a string out of a slab.
///
/// # Errors
/// If the slab is shorter, or there is no memory for the string.
pub(crate) fn read_slab(slab: &Mapping, at: usize, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if at.checked_add(length).is_none_or(|end| end > slab.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.try_reserve_exact(length).map_err(io::Error::other)?;
    if length >= LARGE {
        sys::prefer_large_pages(bytes.spare_capacity_mut());
    }
    if slab.append_to(&mut bytes, at, length) { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Says that a slab was read. Where that cannot be said nothing more is: the sender hears so, and does without slabs.
pub(crate) fn give_back(socket: impl AsFd, number: u64) {
    let (word, flags) = (number.to_le_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    if retry_on_intr(|| send(&socket, &word, flags)).is_err() {
        // An error means that the sender is gone.
        let _ = shutdown(&socket, Shutdown::Write);
    }
}

/// Says that a slab's descriptor has not come.
pub(crate) fn forget(socket: impl AsFd, number: u64) {
    give_back(socket, number | UNKNOWN);
}
