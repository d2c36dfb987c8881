//! Slabs: memory that carries long strings from process to process.
//!
//! A slab is a memfd, written and read by `pwrite(2)` and `pread(2)`. Nobody maps it, so that a peer that cuts it short or
//! writes into it can cause a wrong message, which is the peer's own, and never a fault. A sender has a few, and uses one again
//! when the receiver has said, by its number on the socket's way back, that it has read it: fresh memory for each message costs
//! more than the copy. Where none is free the pipe has no room; where the system has no memory for one, the socket carries the
//! string.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::io::{pread, pwrite, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Resource, getrlimit};

use crate::sys;

/// How many slabs a sender has.
pub(crate) const SLABS: usize = 4;

/// Above a slab's number, where the receiver does not have it.
const UNKNOWN: u64 = 1 << 62;

/// A slab that is this many times larger than what it is claimed for gives memory back.
const WASTE: u64 = 4;

/// What a slab may keep, whatever it is used for next.
const KEPT: u64 = 1 << 20;

/// The slabs of a sender.
#[derive(Debug)]
pub(crate) struct Slabs {
    /// Where their numbers come back.
    socket: Arc<OwnedFd>,
    slabs: Vec<Slab>,
    /// The receiver is gone, or has said something else than numbers: there are no slabs any more.
    is_off: bool,
}

#[derive(Debug)]
struct Slab {
    number: u64,
    memory: Arc<OwnedFd>,
    length: u64,
    /// Whether the receiver has its descriptor.
    is_known: bool,
    is_busy: bool,
}

/// A slab that one message has for itself.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) number: u64,
    pub(crate) memory: Arc<OwnedFd>,
    length: u64,
    pub(crate) is_known: bool,
}

/// What comes of asking for a slab.
#[derive(Debug)]
pub(super) enum Claimed {
    Claim(Claim),
    /// The receiver has not read those that there are.
    Busy,
    /// The system has no memory or descriptor for one, or the receiver plays tricks.
    None,
}

impl Slabs {
    pub(crate) const fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, slabs: Vec::new(), is_off: false }
    }

    /// A free slab, if there is one or may be one more.
    pub(super) fn claim(&mut self) -> Claimed {
        if self.slabs.iter().all(|slab| slab.is_busy) {
            // An error is one of the next write's, too.
            drop(self.take_back());
        }
        if self.is_off {
            return Claimed::None;
        }
        if self.slabs.iter().all(|slab| slab.is_busy) && self.slabs.len() < SLABS {
            let Ok(slab) = Slab::new() else { return Claimed::None };
            self.slabs.push(slab);
        }
        let Some(slab) = self.slabs.iter_mut().find(|slab| !slab.is_busy) else { return Claimed::Busy };
        slab.is_busy = true;
        let Slab { number, is_known, .. } = *slab;
        Claimed::Claim(Claim { number, memory: Arc::clone(&slab.memory), length: 0, is_known })
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

    /// The message goes out: the slab is the receiver's until it says otherwise.
    pub(super) fn sent(&mut self, claim: &Claim) {
        if let Some(slab) = self.slab(claim) {
            slab.is_known = true;
        }
    }

    /// The message does not go out.
    pub(super) fn give_up(&mut self, claim: &Claim) {
        if let Some(slab) = self.slab(claim) {
            slab.is_busy = false;
        }
    }

    /// The slab that was claimed, with no more memory than is worth keeping.
    fn slab(&mut self, claim: &Claim) -> Option<&mut Slab> {
        let slab = self.slabs.iter_mut().find(|slab| slab.number == claim.number)?;
        if slab.length > KEPT
            && slab.length / WASTE > claim.length
            && ftruncate(&slab.memory, claim.length).is_ok()
        {
            slab.length = 0;
        }
        slab.length = slab.length.max(claim.length);
        Some(slab)
    }
}

impl Slab {
    fn new() -> io::Result<Self> {
        let memory = Arc::new(memfd_create(c"procession", MemfdFlags::CLOEXEC)?);
        // No other memfd has the same, in whatever process.
        let number = fstat(&memory)?.st_ino & !UNKNOWN;
        Ok(Self { number, memory, length: 0, is_known: false, is_busy: false })
    }
}

impl Claim {
    /// Writes at the end of what was written.
    ///
    /// # Errors
    /// Those of `pwrite(2)`; nothing is at the end then.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        // Beyond it the kernel sends SIGXFSZ, which ends the process.
        let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        let mut end = self.length;
        if end.saturating_add(bytes.len() as u64) > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        while !bytes.is_empty() {
            match retry_on_intr(|| pwrite(&self.memory, bytes, end))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => (bytes, end) = (&bytes[written..], end + written as u64),
            }
        }
        self.length = end;
        Ok(())
    }
}

/// From how many bytes on memory is asked for in large pages.
const LARGE: usize = 4 << 20;

/// Reads what stands in a slab, in pieces, so that memory grows with what is there and not with what was announced.
///
/// # Errors
/// If the slab is shorter, or cannot be read.
pub(crate) fn read_slab(memory: impl AsFd, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    const PIECE: usize = 64 << 20;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let piece = (length - bytes.len()).min(PIECE);
        bytes.try_reserve_exact(piece).map_err(io::Error::other)?;
        if piece >= LARGE {
            sys::prefer_large_pages(bytes.spare_capacity_mut());
        }
        let at = offset + bytes.len() as u64;
        if retry_on_intr(|| pread(&memory, spare_capacity(&mut bytes), at))? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Reads the beginning of a slab.
///
/// # Errors
/// If the slab is shorter, or cannot be read.
pub(crate) fn read_slab_into(memory: impl AsFd, mut buffer: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while !buffer.is_empty() {
        match retry_on_intr(|| pread(&memory, &mut *buffer, at))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => (buffer, at) = (&mut buffer[count..], at + count as u64),
        }
    }
    Ok(())
}

/// Says that a slab was read. An error means that the sender is gone.
pub(crate) fn give_back(socket: impl AsFd, number: u64) {
    let _ = send(socket, &number.to_le_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// Says that a slab's descriptor has not come.
pub(crate) fn forget(socket: impl AsFd, number: u64) {
    give_back(socket, number | UNKNOWN);
}
