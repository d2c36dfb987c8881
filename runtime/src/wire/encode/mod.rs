//! Writing messages: postcard, without what postcard would write but could not read back.

use std::any::type_name;

use serde::{Deserialize, Serialize};

use self::output::Output;
use self::serializer::{Fault, Writer};
use super::Message;

mod output;
mod serializer;
#[cfg(test)]
mod tests;

/// Collects the arguments of a call, in order, as one message.
///
/// The first argument that cannot travel is remembered and the rest are ignored, so that a call can be written
/// down without a `?` and fails when it is made.
#[derive(Debug)]
pub struct Encoder {
    writer: Writer,
    error: Option<EncodeError>,
}

impl Encoder {
    /// Starts an empty list of arguments.
    #[must_use]
    pub fn arguments() -> Self {
        Self { writer: Writer::new(Output::new(u64::MAX)), error: None }
    }

    /// Adds an argument; its `name` is for the error message alone.
    pub fn argument<T: Message>(&mut self, name: &'static str, value: &T) {
        if self.error.is_none() {
            let written = value.serialize(&mut self.writer);
            self.error = written.err().map(|fault| EncodeError::unsupported::<T>(Some(name), &fault));
        }
    }

    /// The encoded arguments. Their size is not limited here.
    ///
    /// # Errors
    /// [`EncodeError::Unsupported`] for the first argument that cannot travel.
    pub fn into_arguments(self) -> Result<Vec<u8>, EncodeError> {
        match self.error {
            Some(error) => Err(error),
            None => finish(self.writer, u64::MAX),
        }
    }
}

/// Encodes one value as a message of at most `limit` bytes.
///
/// A value that is too large is written to its end, without being stored, so that the error has its true size.
///
/// # Errors
/// If the value cannot travel, or takes more than `limit` bytes.
pub fn encode<T: Serialize + ?Sized>(value: &T, limit: u64) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new(Output::new(limit));
    match value.serialize(&mut writer) {
        Ok(()) => finish(writer, limit),
        Err(fault) => Err(EncodeError::unsupported::<T>(None, &fault)),
    }
}

fn finish(writer: Writer, limit: u64) -> Result<Vec<u8>, EncodeError> {
    writer.into_output().into_bytes().map_err(|size| EncodeError::TooLarge { size, limit })
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
