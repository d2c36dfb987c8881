//! Why something does not go through a pipe.

use std::fmt;
use std::io;

use bytes::Bytes;

use crate::wire::{DecodeError, EncodeError};

/// Why a message was not sent. It comes back.
#[non_exhaustive]
pub enum SendError<T> {
    /// The receiver is gone.
    Closed(T),
    /// It cannot be encoded, or exceeds a limit; nothing of it was sent.
    Encode(T, EncodeError),
    /// The system does not let it through. What was accepted before and is not with the kernel is lost.
    System(T, io::Error),
}

/// Why a message was not sent at once. It comes back.
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room: the receiver has not taken what was sent before.
    Full(T),
    /// The receiver is gone.
    Closed(T),
    /// It cannot be encoded, or exceeds a limit; nothing of it was sent.
    Encode(T, EncodeError),
    /// The system does not let it through.
    System(T, io::Error),
}

impl<T> SendError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Closed(message) | Self::Encode(message, _) | Self::System(message, _) => message,
        }
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<T> TrySendError<T> {
    /// The message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) => message,
            Self::Closed(message) | Self::Encode(message, _) | Self::System(message, _) => message,
        }
    }

    /// Whether there is no room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Closed(message) => Self::Closed(message),
            SendError::Encode(message, error) => Self::Encode(message, error),
            SendError::System(message, error) => Self::System(message, error),
        }
    }
}

const CLOSED: &str = "the receiver is gone";
const FULL: &str = "there is no room";
const ENCODE: &str = "a message cannot be sent";
const SYSTEM: &str = "the system does not let a message through";

/// What stands in words without the message, which need not be `Debug`.
macro_rules! in_words {
    ($name:ident: $($variant:pat => ($word:literal, $text:expr, $source:expr),)*) => {
        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($variant => $text,)* })
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($variant => $word,)* })?;
                std::error::Error::source(self).map_or(Ok(()), |source| write!(f, ": {source}"))
            }
        }

        impl<T> std::error::Error for $name<T> {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                use $name as This;
                match self {
                    This::Encode(_, error) => Some(error),
                    This::System(_, error) => Some(error),
                    _ => None,
                }
            }
        }
    };
}

in_words! { SendError:
    Self::Closed(_) => ("Closed(..)", CLOSED, None),
    Self::Encode(..) => ("Encode(..)", ENCODE, None),
    Self::System(..) => ("System(..)", SYSTEM, None),
}
in_words! { TrySendError:
    Self::Full(_) => ("Full(..)", FULL, None),
    Self::Closed(_) => ("Closed(..)", CLOSED, None),
    Self::Encode(..) => ("Encode(..)", ENCODE, None),
    Self::System(..) => ("System(..)", SYSTEM, None),
}

/// Why a message was not received.
///
/// A message that cannot be read is lost, and its handles are closed; the ones behind it come. Where the stream itself is at
/// fault ([`ends_the_pipe`](Self::ends_the_pipe)) nothing comes any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// It is not a message of this type, or exceeds a limit.
    #[error("a message that came through the pipe cannot be read")]
    Decode(#[from] DecodeError),
    /// The sender is gone, in the middle of it.
    #[error("the sender of the pipe ended in the middle of a message")]
    CutOff,
    /// It is larger than the pipe's limit, which a sender of ours checks, unless this end came in a message with narrower
    /// limits.
    #[error(
        "a message of {size} bytes came through a pipe whose limit is {limit}; an end that came in a message has \
         that message's limits"
    )]
    TooLarge {
        /// What it announces, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Other handles came beside it than it announces.
    #[error("{came} handles came beside a message that announces {announced}")]
    Handles {
        /// How many it announces.
        announced: usize,
        /// How many came.
        came: usize,
    },
    /// Handles came beside it, and this process can have no more descriptors: see `RLIMIT_NOFILE` in `getrlimit(2)`.
    #[error("a message had handles, and this process can have no more descriptors")]
    NoDescriptors,
    /// The sender does not speak the pipe's protocol.
    #[error("something else than a message came through the pipe: {reason}")]
    BadMessage {
        /// What came.
        reason: String,
    },
    /// What comes next was sent by `send_bytes`; it is still there for [`recv_bytes`](super::Receiver::recv_bytes).
    #[error("bytes came through the pipe where a message was expected")]
    NotAMessage,
    /// What comes next was sent by `send`; it is still there for [`recv`](super::Receiver::recv).
    #[error("a message came through the pipe where bytes were expected")]
    NotBytes,
    /// The bytes are more than the buffer takes. Here they are. Python's `BufferTooShort`.
    #[error("{} bytes came for a buffer that is shorter", .0.len())]
    BufferTooShort(Bytes),
    /// The system does not let it through.
    #[error("the system does not let a message through the pipe")]
    System(#[from] io::Error),
}

impl RecvError {
    /// What comes of an error of reading: of data that a sender of ours would not send, or of the system, which may pass.
    pub(super) fn of_reading(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::BadMessage { reason: error.to_string() },
            _ => Self::System(error),
        }
    }

    /// Whether nothing comes any more, because there is no telling where the next message begins.
    #[must_use]
    pub const fn ends_the_pipe(&self) -> bool {
        matches!(self, Self::CutOff | Self::TooLarge { .. } | Self::BadMessage { .. })
    }
}

/// Why there is no message now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None has come whole.
    #[error("no message has come through the pipe")]
    Empty,
    /// The sender is gone, and everything has been received.
    #[error("the sender of the pipe is gone")]
    Closed,
    /// One came, and was not received.
    #[error(transparent)]
    Failed(#[from] RecvError),
}
