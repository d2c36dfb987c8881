//! What becomes of a lock whose owner has died.

use std::fmt;

use super::{MutexGuard, Plain, RwLockReadGuard, RwLockWriteGuard};

/// A process has died while it had the lock, and what it protects may be in the middle of something.
///
/// It has the guard. The value is the last that was committed: what the dead one had changed is gone. Whether that value is right
/// by itself is for the program to say, by [`recover`](Self::recover). Dropped without that, this unlocks, and the next one
/// to lock gets the same.
#[must_use = "it has the lock"]
pub struct OwnerDied<G>(G);

impl<G> OwnerDied<G> {
    pub(super) const fn new(guard: G) -> Self {
        Self(guard)
    }

    pub(super) fn into_guard(self) -> G {
        self.0
    }

    pub(super) fn map<H>(self, of: impl FnOnce(G) -> H) -> OwnerDied<H> {
        OwnerDied(of(self.0))
    }

    /// Looks at the value without saying that it is right.
    pub const fn guard(&self) -> &G {
        &self.0
    }
}

impl<T: Plain> OwnerDied<MutexGuard<'static, T>> {
    /// Says that the value is right, or will be when the guard is dropped: the next one to lock gets it as usual.
    #[must_use = "it unlocks when it is dropped"]
    pub fn recover(self) -> MutexGuard<'static, T> {
        let mut guard = self.into_guard();
        guard.set_recovered();
        guard
    }
}

impl<T: Plain> OwnerDied<RwLockReadGuard<'static, T>> {
    /// Says that the value is right: the next one to lock gets it as usual.
    pub fn recover(self) -> RwLockReadGuard<'static, T> {
        self.0.recover()
    }
}

impl<T: Plain> OwnerDied<RwLockWriteGuard<'static, T>> {
    /// Says that the value is right, or will be when the guard is dropped: the next one to lock gets it as usual.
    pub fn recover(self) -> RwLockWriteGuard<'static, T> {
        self.0.recover()
    }
}

impl<G> fmt::Debug for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerDied").finish_non_exhaustive()
    }
}

impl<G> fmt::Display for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a process died while it had the lock")
    }
}

impl<G> std::error::Error for OwnerDied<G> {}

/// Why a lock was not had at once.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TryLockError<G> {
    /// Somebody else has it.
    #[error("the lock is not free")]
    WouldBlock,
    /// It is locked now, but a process has died while it had it.
    #[error(transparent)]
    OwnerDied(OwnerDied<G>),
}

impl<G> fmt::Debug for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("WouldBlock"),
            Self::OwnerDied(died) => died.fmt(f),
        }
    }
}
