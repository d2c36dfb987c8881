//! What stands in a slot.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::config::Config;
use super::large::Large;
use crate::shared::Object;
use crate::sys::Places;

/// The bodies of all slots. Each is two words, a message's length and when it was sent, and the message, if that is not too
/// long; those that are stand elsewhere.
#[derive(Debug)]
pub(super) struct Bodies {
    words: Places<AtomicU64>,
    /// In words.
    stride: usize,
    /// The most bytes that stand here.
    slot: usize,
    large: Option<Large>,
}

const WORD: usize = size_of::<u64>();
const HEADER: usize = 2;
const LINE: usize = 64;

thread_local! {
    /// Where messages are put together, and taken apart: a room that is used again, and has whatever was in it before.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The most bytes that a thread keeps for that.
const KEPT: usize = 256 << 10;

/// Borrows this thread's room. Within a message another may be sent: that one has a room of its own.
#[inline]
pub(super) fn take_room() -> Vec<u8> {
    ROOM.take()
}

/// Gives it back.
#[inline]
pub(super) fn put_room(room: Vec<u8>) {
    if room.capacity() <= KEPT {
        ROOM.set(room);
    }
}

impl Bodies {
    /// The bytes from one to the next.
    pub(super) const fn stride(slot: usize) -> usize {
        (HEADER * WORD).saturating_add(slot).saturating_add(LINE - 1) / LINE * LINE
    }

    pub(super) fn new(object: &Object, at: usize, config: &Config, large: Option<Large>) -> io::Result<Self> {
        let stride = Self::stride(config.slot as usize) / WORD;
        let count = stride.checked_mul(config.capacity as usize).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { words: object.all_words(at, count)?, stride, slot: config.slot as usize, large })
    }

    pub(super) fn handle(&self) -> Option<&Arc<OwnedFd>> {
        self.large.as_ref().map(Large::handle)
    }

    /// When a message was sent, as far as who has sent it knew.
    #[inline]
    pub(super) fn sent_as(&self, slot: usize) -> u64 {
        self.body(slot).get(1).map_or(0, |word| word.load(Relaxed))
    }

    /// Writes a message to a slot that this process has claimed.
    ///
    /// # Errors
    /// If it is long, and the system has no memory for it.
    #[inline]
    pub(super) fn write(&self, slot: usize, message: &[u8], sent_as: u64) -> io::Result<()> {
        let Some((header, words)) = self.body(slot).split_at_checked(HEADER) else { return Ok(()) };
        match &self.large {
            Some(large) if message.len() > self.slot => large.write(slot, message)?,
            _ => write_words(words, message),
        }
        header[0].store(message.len() as u64, Relaxed);
        header[1].store(sent_as, Relaxed);
        Ok(())
    }

    /// Reads the message of a slot that this process has taken, to the beginning of a room; gives how long it is.
    ///
    /// # Errors
    /// If it is not there: a peer is hostile.
    #[inline]
    pub(super) fn read(&self, slot: usize, room: &mut Vec<u8>, largest: u64) -> io::Result<usize> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a message is not where it should be");
        let (header, words) = self.body(slot).split_at_checked(HEADER).ok_or_else(invalid)?;
        let length = header[0].load(Relaxed);
        let length = usize::try_from(length).ok().filter(|_| length <= largest).ok_or_else(invalid)?;
        match &self.large {
            Some(large) if length > self.slot => large.read(slot, length, room)?,
            _ if length > self.slot => return Err(invalid()),
            _ => read_words(words, length, room),
        }
        Ok(length)
    }

    /// Gives memory back that a long message has taken, which nobody will read again.
    #[inline]
    pub(super) fn clear(&self, slot: usize) {
        if let (Some(large), [length, ..]) = (&self.large, self.body(slot)) {
            large.clear(slot, length.load(Relaxed));
        }
    }

    #[inline]
    fn body(&self, slot: usize) -> &[AtomicU64] {
        self.words.get(slot * self.stride..(slot + 1) * self.stride).unwrap_or_default()
    }
}

#[inline]
fn write_words(words: &[AtomicU64], message: &[u8]) {
    let (whole, rest) = message.as_chunks::<WORD>();
    for (word, bytes) in words.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    if let Some(last) = words.get(whole.len())
        && !rest.is_empty()
    {
        let mut bytes = [0; WORD];
        bytes[..rest.len()].copy_from_slice(rest);
        last.store(u64::from_ne_bytes(bytes), Relaxed);
    }
}

#[inline]
fn read_words(words: &[AtomicU64], length: usize, room: &mut Vec<u8>) {
    let end = length.next_multiple_of(WORD);
    if room.len() < end {
        room.resize(end, 0);
    }
    let (whole, _) = room[..end].as_chunks_mut::<WORD>();
    for (bytes, word) in whole.iter_mut().zip(words) {
        *bytes = word.load(Relaxed).to_ne_bytes();
    }
}
