//! Reading messages: postcard's format, read by the one decoder that hostile bytes cannot hurt.
//!
//! Whatever the bytes are, reading them ends, in time and memory proportional to their number and to the
//! limits, without a panic:
//!
//! * containers stand at most [`Limits::max_depth`] deep in one another, so that the stack does not overflow;
//! * what a collection declares is charged to [`Limits::max_heap`] before it is read, also when its elements
//!   take no bytes;
//! * nothing is reserved for more elements than there are bytes left, and serde's collections reserve at most
//!   1 MiB ahead;
//! * bytes that are left over are an error.
//!
//! The memory is approximate: elements are charged with their size, strings and bytes with their length, but not
//! what a `Box` holds, nor the overhead of a map or of a `Vec` that grows.

use std::any::type_name;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::fault::Fault;
use self::reader::Reader;
use super::beside::Incoming;
use super::{Limits, Message, Packet};

mod deserializer;
mod fault;
mod reader;
#[cfg(test)]
mod tests;

/// Reads the arguments of a call, in the order in which they were written.
#[derive(Debug)]
pub struct Decoder<'de> {
    reader: Reader<'de>,
    /// The last argument and its type.
    last: (Option<&'static str>, &'static str),
}

impl<'de> Decoder<'de> {
    /// Starts reading `bytes`, all of which together may cost what `limits` allow.
    #[must_use]
    pub fn new(bytes: &'de [u8], limits: Limits) -> Self {
        Self { reader: Reader::new(bytes, &limits), last: (None, type_name::<()>()) }
    }

    /// As [`new`](Self::new), with the handles that came beside the message.
    #[inline]
    pub(crate) fn with_handles(bytes: &'de [u8], handles: Vec<Arc<OwnedFd>>, limits: Limits) -> Self {
        let reader = if handles.is_empty() {
            Reader::of_a_message(bytes, &limits)
        } else {
            Reader::with(bytes, Incoming::new(handles.into(), None), None, &limits)
        };
        Self { reader, last: (None, type_name::<()>()) }
    }

    /// Reads the next argument; its `name` is for the error message alone.
    ///
    /// # Errors
    /// If the bytes are not a `T`, or exceed the limits.
    pub fn argument<T: Message>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        self.last = (Some(name), type_name::<T>());
        T::deserialize(&mut self.reader).map_err(|fault| DecodeError::new(self.last, &fault))
    }

    /// Checks that everything has been read.
    ///
    /// # Errors
    /// If bytes are left over; it names the last argument.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        self.reader.end().map_err(|fault| DecodeError::new(self.last, &fault))
    }
}

/// Decodes a message that is one value.
///
/// # Errors
/// If the bytes are not a `T` to their end, or exceed the limits.
#[inline]
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<T, DecodeError> {
    read(Reader::new(bytes, limits))
}

#[inline]
fn read<T: DeserializeOwned>(mut reader: Reader<'_>) -> Result<T, DecodeError> {
    T::deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|fault| DecodeError::new((None, type_name::<T>()), &fault))
}

/// Decodes a message that is one value, with the handles beside it and the long strings aside.
///
/// # Errors
/// As [`decode`], and if other handles or strings came than the value has.
pub(crate) fn unpack<T: DeserializeOwned>(
    bytes: &[u8],
    handles: VecDeque<Arc<OwnedFd>>,
    aside: Option<VecDeque<Vec<u8>>>,
    limits: &Limits,
) -> Result<T, DecodeError> {
    if handles.is_empty() && aside.is_none() {
        return unpack_alone(bytes, limits);
    }
    read(Reader::with(bytes, Incoming::new(handles, Some(*limits)), aside, limits))
}

/// Decodes a message that is one value, with which nothing came.
///
/// # Errors
/// As [`unpack`].
#[inline]
pub(crate) fn unpack_alone<T: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<T, DecodeError> {
    read(Reader::of_a_message(bytes, limits))
}

/// Decodes a message that is one value, and came whole.
///
/// # Errors
/// As [`unpack`].
pub(crate) fn unpack_whole<T: DeserializeOwned>(packet: Packet, limits: &Limits) -> Result<T, DecodeError> {
    unpack(&packet.bytes, packet.handles.into(), None, limits)
}

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot read {}: {reason}", super::reason::subject(.what.as_deref(), .type_name))]
pub struct DecodeError {
    what: Option<String>,
    type_name: String,
    reason: String,
}

impl DecodeError {
    /// The name of the argument; `None` for a result, or a message of another kind.
    #[must_use]
    pub fn argument(&self) -> Option<&str> {
        self.what.as_deref()
    }

    /// The type of the whole argument or result.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// What is wrong with the bytes or the type, and what to do.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The kernel has dropped the handles of a message.
    pub(crate) fn without_descriptors() -> Self {
        let reason = "it had handles, and the process that was to have them can have no more descriptors";
        Self { what: None, type_name: "unknown".into(), reason: reason.into() }
    }

    #[cold]
    fn new((argument, type_name): (Option<&str>, &str), fault: &Fault) -> Self {
        Self { what: argument.map(str::to_owned), type_name: type_name.to_owned(), reason: fault.to_string() }
    }
}
