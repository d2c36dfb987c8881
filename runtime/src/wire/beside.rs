//! Handles beside a message, while it is written and while it is read.
//!
//! serde shows a value no more of a serializer than serde's own methods. So a handle asks for a newtype struct of a name
//! that ours alone knows. Ours then lays its table open, on this thread and for that one call, and the handle puts its
//! descriptor in, or takes one out. Any other serializer opens no table: there the handle is an error.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

use super::Limits;

/// The newtype struct that a handle asks for.
pub(super) const HANDLE: &str = "procession::Handle";

const OUTSIDE: &str = "a handle travels only in a message of Procession's own: an argument, a result, or what is \
                       sent through a pipe";

const FEWER: &str = "fewer handles came beside it than stand in it";

/// What a handle is, on the wire; a message that has another than its reader expects is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum HandleKind {
    Descriptor = 1,
    File = 2,
    TcpStream = 3,
    TcpListener = 4,
    UnixStream = 5,
    PipeSender = 6,
    PipeReceiver = 7,
    Blob = 8,
    Region = 9,
    Mailbox = 10,
}

/// Whether more than one process may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    Shared,
    Single,
}

/// The descriptors of a message that is being written.
pub(crate) type Outgoing = Vec<Arc<OwnedFd>>;

/// The descriptors of a message that is being read.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// In the order in which they were written.
    pub(crate) handles: VecDeque<Arc<OwnedFd>>,
    /// How many were taken.
    pub(crate) taken: usize,
    /// What was made of several of them, by the place of the first.
    pub(crate) made: Vec<(usize, Arc<dyn Any + Send + Sync>)>,
    /// What the limits of an end of a pipe may be at most: whoever has sent it may be hostile.
    pub(crate) ceiling: Option<Limits>,
}

impl Incoming {
    pub(crate) const fn new(handles: VecDeque<Arc<OwnedFd>>, ceiling: Option<Limits>) -> Self {
        Self { handles, taken: 0, made: Vec::new(), ceiling }
    }

    fn take(&mut self) -> Option<Arc<OwnedFd>> {
        self.taken += 1;
        self.handles.pop_front()
    }
}

/// A descriptor that was in a message.
pub(crate) struct Taken {
    pub(crate) handle: Arc<OwnedFd>,
    ceiling: Option<Limits>,
}

impl Taken {
    /// The limits of an end, or those of the message that it came in where they are narrower.
    pub(crate) fn narrow(&self, limits: Limits) -> Limits {
        self.ceiling.map_or(limits, |ceiling| limits.within(&ceiling))
    }
}

thread_local! {
    static OUTGOING: RefCell<Option<Outgoing>> = const { RefCell::new(None) };
    static INCOMING: RefCell<Option<Incoming>> = const { RefCell::new(None) };
}

/// What the limits may be at most of what stands in the message that is being read.
pub(crate) fn ceiling() -> Option<Limits> {
    INCOMING.with_borrow(|table| table.as_ref()?.ceiling)
}

/// Lays the table open for as long as `write` runs.
pub(super) fn while_writing<T>(table: &mut Option<Outgoing>, write: impl FnOnce() -> T) -> T {
    let outer = OUTGOING.replace(table.take());
    let written = write();
    *table = OUTGOING.replace(outer);
    written
}

/// Lays the table open for as long as `read` runs.
pub(super) fn while_reading<T>(table: &mut Option<Incoming>, read: impl FnOnce() -> T) -> T {
    let outer = INCOMING.replace(table.take());
    let value = read();
    *table = INCOMING.replace(outer);
    value
}

/// Writes a handle: its kind among the bytes, its descriptor beside them.
///
/// # Errors
/// If the message is none of ours, or a handle that one process owns stands in it twice.
pub(crate) fn give<S: Serializer>(
    handle: &Arc<OwnedFd>,
    kind: HandleKind,
    ownership: Ownership,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_newtype_struct(HANDLE, &Given { handle, kind, ownership })
}

struct Given<'a> {
    handle: &'a Arc<OwnedFd>,
    kind: HandleKind,
    ownership: Ownership,
}

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        OUTGOING
            .with_borrow_mut(|table| {
                let table = table.as_mut().ok_or(OUTSIDE)?;
                let is_there = || table.iter().any(|other| Arc::ptr_eq(other, self.handle));
                if self.ownership == Ownership::Single && is_there() {
                    return Err("an end of a pipe stands in it twice, and belongs to one process");
                }
                table.push(Arc::clone(self.handle));
                Ok(())
            })
            .map_err(S::Error::custom)?;
        serializer.serialize_u8(self.kind as u8)
    }
}

/// Reads a handle of a kind.
///
/// # Errors
/// If the message is none of ours, has a handle of another kind here, or none.
pub(crate) fn take<'de, D: Deserializer<'de>>(kind: HandleKind, deserializer: D) -> Result<Taken, D::Error> {
    deserializer.deserialize_newtype_struct(HANDLE, Taking { kind })
}

struct Taking {
    kind: HandleKind,
}

impl<'de> Visitor<'de> for Taking {
    type Value = Taken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a handle ({:?})", self.kind)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Taken, D::Error> {
        let (handle, ceiling, kind) = INCOMING.with_borrow_mut(|table| {
            let table = table.as_mut().ok_or_else(|| D::Error::custom(OUTSIDE))?;
            let kind = u8::deserialize(deserializer)?;
            Ok((table.take(), table.ceiling, kind))
        })?;
        if kind != self.kind as u8 {
            return Err(D::Error::custom(format_args!("a handle is of kind {kind}, not {:?}", self.kind)));
        }
        let handle = handle.ok_or_else(|| D::Error::custom(FEWER))?;
        Ok(Taken { handle, ceiling })
    }
}

/// Writes what several descriptors stand for: the same ones a second time as the place where they stood first.
///
/// # Errors
/// If the message is none of ours.
pub(crate) fn give_all<S: Serializer>(
    handles: &[&Arc<OwnedFd>],
    kind: HandleKind,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_newtype_struct(HANDLE, &GivenAll { handles, kind })
}

struct GivenAll<'a> {
    handles: &'a [&'a Arc<OwnedFd>],
    kind: HandleKind,
}

impl Serialize for GivenAll<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let place = OUTGOING.with_borrow_mut(|table| {
            let table = table.as_mut().ok_or_else(|| S::Error::custom(OUTSIDE))?;
            let first = table.iter().position(|other| Arc::ptr_eq(other, self.handles[0]));
            Ok(first.unwrap_or_else(|| {
                table.extend(self.handles.iter().map(|handle| Arc::clone(handle)));
                table.len() - self.handles.len()
            }))
        })?;
        (self.kind as u8, self.handles.len() as u16, place as u32).serialize(serializer)
    }
}

/// Reads what several descriptors stand for, and makes it of them, once for each message.
///
/// # Errors
/// If the message is none of ours, has something else here, or fewer descriptors; if nothing can be made of them.
pub(crate) fn take_all<'de, D: Deserializer<'de>, T: Any + Send + Sync>(
    kind: HandleKind,
    deserializer: D,
    make: impl FnOnce(Vec<Arc<OwnedFd>>) -> io::Result<Arc<T>>,
) -> Result<Arc<T>, D::Error> {
    deserializer.deserialize_newtype_struct(HANDLE, TakingAll { kind, make })
}

struct TakingAll<F> {
    kind: HandleKind,
    make: F,
}

impl<'de, T: Any + Send + Sync, F: FnOnce(Vec<Arc<OwnedFd>>) -> io::Result<Arc<T>>> Visitor<'de>
    for TakingAll<F>
{
    type Value = Arc<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a handle ({:?})", self.kind)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Arc<T>, D::Error> {
        let (kind, count, place) = <(u8, u16, u32)>::deserialize(deserializer)?;
        if kind != self.kind as u8 {
            return Err(D::Error::custom(format_args!("a handle is of kind {kind}, not {:?}", self.kind)));
        }
        let place = place as usize;
        INCOMING.with_borrow_mut(|table| {
            let table = table.as_mut().ok_or_else(|| D::Error::custom(OUTSIDE))?;
            if let Some((_, made)) = table.made.iter().find(|(first, _)| *first == place) {
                return Arc::clone(made).downcast().map_err(|_other| D::Error::custom(FEWER));
            }
            if place != table.taken {
                return Err(D::Error::custom(FEWER));
            }
            let handles: Option<Vec<_>> = (0..count).map(|_| table.take()).collect();
            let made =
                (self.make)(handles.ok_or_else(|| D::Error::custom(FEWER))?).map_err(D::Error::custom)?;
            table.made.push((place, Arc::clone(&made) as Arc<dyn Any + Send + Sync>));
            Ok(made)
        })
    }
}
