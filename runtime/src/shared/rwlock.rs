//! A lock around a value, with which many can read it at a time.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU64;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::attachment::Waiting;
use super::guarded::{Grip, Guarded, Held};
use super::layout::{Kind, room_for};
use super::listeners::block_on;
use super::region::{Object, Region};
use super::waiters::Turns;
use super::words::{Entered, Lock, Member, Readers, SLOTS, Wait};
use super::{OwnerDied, Plain, TryLockError};
use crate::sys::{self, Places};

/// A value that many tasks of many processes read at a time, or one writes.
///
/// A guard has a copy of the value. That of a writer is committed when the guard is dropped, in one step: whoever dies
/// inside has changed nothing, and the next one learns of it by [`OwnerDied`]. A reader that dies inside is as one that has gone.
///
/// A writer that waits keeps new readers out, so that readers cannot starve it. So whoever has a read guard, and waits
/// for another one of the same lock, may wait for ever. Among themselves those that wait have no order.
///
/// # Examples
/// ```
/// use procession::shared::RwLock;
/// use procession::{Failure, process};
///
/// #[process]
/// async fn slower(speed: RwLock<u64>) -> Result<(), Failure> {
///     *speed.write().await? -= 1;
///     Ok(())
/// }
///
/// # async fn run() -> Result<(), Failure> {
/// let speed = RwLock::new(10_u64)?;
/// slower(speed.clone()).await??;
/// assert_eq!(*speed.read().await?, 9);
/// # Ok(())
/// # }
/// ```
pub struct RwLock<T> {
    guarded: Guarded<T>,
    ledger: Places<AtomicU64>,
}

/// What [`RwLock::read`] gives: the guard, or that a writer has died.
pub type ReadLocked<'a, T> = Result<RwLockReadGuard<'a, T>, OwnerDied<RwLockReadGuard<'static, T>>>;

/// What [`RwLock::write`] gives: the guard, or that a writer has died.
pub type WriteLocked<'a, T> = Result<RwLockWriteGuard<'a, T>, OwnerDied<RwLockWriteGuard<'static, T>>>;

/// Where the words stand. Those that wait sleep by three: in order to write, which one at a time can; in order to read; and
/// the writer by that of its own, until those that read are gone.
const TO_WRITE: usize = Lock::WAIT;
const TO_READ: usize = size_of::<Lock>();
const ALONE: usize = TO_READ + 8;
const LEDGER: usize = ALONE + 8;
const DATA: usize = LEDGER + 8 * SLOTS;

impl<T: Plain> RwLock<T> {
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
        Self::of(Guarded::new(region, Kind::RwLock, DATA, value)?)
    }

    fn of(guarded: Guarded<T>) -> io::Result<Self> {
        Ok(Self { ledger: guarded.object.all_words(LEDGER, SLOTS)?, guarded })
    }

    /// How many bytes of a region one takes.
    #[must_use]
    pub const fn size_in_region() -> usize {
        room_for(Self::SIZE)
    }

    /// Waits until no writer has it or waits for it, and locks it to read.
    ///
    /// # Errors
    /// [`OwnerDied`], which has the guard: a writer has died while it had the lock.
    ///
    /// # Cancel safety
    /// Safe: who is dropped while it waits has locked nothing.
    pub async fn read(&self) -> ReadLocked<'_, T> {
        let mut waiting = self.waiting(TO_READ, Turns::All);
        let attempt = || self.attempt_to_read().ok();
        poll_fn(|context| waiting.poll(context, attempt, || self.guarded.is_to_sleep())).await
    }

    /// Waits until nobody else has it, and locks it to write.
    ///
    /// # Errors
    /// [`OwnerDied`], which has the guard: a writer has died while it had the lock.
    ///
    /// # Cancel safety
    /// Safe: who is dropped while it waits gives its turn to the next, and lets those read that it has kept out.
    pub async fn write(&self) -> WriteLocked<'_, T> {
        let mut waiting = self.waiting(TO_WRITE, Turns::One);
        let attempt = || self.guarded.grip().ok().map(|grip| self.locked(grip));
        let locked = poll_fn(|context| waiting.poll(context, attempt, || self.guarded.is_to_sleep())).await;
        // From here on it is kept from readers, and unlocked if this is dropped. The next one that is to write has its turn.
        let mut waiting = self.waiting(ALONE, Turns::All);
        let is_alone = || self.readers().are_gone().then_some(());
        poll_fn(|context| waiting.poll(context, is_alone, || true)).await;
        locked
    }

    /// Locks it to read, blocking this thread until it can be: for code that is not async.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn blocking_read(&self) -> ReadLocked<'_, T> {
        block_on(self.read())
    }

    /// Locks it to write, blocking this thread until it is free: for code that is not async.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn blocking_write(&self) -> WriteLocked<'_, T> {
        block_on(self.write())
    }

    /// Locks it to read, if no writer has it or waits for it.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if one does, or [`TryLockError::OwnerDied`], which has the guard.
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, TryLockError<RwLockReadGuard<'static, T>>> {
        let locked = self.attempt_to_read().or_else(|owner| {
            // Nobody watches for the writer where nobody waits.
            owner.into_iter().for_each(|owner| self.guarded.object.attachment.check(owner));
            self.attempt_to_read()
        });
        locked.map_err(|_owner| TryLockError::WouldBlock)?.map_err(TryLockError::OwnerDied)
    }

    /// Locks it to write, if nobody has it.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if somebody has, or [`TryLockError::OwnerDied`], which has the guard.
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, TryLockError<RwLockWriteGuard<'static, T>>> {
        self.readers().iter().for_each(|reader| self.guarded.object.attachment.check(reader));
        // Before it is locked: where somebody reads, others may go on to.
        if !self.readers().are_gone() {
            return Err(TryLockError::WouldBlock);
        }
        let locked = self.locked(self.guarded.grip_now().map_err(|_owner| TryLockError::WouldBlock)?);
        if !self.readers().are_gone() {
            return Err(TryLockError::WouldBlock);
        }
        locked.map_err(TryLockError::OwnerDied)
    }

    fn attempt_to_read(&self) -> Result<ReadLocked<'_, T>, Option<Member>> {
        let me = self.guarded.object.attachment.me().ok_or(None)?;
        match self.readers().try_enter(me) {
            Entered::Held { owner, is_awaited } => {
                self.has_left(is_awaited);
                Err(owner)
            }
            Entered::Reads { buffer, owner_died } => {
                let reading = Reading { value: self.guarded.load(buffer), me, forks: sys::forks() };
                Ok(if owner_died {
                    Err(OwnerDied::new(RwLockReadGuard { of: Cow::Owned(self.clone()), reading }))
                } else {
                    Ok(RwLockReadGuard { of: Cow::Borrowed(self), reading })
                })
            }
        }
    }

    /// For who keeps readers and other writers out. The value is there already, as only the writer changes it.
    fn locked(&self, grip: Grip) -> WriteLocked<'_, T> {
        let writing = self.guarded.hold(grip);
        if grip.owner_died {
            Err(OwnerDied::new(RwLockWriteGuard { of: Cow::Owned(self.clone()), writing }))
        } else {
            Ok(RwLockWriteGuard { of: Cow::Borrowed(self), writing })
        }
    }
}

impl<T> RwLock<T> {
    /// The process that has it locked to write, or waits until those that read are gone: for diagnosis, as it may have
    /// changed by the time that this returns.
    #[must_use]
    pub fn writer(&self) -> Option<u32> {
        self.guarded.owner()
    }

    /// The processes that have it locked to read, each once: for diagnosis, as [`writer`](Self::writer).
    #[must_use]
    pub fn reading(&self) -> Vec<u32> {
        let members = self.guarded.object.attachment.members();
        let pid = |reader| members.identity(reader).map(|who| who.pid());
        self.readers().iter().filter_map(pid).collect()
    }

    fn waiting(&self, by: usize, turns: Turns) -> Waiting<'_> {
        Waiting::new(&self.guarded.object.attachment, self.guarded.object.at + by, turns)
    }

    fn has_left(&self, is_awaited: bool) {
        if is_awaited {
            self.wake(ALONE);
        }
    }

    fn is_unlocked(&self) {
        self.wake(TO_READ);
        self.wake(TO_WRITE);
    }

    fn wake(&self, those: usize) {
        let attachment = &self.guarded.object.attachment;
        attachment.wake(attachment.at::<Wait>(self.guarded.object.at + those));
    }

    fn readers(&self) -> Readers<'_> {
        let members = self.guarded.object.attachment.members();
        Readers { lock: &self.guarded.lock, ledger: &self.ledger, members }
    }
}

/// Another handle of the same one.
impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self { guarded: self.guarded.clone(), ledger: self.ledger.clone() }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        debug.field("writer", &self.writer()).field("reading", &self.reading()).finish_non_exhaustive()
    }
}

impl<T> Serialize for RwLock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.guarded.object.serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for RwLock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(deserializer, Kind::RwLock, |size| size == Self::SIZE)?;
        Guarded::of(object, DATA).and_then(Self::of).map_err(D::Error::custom)
    }
}

/// The value of a [`RwLock`], as long as it is locked to read.
#[must_use = "it unlocks when it is dropped"]
pub struct RwLockReadGuard<'a, T: Plain> {
    of: Cow<'a, RwLock<T>>,
    reading: Reading<T>,
}

/// What a read guard has of its lock.
#[derive(Clone, Copy)]
struct Reading<T> {
    value: T,
    me: Member,
    forks: u64,
}

impl<T: Plain> RwLockReadGuard<'static, T> {
    pub(super) fn recover(self) -> Self {
        self.of.guarded.lock.recover(self.of.guarded.object.attachment.members());
        self.of.is_unlocked();
        self
    }
}

impl<T: Plain> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.reading.value
    }
}

impl<T: Plain> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        // A fork has copied this guard: it is the other process that reads.
        if self.reading.forks == sys::forks() {
            self.of.has_left(self.of.readers().leave(self.reading.me));
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reading.value.fmt(f)
    }
}

/// The value of a [`RwLock`], as long as it is locked to write: a copy, which is committed when this is dropped.
#[must_use = "it unlocks when it is dropped"]
pub struct RwLockWriteGuard<'a, T: Plain> {
    of: Cow<'a, RwLock<T>>,
    writing: Held<T>,
}

impl<T: Plain> RwLockWriteGuard<'_, T> {
    /// A number that is higher than those of all write guards before: for whoever must refuse one that comes late (a
    /// "fencing token").
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.writing.token
    }

    /// Unlocks without a change to the value.
    pub fn rollback(mut self) {
        self.writing.release.commit = false;
    }
}

impl<T: Plain> RwLockWriteGuard<'static, T> {
    pub(super) fn recover(mut self) -> Self {
        self.writing.release.recover = true;
        self
    }
}

impl<T: Plain> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.writing.value
    }
}

impl<T: Plain> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.writing.release.commit = true;
        &mut self.writing.value
    }
}

impl<T: Plain> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let guarded = &self.of.guarded;
        if guarded.release(&mut self.writing) {
            return;
        }
        let Held { owned, release, forks, .. } = self.writing;
        if guarded.unlock(owned, release, forks) {
            self.of.is_unlocked();
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writing.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Relaxed, SeqCst};

    use super::super::words::{Attempt, Identity, Members, Release};
    use super::*;

    #[derive(Default)]
    struct Words {
        lock: Lock,
        ledger: [AtomicU64; 3],
        members: [AtomicU64; 3],
    }

    impl Words {
        fn readers(&self) -> Readers<'_> {
            Readers { lock: &self.lock, ledger: &self.ledger, members: Members(&self.members) }
        }

        fn join(&self, pid: u32) -> Member {
            Members(&self.members).join(Identity::new(pid, 1)).unwrap()
        }
    }

    /// Each shows that it is inside, and then looks whether the other is.
    #[test]
    fn nobody_reads_beside_a_writer() {
        let words = Words::default();
        let (one, other) = (words.join(1), words.join(2));
        let (is_writing, is_reading) = (AtomicBool::new(false), AtomicBool::new(false));
        let is_over = AtomicBool::new(false);
        let alone = |this: &AtomicBool, that: &AtomicBool| {
            this.store(true, SeqCst);
            // Also where there is one processor only.
            std::thread::yield_now();
            let is_alone = !that.load(SeqCst);
            this.store(false, SeqCst);
            is_alone
        };
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..20_000).all(|_| {
                    let readers = words.readers();
                    let has_acquired =
                        matches!(words.lock.try_acquire(one, readers.members), Attempt::Acquired { .. });
                    let is_alone = !readers.are_gone() || alone(&is_writing, &is_reading);
                    words.lock.release(one, Release::default());
                    has_acquired && is_alone
                })
            });
            let reader = scope.spawn(|| {
                let mut is_alone = true;
                while !is_over.load(SeqCst) {
                    if let Entered::Reads { .. } = words.readers().try_enter(other) {
                        is_alone &= alone(&is_reading, &is_writing);
                        words.readers().leave(other);
                    }
                }
                is_alone
            });
            let writer = writer.join();
            is_over.store(true, SeqCst);
            assert!(writer.unwrap() && reader.join().unwrap());
        });
        assert!(words.readers().are_gone());
    }

    #[test]
    fn readers_that_are_dead_do_not_count() {
        let words = Words::default();
        let dead = words.join(1);
        assert!(matches!(words.readers().try_enter(dead), Entered::Reads { .. }));
        assert!(!words.readers().are_gone());
        assert!(Members(&words.members).remove(dead) && words.readers().are_gone());
        let next = words.join(2);
        assert_eq!(next.slot(), dead.slot());
        assert!(matches!(words.readers().try_enter(next), Entered::Reads { .. }));
        assert!(!words.readers().leave(next) && words.readers().are_gone());
    }

    #[test]
    fn whatever_a_hostile_process_writes_ends() {
        for entry in [0, 1, u64::from(u32::MAX), 1 << 46, 1 << 63, !0] {
            let words = Words::default();
            let me = words.join(1);
            let write = || words.ledger.iter().for_each(|it| it.store(entry, Relaxed));
            write();
            _ = words.readers().try_enter(me);
            write();
            _ = (words.readers().leave(me), words.readers().are_gone(), words.readers().iter().count());
        }
    }
}
