//! The bytes of a message as they are written.

use postcard::ser_flavors::Flavor;

use crate::wire::aside::{Aside, MOST};

/// Stores up to `room` bytes. Past that it stores nothing, and only counts.
#[derive(Debug)]
pub(super) struct Output<'s> {
    bytes: Vec<u8>,
    room: u64,
    /// The size of a message that did not fit; 0 while it fits.
    excess: u64,
    /// Where long strings go, if not among the bytes.
    aside: Option<&'s mut Aside>,
    /// Bytes that went there.
    length_aside: u64,
}

impl<'s> Output<'s> {
    pub(super) fn new(room: u64) -> Self {
        Self::appending_to(Vec::new(), room, None)
    }

    /// Writes into the room that a vector has already.
    #[inline]
    pub(super) fn appending_to(mut bytes: Vec<u8>, room: u64, aside: Option<&'s mut Aside>) -> Self {
        bytes.clear();
        Self { bytes, room, excess: 0, aside, length_aside: 0 }
    }

    /// The message, or the size that it would have had.
    #[inline]
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, u64> {
        if self.excess == 0 { Ok(self.bytes) } else { Err(self.excess) }
    }

    #[inline]
    pub(super) fn takes_aside(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.count() < MOST)
    }

    /// Puts a long string aside.
    pub(super) fn put_aside(&mut self, bytes: &[u8]) {
        if !self.fits(bytes.len()) {
            self.count(bytes.len());
        } else if let Some(aside) = &mut self.aside {
            self.length_aside += bytes.len() as u64;
            aside.put(bytes);
        }
    }

    #[inline]
    fn fits(&self, more: usize) -> bool {
        self.bytes.len() as u64 + self.length_aside + more as u64 <= self.room
    }

    /// Lets go of what is stored. Without room nothing is stored from here on.
    #[cold]
    fn count(&mut self, more: usize) {
        self.excess += self.bytes.len() as u64 + self.length_aside + more as u64;
        self.bytes = Vec::new();
        self.room = 0;
        self.length_aside = 0;
    }
}

impl Flavor for Output<'_> {
    type Output = Self;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.fits(1) {
            self.bytes.push(byte);
        } else {
            self.count(1);
        }
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.fits(bytes.len()) {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.count(bytes.len());
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self> {
        Ok(self)
    }
}
