//! Ends of pipes in messages.

use std::any::type_name;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::passed::check_unix_stream;
use crate::wire::beside::{HandleKind, Ownership, Taken, give, take};

/// The socket of an end.
pub(super) struct Given<'a> {
    pub(super) socket: &'a Arc<OwnedFd>,
    pub(super) kind: HandleKind,
}

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give(self.socket, self.kind, Ownership::Single, serializer)
    }
}

/// A descriptor that more than one process may have.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Arc<OwnedFd>);

impl Serialize for Held {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give(&self.0, HandleKind::Descriptor, Ownership::Shared, serializer)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(take(HandleKind::Descriptor, deserializer)?.handle))
    }
}

/// The socket of an end that sends.
pub(super) struct TakenSender(pub(super) Taken);

impl<'de> Deserialize<'de> for TakenSender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take_end(HandleKind::PipeSender, deserializer).map(Self)
    }
}

/// The socket of an end that receives.
pub(super) struct TakenReceiver(pub(super) Taken);

impl<'de> Deserialize<'de> for TakenReceiver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take_end(HandleKind::PipeReceiver, deserializer).map(Self)
    }
}

fn take_end<'de, D: Deserializer<'de>>(kind: HandleKind, deserializer: D) -> Result<Taken, D::Error> {
    let taken = take(kind, deserializer)?;
    check_unix_stream(taken.handle.as_fd())
        .map_err(|error| D::Error::custom(format_args!("an end of a pipe is none: {error}")))?;
    Ok(taken)
}

/// What tells pipes, and mailboxes, of different types apart. FNV-1a, of the type's name: both sides are the same program.
pub(crate) fn hash_of<T>() -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    type_name::<T>().bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// # Errors
/// If the end is one for another type.
pub(crate) fn check_type<T, E: serde::de::Error>(hash: u64) -> Result<(), E> {
    if hash == hash_of::<T>() {
        return Ok(());
    }
    Err(E::custom(format_args!("an end of a pipe or a mailbox is not one for `{}`", type_name::<T>())))
}
