//! What to run and how: everything that a call knows before it runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use crate::entry::Entry;
use crate::error::Cause;
use crate::surroundings::Surroundings;
use crate::wire::{EncodeError, Limits};

/// How a child comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// A fresh start of this program by `posix_spawn`: nothing of the parent's memory is shared or copied, and
    /// the address-space layout is the child's own.
    #[default]
    Spawn,
}

/// What to run and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) entry: &'static Entry,
    pub(crate) arguments: Result<Bytes, EncodeError>,
    pub(crate) name: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) start_method: StartMethod,
    pub(crate) surroundings: Surroundings,
    pub(crate) daemon: bool,
    pub(crate) kill_on_drop: bool,
}

impl Plan {
    /// The encoded arguments, if they may be sent.
    pub(crate) fn sendable_arguments(&self) -> Result<Bytes, Cause> {
        let arguments = self.arguments.clone()?;
        let (size, limit) = (arguments.len() as u64, self.limits.max_message);
        if size > limit { Err(Cause::TooLarge { size, limit }) } else { Ok(arguments) }
    }

    /// What to call it before it has a number.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.entry.place.name)
    }

    /// The name that was given, or the function's with a number that no other child of this process has.
    pub(crate) fn name_of_next(&self) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        self.name
            .clone()
            .unwrap_or_else(|| format!("{}-{}", self.entry.place.name, NUMBER.fetch_add(1, Relaxed)))
    }
}
