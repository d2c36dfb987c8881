//! Packets in messages of a pool's own.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::pipe::Held;
use crate::wire::Packet;

/// A packet in a letter.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Enclosed {
    bytes: Bytes,
    handles: Vec<Held>,
}

impl Enclosed {
    /// How many bytes there are in it.
    pub(super) const fn length(&self) -> usize {
        self.bytes.len()
    }
}

impl From<Packet> for Enclosed {
    fn from(Packet { bytes, handles }: Packet) -> Self {
        Self { bytes, handles: handles.into_iter().map(Held).collect() }
    }
}

impl From<Enclosed> for Packet {
    fn from(Enclosed { bytes, handles }: Enclosed) -> Self {
        let handles: Vec<Arc<OwnedFd>> = handles.into_iter().map(|Held(handle)| handle).collect();
        Self { bytes, handles }
    }
}
