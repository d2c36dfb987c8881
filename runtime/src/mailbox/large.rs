//! Messages that are longer than a slot.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

use super::config::Config;
use crate::wire::memory::{new_memory, read_at, seals_of, write_at};

/// A memory beside the region, in which each slot has a range as long as the longest message. Nothing is allocated before it is
/// written, and nobody maps it: what is written and read by calls of the system can be an error, but never a fault, whatever
/// another process does to it.
#[derive(Debug, Clone)]
pub(super) struct Large {
    memory: Arc<OwnedFd>,
    stride: u64,
}

/// How much of a slot's range stays allocated for the next message: a page that is there costs less than a new one.
const KEPT: u64 = 64 << 10;
const PAGE: u64 = 4096;

impl Large {
    /// Makes one, if messages can be longer than a slot.
    ///
    /// # Errors
    /// If there is no descriptor for it.
    pub(super) fn new(config: &Config) -> io::Result<Option<Self>> {
        if !config.has_large() {
            return Ok(None);
        }
        Self::of(Arc::new(new_memory(c"procession-mailbox")?), config).map(Some)
    }

    /// # Errors
    /// If what has come is no memory: another file could have this process wait for it.
    pub(super) fn of(memory: Arc<OwnedFd>, config: &Config) -> io::Result<Self> {
        seals_of(memory.as_fd())?;
        let stride = config.largest.checked_next_multiple_of(PAGE);
        let fits = |stride: &u64| {
            stride.checked_mul(u64::from(config.capacity)).is_some_and(|all| all < i64::MAX as u64)
        };
        let stride = stride.filter(fits).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { memory, stride })
    }

    pub(super) const fn handle(&self) -> &Arc<OwnedFd> {
        &self.memory
    }

    pub(super) fn write(&self, slot: usize, message: &[u8]) -> io::Result<()> {
        write_at(&self.memory, self.at(slot), message)
    }

    pub(super) fn read(&self, slot: usize, length: usize, room: &mut Vec<u8>) -> io::Result<()> {
        read_at(&self.memory, self.at(slot), length, room)
    }

    /// Gives back the memory of a message that was read, but for the first part.
    pub(super) fn clear(&self, slot: usize, length: u64) {
        // One that is longer than any is a hostile process's.
        let length = length.min(self.stride);
        if length > KEPT {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where that cannot be, it is used by the next long message of this slot.
            let _kept = fallocate(&self.memory, flags, self.at(slot) + KEPT, length - KEPT);
        }
    }

    const fn at(&self, slot: usize) -> u64 {
        slot as u64 * self.stride
    }
}
