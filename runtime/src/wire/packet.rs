//! A message that goes over a link.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::Parcel;

/// An encoded message, and the handles beside it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packet {
    pub(crate) bytes: Bytes,
    pub(crate) handles: Vec<Arc<OwnedFd>>,
}

impl From<Parcel> for Packet {
    fn from(parcel: Parcel) -> Self {
        let Parcel { bytes, handles } = parcel;
        Self { bytes: bytes.into(), handles }
    }
}
