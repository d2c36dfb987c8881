//! A lock that who has it can lock again.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex as Cell, MutexGuard as Locked, PoisonError};

use serde::{Deserialize, Serialize};

use super::listeners::block_on;
use super::region::Region;
use super::{Mutex, MutexGuard, OwnerDied, Plain, TryLockError};

/// A value that one task of one process has at a time, and that this task can lock again. Python's `RLock`.
///
/// Who has a guard locks again by [`ReentrantGuard::reenter`], and the lock is free when the last guard is dropped. So a function
/// that may be called by one that has the lock takes a guard, and says so by its parameter. Nothing else re-enters: a second
/// [`lock`](Self::lock) waits, even by the same task, because tasks have no identity that a lock could go by: the branches of
/// a `join!` are one task, and the tasks of a server serve many clients.
///
/// # Examples
/// ```
/// use procession::shared::{ReentrantGuard, ReentrantMutex};
///
/// fn deposit(account: &ReentrantGuard<'_, u64>, amount: u64) {
///     let account = account.reenter();
///     account.set(account.get() + amount);
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let account = ReentrantMutex::new(0)?;
/// let guard = account.lock().await?;
/// deposit(&guard, 5);
/// deposit(&guard, 2);
/// assert_eq!(guard.get(), 7);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RLock")]
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "T: Plain")]
pub struct ReentrantMutex<T>(Mutex<T>);

impl<T: Plain> ReentrantMutex<T> {
    /// Makes one, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it.
    pub fn new(value: T) -> io::Result<Self> {
        Mutex::new(value).map(Self)
    }

    /// Makes one in a region. It takes as much room as a [`Mutex`].
    ///
    /// # Errors
    /// If the region has no room left.
    pub fn new_in(region: &Region, value: T) -> io::Result<Self> {
        Mutex::new_in(region, value).map(Self)
    }

    /// Waits until it is free, and locks it.
    ///
    /// # Errors
    /// [`OwnerDied`], which has the guard: a process has died while it had the lock.
    ///
    /// # Cancel safety
    /// Safe, as [`Mutex::lock`].
    pub async fn lock(&self) -> Result<ReentrantGuard<'_, T>, OwnerDied<ReentrantGuard<'static, T>>> {
        self.0.lock().await.map(ReentrantGuard::new).map_err(|died| died.map(ReentrantGuard::new))
    }

    /// Locks it, blocking this thread until it is free: for code that is not async.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn blocking_lock(&self) -> Result<ReentrantGuard<'_, T>, OwnerDied<ReentrantGuard<'static, T>>> {
        block_on(self.lock())
    }

    /// Locks it if it is free.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if it is not, or [`TryLockError::OwnerDied`], which has the guard.
    pub fn try_lock(&self) -> Result<ReentrantGuard<'_, T>, TryLockError<ReentrantGuard<'static, T>>> {
        self.0.try_lock().map(ReentrantGuard::new).map_err(|error| match error {
            TryLockError::WouldBlock => TryLockError::WouldBlock,
            TryLockError::OwnerDied(died) => TryLockError::OwnerDied(died.map(ReentrantGuard::new)),
        })
    }

    /// The process that has it locked: for diagnosis, as it may have changed by the time that this returns.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        self.0.owner()
    }
}

/// Another handle of the same one.
impl<T> Clone for ReentrantMutex<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Plain> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantMutex").field("owner", &self.owner()).finish_non_exhaustive()
    }
}

/// A share in a [`ReentrantMutex`] that is locked: it is unlocked when the last one is dropped, and the value committed then.
pub struct ReentrantGuard<'a, T: Plain> {
    /// One that borrows nothing: in a cell it could not be taken for one that lives shorter.
    guard: Arc<Cell<MutexGuard<'static, T>>>,
    is: PhantomData<&'a ReentrantMutex<T>>,
}

impl<'a, T: Plain> ReentrantGuard<'a, T> {
    fn new(guard: MutexGuard<'a, T>) -> Self {
        Self { guard: Arc::new(Cell::new(guard.into_static())), is: PhantomData }
    }

    /// Locks again: the lock stays locked until this guard is dropped, too.
    #[must_use = "it unlocks when it is dropped"]
    pub fn reenter(&self) -> Self {
        Self { guard: Arc::clone(&self.guard), is: PhantomData }
    }

    /// The value, with what any guard has changed.
    #[must_use]
    pub fn get(&self) -> T {
        **self.cell()
    }

    /// Sets the value, for all guards.
    pub fn set(&self, value: T) {
        **self.cell() = value;
    }

    /// Changes the value; not if the function panics. The function must not use a guard of this lock.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut cell = self.cell();
        let mut value = **cell;
        let result = change(&mut value);
        **cell = value;
        result
    }

    /// How many guards there are.
    #[must_use]
    pub fn depth(&self) -> usize {
        Arc::strong_count(&self.guard)
    }

    /// As [`MutexGuard::token`].
    #[must_use]
    pub fn token(&self) -> u64 {
        self.cell().token()
    }

    fn cell(&self) -> Locked<'_, MutexGuard<'static, T>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Plain> OwnerDied<ReentrantGuard<'static, T>> {
    /// Says that the value is right, or will be when the last guard is dropped.
    #[must_use = "it unlocks when it is dropped"]
    pub fn recover(self) -> ReentrantGuard<'static, T> {
        let guard = self.into_guard();
        guard.cell().set_recovered();
        guard
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ReentrantGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
