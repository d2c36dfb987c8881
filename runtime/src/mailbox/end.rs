//! What senders and receivers are made of.

use std::any::type_name;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::body::{put_room, take_room};
use super::channel::Channel;
use super::config::Config;
use super::error::RecvError;
use super::large::Large;
use super::lives::{Life, Lives, Role, check};
use super::socket::{MOST_HANDLES, Socket};
use crate::pipe::travel::{check_type, hash_of};
use crate::shared::{Kind, Object, Region};
use crate::wire::beside::{HandleKind, ceiling, give_all, take_all};
use crate::wire::{EncodeError, Message, Parcel, pack_into, unpack, unpack_alone};

/// An end of a mailbox: its clones in this process share it.
#[derive(Debug)]
pub(super) struct End {
    channel: Arc<Channel>,
    /// Until it is dropped.
    life: Option<Life>,
    role: Role,
    /// How many messages were not received, because they could not be read.
    pub(super) unreadable: AtomicU64,
}

impl End {
    pub(super) fn new(channel: Arc<Channel>, life: Life, role: Role) -> Arc<Self> {
        Arc::new(Self { channel, life: Some(life), role, unreadable: AtomicU64::new(0) })
    }

    #[inline]
    pub(super) const fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }
}

/// Who drops the last one of all closes the mailbox.
impl Drop for End {
    fn drop(&mut self) {
        drop(self.life.take());
        if self.channel.lives.are_gone(self.role) {
            self.channel.close();
        }
    }
}

/// Writes a message down, its bytes in this thread's room.
///
/// # Errors
/// If it cannot travel, or exceeds a limit.
#[inline]
pub(super) fn pack_message<T: Message>(channel: &Channel, message: &T) -> Result<Parcel, EncodeError> {
    let Config { limits, has_handles, .. } = channel.config;
    let limits = if has_handles { limits.max_handles(limits.max_handles.min(MOST_HANDLES)) } else { limits };
    let parcel = pack_into(take_room(), None, message, &limits)?;
    if has_handles || parcel.handles.is_empty() {
        return Ok(parcel);
    }
    Err(EncodeError::Unsupported {
        what: None,
        type_name: type_name::<T>().to_owned(),
        reason: "it has a handle, which memory cannot carry: make the mailbox by \
                 `mailbox::Builder::build_with_handles`"
            .into(),
    })
}

impl End {
    /// Reads the message of a slot that this process has taken for good, and frees it.
    #[inline]
    pub(super) fn read_and_free<T: Message>(&self, slot: usize) -> Result<T, RecvError> {
        let _freed = Afterwards { channel: &self.channel, slot: Some(slot), does: Channel::free };
        self.read(slot)
    }

    /// The same, without a word to those that wait for it: they are told of many at once, by [`Channel::freed`].
    #[inline]
    pub(super) fn read_and_free_quietly<T: Message>(&self, slot: usize) -> Result<T, RecvError> {
        let does = |channel: &Channel, slot| channel.free_quietly(slot);
        let _freed = Afterwards { channel: &self.channel, slot: Some(slot), does };
        self.read(slot)
    }

    /// Reads the message of a slot that this process holds; if that panics, it is given back.
    pub(super) fn read_held<T: Message>(&self, slot: usize) -> Result<T, RecvError> {
        let mut given_back =
            Afterwards { channel: &self.channel, slot: Some(slot), does: Channel::give_back };
        let read = self.read(slot);
        given_back.slot = None;
        read
    }

    #[inline]
    fn read<T: Message>(&self, slot: usize) -> Result<T, RecvError> {
        let mut room = take_room();
        let (bodies, limits) = (self.channel.bodies(), &self.channel.config.limits);
        let message = match bodies.read(slot, &mut room, limits.max_message) {
            Ok(length) => unpack_alone(&room[..length], limits).map_err(RecvError::Decode),
            Err(error) => Err(RecvError::System(error)),
        };
        put_room(room);
        message
    }

    /// Reads a message that the kernel has carried.
    pub(super) fn read_parcel<T: Message>(&self, parcel: Parcel) -> Result<T, RecvError> {
        let Parcel { bytes, handles } = parcel;
        let message = unpack(&bytes, handles.into(), None, &self.channel.config.limits);
        put_room(bytes);
        Ok(message?)
    }

    /// Counts a message that cannot be read, and tells of it.
    pub(super) fn count_unreadable(&self, error: &RecvError) {
        self.unreadable.fetch_add(1, Relaxed);
        tracing::warn!(%error, "a message of a mailbox cannot be received");
    }
}

/// What becomes of a slot, also if the `Deserialize` of its message panics.
struct Afterwards<'a, F: Fn(&Channel, usize)> {
    channel: &'a Channel,
    slot: Option<usize>,
    does: F,
}

impl<F: Fn(&Channel, usize)> Drop for Afterwards<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            (self.does)(self.channel, slot);
        }
    }
}

/// What an end is in a message: of which type, what the mailbox is like, its descriptors, and where it stands.
pub(super) fn serialize<T, S: Serializer>(
    channel: &Channel,
    life: Option<&Life>,
    role: Role,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let handles = Handles(life.into_iter().chain(channel.handles()).collect());
    (hash_of::<T>(), role, channel.config, handles, channel.object.place()).serialize(serializer)
}

/// Reads what [`serialize`] has written: a mailbox, and the life of an end in a role that has one.
pub(super) fn deserialize<'de, T, D: Deserializer<'de>>(
    role: Role,
    deserializer: D,
) -> Result<(Arc<Channel>, Option<Life>), D::Error> {
    let (hash, came, mut config, TakenHandles(handles), (region, at)) =
        <(u64, Role, Config, TakenHandles, (Region, u64))>::deserialize(deserializer)?;
    check_type::<T, _>(hash)?;
    if came != role {
        return Err(D::Error::custom("another end of a mailbox came than was expected"));
    }
    config.limits = ceiling().map_or(config.limits, |ceiling| config.limits.within(&ceiling));
    let attach = || {
        let object = Object::find(region, at, Kind::Mailbox, |size| Channel::is_size_of(&config, size))?;
        let handles = (*handles).clone();
        attach(object, config, role, handles)
    };
    attach().map_err(D::Error::custom)
}

fn attach(
    object: Object,
    config: Config,
    role: Role,
    handles: Vec<Arc<OwnedFd>>,
) -> io::Result<(Arc<Channel>, Option<Life>)> {
    let mut handles = handles.into_iter();
    let mut next = || handles.next().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
    let life = if role == Role::Weak { None } else { Some(next()?) };
    life.as_ref().map_or(Ok(()), |life| check(life))?;
    let lives = Lives::of(next()?, next()?)?;
    let large = if config.has_large() { Some(Large::of(next()?, &config)?) } else { None };
    let socket = if config.has_handles { Some(Socket::of(next()?, role)?) } else { None };
    Ok((Channel::of(object, config, large, socket, lives)?, life))
}

struct Handles<'a>(Vec<&'a Arc<OwnedFd>>);

impl Serialize for Handles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give_all(&self.0, HandleKind::Mailbox, serializer)
    }
}

struct TakenHandles(Arc<Vec<Arc<OwnedFd>>>);

impl<'de> Deserialize<'de> for TakenHandles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take_all(HandleKind::Mailbox, deserializer, |handles| Ok(Arc::new(handles))).map(Self)
    }
}

impl End {
    pub(super) fn serialize<T, S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize::<T, S>(&self.channel, self.life.as_ref(), self.role, serializer)
    }

    pub(super) fn deserialize<'de, T, D: Deserializer<'de>>(
        role: Role,
        deserializer: D,
    ) -> Result<Arc<Self>, D::Error> {
        let (channel, life) = deserialize::<T, D>(role, deserializer)?;
        Ok(Self::new(channel, life.ok_or_else(|| D::Error::custom("an end of a mailbox has no life"))?, role))
    }
}
