//! Why a message is not received.

use std::io;

use crate::wire::DecodeError;

/// Why a message was not received. It is lost, and those behind it come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// It is not a message of this type, or exceeds a limit.
    #[error("a message of a mailbox cannot be read")]
    Decode(#[from] DecodeError),
    /// It had handles, and this process can have no more descriptors: see `RLIMIT_NOFILE` in `getrlimit(2)`.
    #[error("a message of a mailbox had handles, and this process can have no more descriptors")]
    NoDescriptors,
    /// The system does not let it through, or a hostile process has taken it away.
    #[error("the system does not let a message of a mailbox through")]
    System(#[from] io::Error),
}

/// Why there is no message now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None is queued.
    #[error("no message is queued")]
    Empty,
    /// The mailbox is closed, or has no senders any more, and everything has been received.
    #[error("the mailbox is closed")]
    Closed,
    /// One came, and was not received.
    #[error(transparent)]
    Failed(#[from] RecvError),
}
