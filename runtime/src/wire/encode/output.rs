//! The bytes of a message as they are written.

use postcard::ser_flavors::Flavor;

/// Stores up to `room` bytes. Past that it stores nothing, and only counts.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    room: u64,
    /// The size of a message that did not fit; 0 while it fits.
    excess: u64,
}

impl Output {
    pub(super) fn new(room: u64) -> Self {
        Self { bytes: Vec::new(), room, excess: 0 }
    }

    /// The message, or the size that it would have had.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, u64> {
        if self.excess == 0 { Ok(self.bytes) } else { Err(self.excess) }
    }

    #[inline]
    fn fits(&self, more: usize) -> bool {
        self.bytes.len() as u64 + more as u64 <= self.room
    }

    /// Lets go of what is stored. Without room nothing is stored from here on.
    #[cold]
    fn count(&mut self, more: usize) {
        self.excess += self.bytes.len() as u64 + more as u64;
        self.bytes = Vec::new();
        self.room = 0;
    }
}

impl Flavor for Output {
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
