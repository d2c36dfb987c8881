//! Writing messages: postcard, without what postcard would write but could not read back.

use std::any::type_name;
use std::cell::Cell;

use serde::{Deserialize, Serialize};

use self::output::Output;
use self::serializer::{Fault, Writer};
use super::aside::Aside;
use super::beside::Outgoing;
use super::{Arguments, Limits, Message, Parcel};

mod output;
mod serializer;
#[cfg(test)]
mod tests;

/// How much room a thread keeps for the arguments of its next call.
const ROOM: usize = 4 << 10;

thread_local! {
    /// Where the arguments of the next call are written: most calls then take no memory of their own.
    static NEXT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Collects the arguments of a call, in order, as one message.
///
/// The first argument that cannot travel is remembered and the rest are ignored, so that a call can be written
/// down without a `?` and fails when it is made.
#[derive(Debug)]
pub struct Encoder {
    writer: Writer<'static>,
    error: Option<Box<EncodeError>>,
}

impl Encoder {
    /// Starts an empty list of arguments.
    #[must_use]
    #[inline]
    pub fn arguments() -> Self {
        // None is kept where the thread is about to end.
        let room = NEXT.try_with(Cell::take).unwrap_or_default();
        let output = Output::appending_to(room, u64::MAX, None);
        Self { writer: Writer::new(output, Some(Outgoing::new())), error: None }
    }

    /// Adds an argument; its `name` is for the error message alone.
    #[inline]
    pub fn argument<T: Message>(&mut self, name: &'static str, value: &T) {
        if self.error.is_none() {
            let written = value.serialize(&mut self.writer);
            if let Err(fault) = written {
                self.error = Some(Box::new(EncodeError::unsupported::<T>(Some(name), &fault)));
            }
        }
    }

    /// The encoded arguments. Their size is not limited here.
    ///
    /// # Errors
    /// [`EncodeError::Unsupported`] for the first argument that cannot travel.
    #[inline]
    pub(crate) fn into_arguments(self) -> Result<Arguments, Box<EncodeError>> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Parcel { bytes, handles } = finish(self.writer, u64::MAX)?;
        if bytes.capacity() > ROOM {
            return Ok(Arguments::whole(bytes, handles));
        }
        let arguments = Arguments::copied(&bytes, handles);
        // As above.
        let _ = NEXT.try_with(|next| next.set(bytes));
        Ok(arguments)
    }
}

/// Encodes one value as a message of at most `limit` bytes, without handles.
///
/// A value that is too large is written to its end, without being stored, so that the error has its true size.
///
/// # Errors
/// If the value cannot travel, or takes more than `limit` bytes.
pub fn encode<T: Serialize + ?Sized>(value: &T, limit: u64) -> Result<Vec<u8>, EncodeError> {
    let writer = Writer::new(Output::new(limit), None);
    Ok(write(value, writer, limit)?.bytes)
}

/// Encodes one value as a message, with its handles.
///
/// # Errors
/// If the value cannot travel, or exceeds the limits.
pub(crate) fn pack<T: Serialize + ?Sized>(value: &T, limits: &Limits) -> Result<Parcel, EncodeError> {
    pack_into(Vec::new(), None, value, limits)
}

/// As [`pack`], into the room that a vector has, and with a place aside for long strings.
///
/// # Errors
/// If the value cannot travel, or exceeds the limits.
#[inline]
pub(crate) fn pack_into<T: Serialize + ?Sized>(
    room: Vec<u8>,
    aside: Option<&mut Aside>,
    value: &T,
    limits: &Limits,
) -> Result<Parcel, EncodeError> {
    let output = Output::appending_to(room, limits.max_message, aside);
    let writer = Writer::new(output, Some(Outgoing::new()));
    let parcel = write(value, writer, limits.max_message)?;
    limits.check_handles(parcel.handles.len())?;
    Ok(parcel)
}

#[inline]
fn write<T: Serialize + ?Sized>(
    value: &T,
    mut writer: Writer<'_>,
    limit: u64,
) -> Result<Parcel, EncodeError> {
    match value.serialize(&mut writer) {
        Ok(()) => finish(writer, limit),
        Err(fault) => Err(EncodeError::unsupported::<T>(None, &fault)),
    }
}

#[inline]
fn finish(writer: Writer<'_>, limit: u64) -> Result<Parcel, EncodeError> {
    let (output, handles) = writer.into_parts();
    let bytes = output.into_bytes().map_err(|size| EncodeError::TooLarge { size, limit })?;
    Ok(Parcel { bytes, handles })
}

/// Why a value cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The value has something that could not be read back.
    #[error("cannot send {}: {reason}", super::reason::subject(.what.as_deref(), .type_name))]
    Unsupported {
        /// The name of the argument; `None` for a result, or a message of another kind.
        what: Option<String>,
        /// The type of the whole argument or result.
        type_name: String,
        /// What could not be read back, and what to do instead.
        reason: String,
    },
    /// The message is larger than the limit.
    #[error(
        "a message of {size} bytes exceeds the limit of {limit}; raise `Limits::max_message`, or send it in parts"
    )]
    TooLarge {
        /// The bytes that the message would have.
        size: u64,
        /// The bytes that it may have.
        limit: u64,
    },
    /// The message has more handles than the limit.
    #[error("a message with {count} handles exceeds the limit of {limit}; raise `Limits::max_handles`")]
    TooManyHandles {
        /// The handles that the message has.
        count: usize,
        /// The handles that it may have.
        limit: u16,
    },
}

impl EncodeError {
    #[cold]
    fn unsupported<T: ?Sized>(argument: Option<&str>, fault: &Fault) -> Self {
        Self::Unsupported {
            what: argument.map(str::to_owned),
            type_name: type_name::<T>().to_owned(),
            reason: fault.to_string(),
        }
    }
}
