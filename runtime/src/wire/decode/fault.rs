//! What can be wrong with bytes, or with a type that wants to be read from them.

use std::fmt::{self, Display};

use serde::de;

use crate::wire::reason::brief;

/// Why reading failed. Boxed, because every step of reading returns it.
#[derive(Debug)]
pub(super) struct Fault(Box<Reason>);

#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error(
        "{0}; either the type's `Serialize` and `Deserialize` disagree (`skip_serializing` and \
         `skip_deserializing` go together), or the sender is at fault"
    )]
    Malformed(Malformed),
    #[error(
        "it stands more than {0} levels deep; send it flat, as a `Vec` of its parts, or raise `Limits::max_depth`"
    )]
    Depth(u32),
    #[error(
        "reading it would take more than {0} bytes of memory; send it in parts, or raise `Limits::max_heap`"
    )]
    Heap(u64),
    #[error(
        "it asks the bytes what they hold, as enums with `untagged` or `tag`, `flatten`, `IgnoredAny` and \
         `serde_json::Value` do, and they do not say; send it as a JSON string, or use an externally tagged enum"
    )]
    SelfDescribing,
    #[error("{0}")]
    Custom(String),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the bytes end early")]
    End,
    #[error("a number or length is too large for its type")]
    Varint,
    #[error("a bool is {0}, not 0 or 1")]
    Bool(u8),
    #[error("the tag of an `Option` is {0}, not 0 or 1")]
    Option(u8),
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("a `char` is not a character")]
    Char,
    #[error("bytes left over: {0}")]
    Trailing(usize),
    #[error("handles left over: {0}")]
    Handles(usize),
    #[error("a long string is not the one that stands aside, or none does")]
    Aside,
}

impl From<Reason> for Fault {
    #[cold]
    fn from(reason: Reason) -> Self {
        Self(Box::new(reason))
    }
}

impl From<Malformed> for Fault {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        Reason::Malformed(malformed).into()
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        Reason::Custom(brief(message)).into()
    }
}
