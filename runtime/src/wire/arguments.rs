//! The arguments of a call, encoded.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::Packet;

/// How many bytes stand in the call itself: those of a few numbers.
const SHORT: usize = 38;

/// The encoded arguments of a call, and the handles beside them. Short ones take no memory of their own.
#[derive(Clone)]
pub(crate) struct Arguments {
    bytes: Written,
    handles: Vec<Arc<OwnedFd>>,
}

#[derive(Clone)]
enum Written {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Bytes),
}

impl Arguments {
    /// What was written in somebody else's room.
    #[inline]
    pub(super) fn copied(from: &[u8], handles: Vec<Arc<OwnedFd>>) -> Self {
        let mut bytes = [0; SHORT];
        let written = match bytes.get_mut(..from.len()) {
            Some(room) => {
                room.copy_from_slice(from);
                Written::Short { length: from.len() as u8, bytes }
            }
            None => Written::Long(Bytes::copy_from_slice(from)),
        };
        Self { bytes: written, handles }
    }

    pub(super) fn whole(bytes: Vec<u8>, handles: Vec<Arc<OwnedFd>>) -> Self {
        Self { bytes: Written::Long(bytes.into()), handles }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Written::Short { length, bytes } => &bytes[..usize::from(*length)],
            Written::Long(bytes) => bytes,
        }
    }

    pub(crate) fn handles(&self) -> &[Arc<OwnedFd>] {
        &self.handles
    }

    pub(crate) fn forget_handles(&mut self) {
        self.handles = Vec::new();
    }

    /// As they are sent.
    pub(crate) fn packet(&self) -> Packet {
        let bytes = match &self.bytes {
            Written::Short { .. } => Bytes::copy_from_slice(self.bytes()),
            Written::Long(bytes) => bytes.clone(),
        };
        Packet { bytes, handles: self.handles.clone() }
    }
}

/// Not what they are: they may be secret.
impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments").field("length", &self.bytes().len()).finish_non_exhaustive()
    }
}
