//! Something that happens, for all to wait for.

use std::fmt;
use std::future::poll_fn;
use std::io;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::attachment::Waiting;
use super::layout::{Kind, room_for};
use super::listeners::block_on;
use super::region::{Object, Region};
use super::waiters::Turns;
use super::words::Flag;
use crate::sys::Place;

/// A flag that any process sets, and any number of tasks of any process wait for.
///
/// It is unset at first. Once it is set, each wait is over at once, until somebody clears it.
///
/// It belongs to nobody: a process that dies leaves it as it is. One that is killed in the middle of [`set`](Self::set) has set it, or
/// has not.
///
/// Python's [`multiprocessing.Event`](https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Event).
///
/// # Examples
/// ```
/// use procession::shared::Event;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let ready = Event::new()?;
/// let waiting = ready.wait();
/// ready.set();
/// ready.clear(); // Who waited already has seen it.
/// waiting.await;
/// assert!(!ready.is_set());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Event {
    object: Object,
    flag: Place<Flag>,
}

impl Event {
    const SIZE: usize = size_of::<Flag>();

    /// Makes one, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it.
    pub fn new() -> io::Result<Self> {
        Self::new_in(&Region::for_one(Self::SIZE)?)
    }

    /// Makes one in a region.
    ///
    /// # Errors
    /// If the region has no room left.
    pub fn new_in(region: &Region) -> io::Result<Self> {
        Self::of(Object::new(region, Kind::Event, Self::SIZE)?)
    }

    fn of(object: Object) -> io::Result<Self> {
        Ok(Self { flag: object.words(0)?, object })
    }

    /// How many bytes of a region one takes.
    #[must_use]
    pub const fn size_in_region() -> usize {
        room_for(Self::SIZE)
    }

    /// Sets it, and ends all waits for it. What was done before is seen by all whose waits are over.
    pub fn set(&self) {
        self.flag.set();
        self.object.attachment.wake(&self.flag.wait);
    }

    /// Unsets it: waits that begin from now on last until it is set again.
    pub fn clear(&self) {
        self.flag.clear();
    }

    /// Whether it is set: it may be another way by the time that this returns.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag.is_set()
    }

    /// Waits until it is set.
    ///
    /// The wait begins with this call, and not when it is first polled: if it is set from then on, the wait is over, although it may
    /// have been cleared again at once.
    ///
    /// # Cancel safety
    /// Safe: who is dropped takes nothing away from others. A wait that begins again knows nothing of a `set` and `clear` before.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + use<'_> {
        let began = self.flag.now();
        async move {
            let mut waiting = Waiting::new(&self.object.attachment, self.object.at + Flag::WAIT, Turns::All);
            let attempt = || self.flag.was_set_since(began).then_some(());
            poll_fn(|context| waiting.poll(context, attempt, || true)).await;
        }
    }

    /// Waits until it is set, blocking this thread: for code that is not async.
    pub fn blocking_wait(&self) {
        block_on(self.wait());
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_set() { "set" } else { "unset" };
        f.debug_tuple("Event").field(&format_args!("{state}")).finish()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(deserializer, Kind::Event, |size| size == Self::SIZE)?;
        Self::of(object).map_err(D::Error::custom)
    }
}
