//! A lock around a value.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::attachment::Waiting;
use super::cells::Cells;
use super::layout::{Kind, room_for};
use super::listeners::block_on;
use super::region::{Object, Region};
use super::waiters::Turns;
use super::words::{Attempt, Lock, Member, Release};
use super::{OwnerDied, Plain, TryLockError};
use crate::sys::{self, Place};

/// A value that one task of one process has at a time. tokio's `Mutex`, across processes; Python's `Lock`, and `Value` with one.
///
/// The guard is a copy of the value, which is committed as a whole when it is dropped. If a process dies while it has the lock, the
/// next one gets [`OwnerDied`], and the value that was committed before. See the [module](super#when-an-owner-dies).
///
/// # Examples
/// ```
/// use procession::shared::{Mutex, Plain};
/// use procession::{Failure, process};
///
/// #[derive(Clone, Copy, Plain)]
/// struct Accounts {
///     here: u64,
///     there: u64,
/// }
///
/// /// Nobody ever sees one without the other.
/// #[process]
/// async fn transfer(accounts: Mutex<Accounts>, amount: u64) -> Result<(), Failure> {
///     let mut accounts = accounts.lock().await?;
///     accounts.here -= amount;
///     accounts.there += amount;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let accounts = Mutex::new(Accounts { here: 10, there: 0 })?;
/// transfer(accounts.clone(), 3).await??;
/// let accounts = match accounts.lock().await {
///     Ok(guard) => guard,
///     Err(died) => died.recover(), // Its owner was killed in the middle; what it had changed is gone.
/// };
/// assert_eq!((accounts.here, accounts.there), (7, 3));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Lock")]
pub struct Mutex<T> {
    object: Object,
    words: Place<Lock>,
    is: PhantomData<fn(T) -> T>,
}

/// What [`Mutex::lock`] gives: the guard, or that an owner has died.
pub type Locked<'a, T> = Result<MutexGuard<'a, T>, OwnerDied<MutexGuard<'static, T>>>;

/// Where the data begins: behind the words.
const DATA: usize = size_of::<Lock>();

impl<T: Plain> Mutex<T> {
    /// How far the second buffer stands behind the first.
    const BUFFER: usize = T::SIZE.next_multiple_of(8);
    const SIZE: usize = DATA + 2 * Self::BUFFER;

    /// Makes one, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it.
    pub fn new(value: T) -> io::Result<Self> {
        Self::new_in(&Region::for_one(Self::SIZE)?, value)
    }

    /// Makes one in a region.
    ///
    /// # Errors
    /// If the region has no room left.
    pub fn new_in(region: &Region, value: T) -> io::Result<Self> {
        let new = Self::of(Object::new(region, Kind::Mutex, Self::SIZE)?)?;
        value.store(new.cells(0));
        Ok(new)
    }

    /// One that stands at the beginning of an object.
    pub(super) fn of(object: Object) -> io::Result<Self> {
        Ok(Self { words: object.words(0)?, object, is: PhantomData })
    }

    /// How many bytes of a region one takes.
    #[must_use]
    pub const fn size_in_region() -> usize {
        room_for(Self::SIZE)
    }

    /// Waits until it is free, and locks it.
    ///
    /// # Errors
    /// [`OwnerDied`], which has the guard: a process has died while it had the lock.
    ///
    /// # Cancel safety
    /// Safe: who is dropped while it waits gives its turn to the next.
    #[inline]
    pub async fn lock(&self) -> Locked<'_, T> {
        let mut waiting = Waiting::new(&self.object.attachment, self.object.at + Lock::WAIT, Turns::InOrder);
        let attempt = || self.attempt().ok();
        let is_to_sleep = || self.words.sleep(self.object.attachment.members());
        poll_fn(|context| waiting.poll(context, attempt, is_to_sleep)).await
    }

    /// Locks it, blocking this thread until it is free: for code that is not async.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn blocking_lock(&self) -> Locked<'_, T> {
        block_on(self.lock())
    }

    /// Locks it if it is free.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if it is not, or [`TryLockError::OwnerDied`], which has the guard.
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'static, T>>> {
        let locked = self.attempt().or_else(|owner| {
            // Nobody watches for the owner where nobody waits.
            owner.into_iter().for_each(|owner| self.object.attachment.check(owner));
            self.attempt()
        });
        locked.map_err(|_owner| TryLockError::WouldBlock)?.map_err(TryLockError::OwnerDied)
    }

    #[inline]
    fn attempt(&self) -> Result<Locked<'_, T>, Option<Member>> {
        let me = self.object.attachment.me().ok_or(None)?;
        match self.words.try_acquire(me, self.object.attachment.members()) {
            Attempt::Held(owner) => Err(owner),
            Attempt::Acquired { buffer, token, owner_died } => {
                let value = T::load(self.cells(buffer));
                let (forks, panicking) = (sys::forks(), std::thread::panicking());
                let held = Held { value, buffer, me, forks, token, panicking, release: Release::default() };
                Ok(if owner_died {
                    Err(OwnerDied::new(MutexGuard { of: Of::Owned(Box::new(self.clone())), held }))
                } else {
                    Ok(MutexGuard { of: Of::Borrowed(self), held })
                })
            }
        }
    }

    /// The process that has it locked: for diagnosis, as it may have changed by the time that this returns.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        let owner = self.words.owner()?;
        self.object.attachment.members().identity(owner).map(|who| who.pid())
    }

    #[inline]
    fn cells(&self, buffer: usize) -> Cells<'_> {
        Cells::new(self.object.attachment.shared(), self.object.at + DATA + buffer * Self::BUFFER)
    }
}

/// Another handle of the same one.
impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), words: self.words.clone(), is: PhantomData }
    }
}

impl<T: Plain> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("owner", &self.owner()).finish_non_exhaustive()
    }
}

impl<T> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(deserializer, Kind::Mutex, |size| size == Self::SIZE)?;
        Self::of(object).map_err(D::Error::custom)
    }
}

/// The value of a [`Mutex`], as long as it is locked: a copy, which is committed when this is dropped.
pub struct MutexGuard<'a, T: Plain> {
    of: Of<'a, T>,
    held: Held<T>,
}

/// What a guard has of its lock.
#[derive(Clone, Copy)]
struct Held<T> {
    value: T,
    /// Where it was read from.
    buffer: usize,
    me: Member,
    forks: u64,
    token: u64,
    /// Whether a panic was on its way already, which is none of this one's.
    panicking: bool,
    release: Release,
}

enum Of<'a, T> {
    Borrowed(&'a Mutex<T>),
    Owned(Box<Mutex<T>>),
}

impl<T: Plain> MutexGuard<'_, T> {
    /// A number that is higher than those of all guards before: for whoever must refuse one that comes late (a "fencing
    /// token").
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.held.token
    }

    /// Unlocks without a change to the value.
    pub fn rollback(mut self) {
        self.held.release.commit = false;
    }

    fn mutex(&self) -> &Mutex<T> {
        match &self.of {
            Of::Borrowed(mutex) => mutex,
            Of::Owned(mutex) => mutex,
        }
    }
}

impl<'a, T: Plain> MutexGuard<'a, T> {
    /// Unlocks, and says how to lock it again.
    pub(super) fn unlock(self) -> Unlocked<'a, T> {
        Unlocked(match &self.of {
            Of::Borrowed(mutex) => Of::Borrowed(mutex),
            Of::Owned(mutex) => Of::Owned(mutex.clone()),
        })
    }
}

/// What a guard was of.
pub(super) struct Unlocked<'a, T>(Of<'a, T>);

impl<'a, T: Plain> Unlocked<'a, T> {
    pub(super) async fn lock(self) -> Locked<'a, T> {
        match self.0 {
            Of::Borrowed(mutex) => mutex.lock().await,
            Of::Owned(mutex) => {
                // What that guard holds is this one's from now on.
                let held = ManuallyDrop::new(mutex.lock().await?).held;
                Ok(MutexGuard { of: Of::Owned(mutex), held })
            }
        }
    }
}

impl<T: Plain> MutexGuard<'static, T> {
    pub(super) const fn set_recovered(&mut self) {
        self.held.release.recover = true;
    }
}

impl<T: Plain> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held.value
    }
}

impl<T: Plain> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.release.commit = true;
        &mut self.held.value
    }
}

impl<T: Plain> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.held.forks != sys::forks() {
            // A fork has copied this guard: the lock is the other process's.
            return;
        }
        // What a panic leaves half done is not committed.
        self.held.release.commit &= self.held.panicking || !std::thread::panicking();
        let mutex = self.mutex();
        if self.held.release.commit {
            self.held.value.store(mutex.cells(self.held.buffer ^ 1));
        }
        let words = &mutex.words;
        if words.release(self.held.me, self.held.release) {
            mutex.object.attachment.wake(&words.wait);
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.value.fmt(f)
    }
}
