//! Slabs: memory that carries long strings from process to process.
//!
//! A slab is a memfd, written and read by `pwrite(2)` and `pread(2)`. Nobody maps it, so that a peer that cuts it short or
//! writes into it can cause a wrong message, which is the peer's own, and never a fault. A sender has a few, and uses one again
//! when the receiver has said, by its number on the socket's way back, that it has read it: fresh memory for each message costs
//! more than the copy. Where none is free, the socket carries the string, so that nobody waits for one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{pread, pwrite, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// How many slabs a sender has.
pub(crate) const SLABS: usize = 4;

/// A slab that is this many times larger than what it is claimed for gives memory back.
const WASTE: u64 = 4;

/// What a slab may keep, whatever it is used for next.
const KEPT: u64 = 1 << 20;

/// The slabs of a sender.
#[derive(Debug)]
pub(crate) struct Slabs {
    /// Where their numbers come back.
    socket: Arc<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slabs: Vec<Slab>,
    /// The receiver has said something else than numbers: there are no slabs any more.
    is_off: bool,
}

#[derive(Debug)]
struct Slab {
    number: u64,
    memory: Arc<OwnedFd>,
    length: u64,
    is_known: bool,
    is_busy: bool,
}

/// A slab that one message has for itself. Dropped, it is free again; [`Claim::send`] leaves that to the receiver.
#[derive(Debug)]
pub(crate) struct Claim {
    slabs: Arc<Slabs>,
    pub(crate) number: u64,
    pub(crate) memory: Arc<OwnedFd>,
    length: u64,
    /// Whether the receiver has its descriptor.
    pub(crate) is_known: bool,
    was_sent: bool,
}

impl Slabs {
    pub(crate) fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free slab, if there is one or may be one more, and the system has a descriptor for it.
    pub(super) fn claim(self: &Arc<Self>) -> Option<Claim> {
        let mut state = self.state();
        if !state.slabs.iter().any(|slab| !slab.is_busy) {
            self.take_back(&mut state);
            if state.is_off {
                return None;
            }
            if state.slabs.iter().all(|slab| slab.is_busy) && state.slabs.len() < SLABS {
                state.slabs.push(Slab::new().ok()?);
            }
        }
        let slab = state.slabs.iter_mut().find(|slab| !slab.is_busy)?;
        slab.is_busy = true;
        let (memory, slabs) = (Arc::clone(&slab.memory), Arc::clone(self));
        Some(Claim {
            slabs,
            number: slab.number,
            memory,
            length: 0,
            is_known: slab.is_known,
            was_sent: false,
        })
    }

    /// Hears which slabs were read.
    fn take_back(&self, state: &mut State) {
        let mut numbers = [0; 8 * SLABS];
        let Ok((count, _)) = recv(&*self.socket, &mut numbers[..], RecvFlags::DONTWAIT) else { return };
        let (numbers, rest) = numbers[..count].as_chunks();
        state.is_off |= !rest.is_empty();
        for number in numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)) {
            if let Some(slab) = state.slabs.iter_mut().find(|slab| slab.number == number) {
                slab.is_busy = false;
            }
        }
    }

    /// Ends a claim.
    fn settle(&self, claim: &Claim) {
        let mut state = self.state();
        let Some(slab) = state.slabs.iter_mut().find(|slab| slab.number == claim.number) else { return };
        slab.is_busy = claim.was_sent;
        slab.is_known |= claim.was_sent;
        if slab.length > KEPT
            && slab.length / WASTE > claim.length
            && ftruncate(&slab.memory, claim.length).is_ok()
        {
            slab.length = 0;
        }
        slab.length = slab.length.max(claim.length);
    }
}

impl Slab {
    fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = u64::from(std::process::id()) << 32 | u64::from(NUMBER.fetch_add(1, Ordering::Relaxed));
        let memory = Arc::new(memfd_create(c"procession", MemfdFlags::CLOEXEC)?);
        Ok(Self { number, memory, length: 0, is_known: false, is_busy: false })
    }
}

impl Claim {
    /// Writes at the end of what was written.
    ///
    /// # Errors
    /// Those of `pwrite(2)`; nothing is at the end then.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut end = self.length;
        while !bytes.is_empty() {
            match retry_on_intr(|| pwrite(&self.memory, bytes, end))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => (bytes, end) = (&bytes[written..], end + written as u64),
            }
        }
        self.length = end;
        Ok(())
    }

    /// The message goes out: the slab is the receiver's until it says otherwise.
    pub(crate) fn send(mut self) {
        self.was_sent = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.slabs.settle(self);
    }
}

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
        let at = offset + bytes.len() as u64;
        if retry_on_intr(|| pread(&memory, spare_capacity(&mut bytes), at))? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Says that a slab was read. An error means that the sender is gone.
pub(crate) fn give_back(socket: impl AsFd, number: u64) {
    let _ = send(socket, &number.to_le_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}
