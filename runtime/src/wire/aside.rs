//! Long strings of a message, which stand aside from its other bytes: they are copied once on each side, and no codec
//! sees them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::slab::{Named, Put, Slabs};

/// From how many bytes on a string stands aside, where it may. Below that the socket is as fast.
pub(crate) const ASIDE: usize = 64 << 10;

/// How many strings of one message may.
pub(crate) const MOST: usize = 255;

/// A long string that was written.
#[derive(Debug)]
pub(crate) enum Part {
    Here(Vec<u8>),
    /// At the end of those before it that stand in the slab.
    InSlab {
        length: u64,
    },
}

/// The long strings of the message that is being written.
#[derive(Debug)]
pub(crate) struct Aside {
    slabs: Slabs,
    parts: Vec<Part>,
    /// Whether a string that finds all slabs busy waits.
    waits: bool,
    /// Whether one has.
    is_full: bool,
}

impl Aside {
    pub(crate) const fn new(slabs: Slabs) -> Self {
        Self { slabs, parts: Vec::new(), waits: true, is_full: false }
    }

    pub(crate) const fn count(&self) -> usize {
        self.parts.len()
    }

    /// Puts a long string behind those before it. Where the system has no memory for a slab, the socket is to carry it.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if !self.put_in_slab(bytes) {
            self.parts.push(Part::Here(bytes.to_vec()));
        }
    }

    /// The same, without a copy where the socket carries it.
    pub(crate) fn put_owned(&mut self, bytes: Vec<u8>) {
        if !self.put_in_slab(&bytes) {
            self.parts.push(Part::Here(bytes));
        }
    }

    fn put_in_slab(&mut self, bytes: &[u8]) -> bool {
        // What finds no room is not sent: there is no need to copy it.
        let put = if self.is_full { Put::Busy } else { self.slabs.put(bytes) };
        self.is_full = put == Put::Busy && self.waits;
        let is_put = put == Put::Done || self.is_full;
        if is_put {
            self.parts.push(Part::InSlab { length: bytes.len() as u64 });
        }
        is_put
    }

    /// Whether a string that finds all slabs busy waits, or goes by the socket.
    pub(crate) const fn waits_for_slabs(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// Whether the message has to wait until a slab is free.
    pub(crate) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Hears which slabs are free again.
    ///
    /// # Errors
    /// `WouldBlock` if none is.
    pub(crate) fn take_back(&mut self) -> io::Result<()> {
        self.slabs.take_back()
    }

    /// The strings, and the slab that some of them are in, which goes out.
    pub(crate) fn take(&mut self) -> (Vec<Part>, Option<Named>) {
        (std::mem::take(&mut self.parts), self.slabs.send())
    }

    /// The message is not sent.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        self.is_full = false;
        self.slabs.give_up();
    }
}

/// An encoded message, and the handles beside it.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<Arc<OwnedFd>>,
}
