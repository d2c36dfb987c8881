//! A ring of records in shared memory, from one process to one other.
//!
//! A record is a head of a few words, whose first has the length of the body in its lower half, and the body, in whole words.
//! Positions only grow, and are where they are modulo the ring's length. Each side keeps its own position in its own memory and
//! tells it in the shared one; what the other side tells is checked.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bytes::BufMut;

/// Where a ring is: its words, of which there are a power of two, and how far it was read and written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ring<'a> {
    pub(super) words: &'a [AtomicU64],
    pub(super) read: &'a AtomicU64,
    pub(super) written: &'a AtomicU64,
}

/// The other side has told of a position that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its ring is out of order")]
pub(super) struct OutOfOrder;

impl Ring<'_> {
    fn room(self) -> u64 {
        self.words.len() as u64
    }

    #[inline]
    fn word(&self, at: u64) -> &AtomicU64 {
        &self.words[at as usize & (self.words.len() - 1)]
    }
}

/// How many words a record takes.
#[inline]
pub(super) const fn words_of(head: usize, length: usize) -> u64 {
    (head + length.div_ceil(8)) as u64
}

/// The side that writes.
#[derive(Debug, Default)]
pub(super) struct Writer {
    written: u64,
    /// How far the other side had read when it was last looked at.
    read: u64,
}

impl Writer {
    /// Whether there is room for so many words.
    pub(super) fn has_room(&mut self, ring: Ring<'_>, words: u64) -> bool {
        if self.written + words - self.read <= ring.room() {
            return true;
        }
        // Acquire: what is written next must not overtake the other side's reading of what was there.
        let read = ring.read.load(Acquire);
        // One that cannot be leaves no room.
        if read >= self.read && read <= self.written {
            self.read = read;
        }
        self.written + words - self.read <= ring.room()
    }

    /// Whether the other side has read everything.
    pub(super) fn is_read(&self, ring: Ring<'_>) -> bool {
        // Relaxed: nothing is written over for that.
        ring.read.load(Relaxed) == self.written
    }

    /// Whether less than half of the ring is free.
    pub(super) fn is_half_full(&mut self, ring: Ring<'_>) -> bool {
        !self.has_room(ring, ring.room() / 2)
    }

    /// Writes a record, if there is room for it. The lower half of the head's first word must be the length.
    #[inline]
    pub(super) fn push<const HEAD: usize>(&mut self, ring: Ring<'_>, head: [u64; HEAD], body: &[u8]) -> bool {
        if !self.has_room(ring, words_of(HEAD, body.len())) {
            return false;
        }
        let mut at = self.written;
        let mut put = |word: u64| {
            ring.word(at).store(word, Relaxed);
            at += 1;
        };
        head.into_iter().for_each(&mut put);
        let (whole, rest) = body.as_chunks::<8>();
        whole.iter().for_each(|bytes| put(u64::from_ne_bytes(*bytes)));
        if !rest.is_empty() {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            put(u64::from_ne_bytes(bytes));
        }
        self.written = at;
        // Release: who sees the position sees the record.
        ring.written.store(at, Release);
        true
    }
}

/// The side that reads.
#[derive(Debug, Default)]
pub(super) struct Reader {
    read: u64,
    /// How far the other side had written when it was last looked at.
    written: u64,
}

impl Reader {
    /// Whether there is nothing to read.
    pub(super) fn is_empty(&self, ring: Ring<'_>) -> bool {
        // Acquire: the record is seen with its position.
        self.read == self.written && ring.written.load(Acquire) == self.read
    }

    /// The head of the next record, and how long its body is, which is to be taken next.
    ///
    /// # Errors
    /// If the other side has broken the ring.
    #[inline]
    pub(super) fn head<const HEAD: usize>(
        &mut self,
        ring: Ring<'_>,
    ) -> Result<Option<([u64; HEAD], usize)>, OutOfOrder> {
        if self.read == self.written {
            // Acquire: as above.
            self.written = ring.written.load(Acquire);
            if self.read == self.written {
                return Ok(None);
            }
        }
        let there = self.written.wrapping_sub(self.read);
        if there > ring.room() || there < HEAD as u64 {
            return Err(OutOfOrder);
        }
        let head: [u64; HEAD] =
            std::array::from_fn(|index| ring.word(self.read + index as u64).load(Relaxed));
        let length = head[0] as u32 as usize;
        if words_of(HEAD, length) > there {
            return Err(OutOfOrder);
        }
        self.read += HEAD as u64;
        Ok(Some((head, length)))
    }

    /// The body of the record whose head was read, behind the bytes that are there.
    #[inline]
    pub(super) fn body_into(&mut self, ring: Ring<'_>, length: usize, bytes: &mut impl BufMut) {
        let mut next = || {
            let word = ring.word(self.read).load(Relaxed).to_ne_bytes();
            self.read += 1;
            word
        };
        (0..length / 8).for_each(|_| bytes.put_slice(&next()));
        let rest = length % 8;
        if rest > 0 {
            bytes.put_slice(&next()[..rest]);
        }
    }

    /// Tells the other side how far it may write.
    pub(super) fn tell(&self, ring: Ring<'_>) {
        // Release: what was read was read before it may be written over.
        ring.read.store(self.read, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory {
        words: Vec<AtomicU64>,
        read: AtomicU64,
        written: AtomicU64,
    }

    impl Memory {
        fn new(words: usize) -> Self {
            let words = (0..words).map(|_| AtomicU64::new(0)).collect();
            Self { words, read: AtomicU64::new(0), written: AtomicU64::new(0) }
        }

        fn ring(&self) -> Ring<'_> {
            Ring { words: &self.words, read: &self.read, written: &self.written }
        }
    }

    fn take(reader: &mut Reader, ring: Ring<'_>) -> Option<(u64, Vec<u8>)> {
        let ([_, second], length) = reader.head::<2>(ring).unwrap()?;
        let mut body = Vec::new();
        reader.body_into(ring, length, &mut body);
        Some((second, body))
    }

    #[test]
    fn records_of_all_lengths_come_in_order_and_whole() {
        let memory = Memory::new(32);
        let ring = memory.ring();
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        let (mut sent, mut came) = (0_u64, 0_u64);
        let body = |n: u64| (0..n % 70).map(|byte| byte as u8).collect::<Vec<_>>();
        while came < 10_000 {
            while writer.push(ring, [body(sent).len() as u64, sent], &body(sent)) {
                sent += 1;
            }
            while let Some((second, taken)) = take(&mut reader, ring) {
                assert_eq!((second, taken), (came, body(came)));
                came += 1;
            }
            assert_eq!(sent, came);
            assert!(reader.is_empty(ring));
            reader.tell(ring);
        }
    }

    #[test]
    fn what_is_not_read_is_not_written_over() {
        let memory = Memory::new(8);
        let ring = memory.ring();
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        assert!(writer.push(ring, [32, 1], &[1; 32]));
        assert!(!writer.push(ring, [8, 2], &[2; 8]));
        assert_eq!(take(&mut reader, ring), Some((1, vec![1; 32])));
        assert!(!writer.push(ring, [8, 2], &[2; 8]), "nobody was told");
        reader.tell(ring);
        assert!(writer.push(ring, [8, 2], &[2; 8]));
    }

    #[test]
    fn a_hostile_side_is_found_out() {
        let memory = Memory::new(8);
        let ring = memory.ring();
        for (written, length) in [(9, 0), (u64::MAX, 0), (1, 0), (2, 1), (8, u64::from(u32::MAX))] {
            memory.words[0].store(length, Relaxed);
            memory.written.store(written, Relaxed);
            assert_eq!(Reader::default().head::<2>(ring), Err(OutOfOrder), "{written}, {length}");
        }
        let mut writer = Writer::default();
        assert!(writer.push(ring, [48, 0], &[0; 48]));
        for read in [9, u64::MAX, 1 << 40] {
            memory.read.store(read, Relaxed);
            assert!(!writer.push(ring, [0, 0], &[]), "{read}");
        }
    }
}
