//! A lock around a value.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::attachment::{Waiting, is_unasked};
use super::guarded::{Grip, Guarded, Held};
use super::layout::{Kind, room_for};
use super::listeners::block_on;
use super::region::{Object, Region};
use super::waiters::Turns;
use super::words::{Lock, Owned, Release};
use super::{OwnerDied, Plain, TryLockError};
use crate::sys::Lent;

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
pub struct Mutex<T>(Guarded<T>);

/// What [`Mutex::lock`] gives: the guard, or that an owner has died.
pub type Locked<'a, T> = Result<MutexGuard<'a, T>, OwnerDied<MutexGuard<'static, T>>>;

/// Where the data begins: behind the words.
const DATA: usize = size_of::<Lock>();

impl<T: Plain> Mutex<T> {
    const SIZE: usize = Guarded::<T>::size(DATA);

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
        Guarded::new(region, Kind::Mutex, DATA, value).map(Self)
    }

    /// One that stands at the beginning of an object.
    pub(super) fn of(object: Object) -> io::Result<Self> {
        Guarded::of(object, DATA).map(Self)
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
    pub fn lock(&self) -> impl Future<Output = Locked<'_, T>> + Send + use<'_, T> {
        Locking { mutex: self, waiting: None }
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
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<MutexGuard<'static, T>>> {
        let grip = match self.0.grip_free() {
            Some(grip) => grip,
            None => self.0.grip_now().map_err(|_owner| TryLockError::WouldBlock)?,
        };
        self.locked(grip).map_err(TryLockError::OwnerDied)
    }

    #[inline(always)]
    fn locked(&self, grip: Grip) -> Locked<'_, T> {
        if grip.owner_died {
            return Err(self.after_death(grip));
        }
        Ok(MutexGuard { of: Some(Lent::borrowed(self)), held: self.0.hold(grip) })
    }

    #[cold]
    fn after_death(&self, grip: Grip) -> OwnerDied<MutexGuard<'static, T>> {
        OwnerDied::new(MutexGuard::with_its_own(self.clone(), self.0.hold(grip)))
    }

    /// The process that has it locked: for diagnosis, as it may have changed by the time that this returns.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        self.0.owner()
    }
}

/// What [`Mutex::lock`] waits with.
struct Locking<'a, T> {
    mutex: &'a Mutex<T>,
    /// From when on it could not have it at once.
    waiting: Option<Waiting<'a>>,
}

impl<'a, T: Plain> Future for Locking<'a, T> {
    type Output = Locked<'a, T>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Locked<'a, T>> {
        let is_first = self.waiting.is_none() && is_unasked();
        let grip = match if is_first { self.mutex.0.grip_free() } else { None } {
            Some(grip) => grip,
            None => ready!(self.poll_waiting(context)),
        };
        Poll::Ready(self.mutex.locked(grip))
    }
}

impl<T: Plain> Locking<'_, T> {
    #[cold]
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<Grip> {
        let guarded = &self.mutex.0;
        let Object { attachment, at } = &guarded.object;
        let new = || Waiting::new(attachment, at + Lock::WAIT, Turns::InOrder);
        let waiting = self.waiting.get_or_insert_with(new);
        waiting.poll(context, || guarded.grip().ok(), || guarded.is_to_sleep())
    }
}

/// Another handle of the same one.
impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Plain> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("owner", &self.owner()).finish_non_exhaustive()
    }
}

impl<T> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.object.serialize(serializer)
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
    /// `None` when it is dropped.
    of: Option<Lent<'a, Mutex<T>>>,
    held: Held<T>,
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
}

impl<'a, T: Plain> MutexGuard<'a, T> {
    /// Unlocks, and says how to lock it again.
    pub(super) fn unlock(self) -> Unlocked<'a, T> {
        let of = self.of.as_ref().expect("a guard has its lock until it is dropped");
        of.as_borrowed().map_or_else(|| Unlocked::Owned((**of).clone()), Unlocked::Borrowed)
    }
}

impl<T: Plain> MutexGuard<'_, T> {
    /// The same, with its lock to itself.
    pub(super) fn into_static(mut self) -> MutexGuard<'static, T> {
        let of = self.of.take().expect("a guard has its lock until it is dropped");
        let mutex = (*of).clone();
        of.end();
        MutexGuard::with_its_own(mutex, self.held)
    }
}

/// What a guard was of.
pub(super) enum Unlocked<'a, T> {
    Borrowed(&'a Mutex<T>),
    Owned(Mutex<T>),
}

impl<'a, T: Plain> Unlocked<'a, T> {
    pub(super) async fn lock(self) -> Locked<'a, T> {
        match self {
            Self::Borrowed(mutex) => mutex.lock().await,
            Self::Owned(mutex) => {
                // What that guard holds is this one's from now on.
                let held = ManuallyDrop::new(mutex.lock().await?).held;
                Ok(MutexGuard::with_its_own(mutex, held))
            }
        }
    }
}

impl<T: Plain> MutexGuard<'static, T> {
    /// One that has its lock to itself, and comes to [`end`] when it is dropped.
    fn with_its_own(mutex: Mutex<T>, mut held: Held<T>) -> Self {
        held.owned = held.owned.at_length();
        Self { of: Some(Lent::own(mutex)), held }
    }

    pub(super) const fn set_recovered(&mut self) {
        self.held.release.recover = true;
    }
}

impl<T: Plain> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.held.value
    }
}

impl<T: Plain> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.held.release.commit = true;
        &mut self.held.value
    }
}

impl<T: Plain> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(of) = self.of.take() else { return };
        if !of.0.release(&mut self.held) {
            // Each by itself: all of it would go through memory, and not here alone.
            end(of, self.held.owned, self.held.release, self.held.forks);
        }
    }
}

/// What else there is to do.
#[cold]
#[inline(never)]
fn end<T: Plain>(of: Lent<'_, Mutex<T>>, owned: Owned, release: Release, forks: u64) {
    if of.0.unlock(owned, release, forks) {
        of.0.object.attachment.wake(&of.0.lock.wait);
    }
    of.end();
}

impl<T: Plain + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.value.fmt(f)
    }
}
