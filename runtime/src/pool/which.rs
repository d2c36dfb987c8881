//! Which function a job is of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::error::Cause;
use crate::image::Image;

/// A process function, as processes of one image tell it to one another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Function {
    name: String,
    /// The entry's distance from the anchor.
    distance: i64,
    /// The entry's place and signature, in words: they must be those of what stands at that distance.
    place: String,
    signature: String,
}

impl Function {
    pub(super) fn of(entry: &'static Entry) -> Result<Self, Cause> {
        let distance = Image::this()?.distance(entry)?;
        let (place, signature) = (entry.place.to_string(), (entry.signature)().to_owned());
        Ok(Self { name: entry.place.name.to_owned(), distance, place, signature })
    }

    /// How many bytes it takes to call it by name.
    pub(super) const fn length(&self) -> usize {
        self.name.len() + self.place.len() + self.signature.len()
    }

    #[cfg(test)]
    pub(super) const fn named(name: String) -> Self {
        Self { name, distance: 0, place: String::new(), signature: String::new() }
    }

    /// What stands there, if it is the same. For a worker alone: what another process tells is believed here.
    pub(super) fn find(&self) -> Option<&'static Entry> {
        let entry = Image::this().ok()?.entry_at(self.distance)?;
        let is_same = entry.place.to_string() == self.place && (entry.signature)() == self.signature;
        is_same.then_some(entry)
    }
}

/// Which function a job is of: one of this process's, or one that another process has told, which only a worker looks for.
#[derive(Debug, Clone)]
pub(super) enum Which {
    Ours(&'static Entry),
    Told(Arc<Function>),
}

impl Which {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Ours(entry) => entry.place.name,
            Self::Told(function) => &function.name,
        }
    }

    /// Whether both are the same, as one look tells.
    pub(super) fn is_identical(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ours(one), Self::Ours(other)) => std::ptr::eq(*one, *other),
            (Self::Told(one), Self::Told(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether both are the same, as far as their names tell.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Told(one), Self::Told(other)) => one == other,
            (one, other) => one.is_identical(other),
        }
    }

    pub(super) fn function(&self) -> Result<Function, Cause> {
        match self {
            Self::Ours(entry) => Function::of(entry),
            Self::Told(function) => Ok(Function::clone(function)),
        }
    }
}
