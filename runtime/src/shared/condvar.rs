//! Waiting until somebody says that a value has changed.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::AtomicU64;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::attachment::Waiting;
use super::layout::{Kind, room_for};
use super::lines::Key;
use super::listeners::block_on;
use super::region::{Object, Region};
use super::waiters::Turns;
use super::words::{Notices, SLOTS};
use super::{Locked, MutexGuard, Plain};
use crate::sys::{self, Place};

/// Where tasks wait, in any process, until somebody notifies them that the value of a [`Mutex`](super::Mutex) has changed.
///
/// Who waits gives its guard, and gets another one when it is notified. Between the look at the value and the wait no notice is lost:
/// who changes the value under the lock, and then notifies, finds it.
///
/// A notice is for somebody who waits: where nobody does, it is gone, and whoever waits later knows nothing of it. What happens to
/// one that is not taken:
///
/// | who was notified | then |
/// |---|---|
/// | is dropped before it has the lock again: a time-out | another one gets the notice, if one waits |
/// | is killed before it has the lock again | another one gets it, if one waits |
/// | is stopped | it keeps its notice, as it would keep the lock |
///
/// Those of one process are notified in the order in which they came; the processes take turns.
///
/// One may be woken without a notice, as with every condition variable, where a process was killed that had one. So look at the
/// value, or have [`wait_while`](Self::wait_while) do so.
///
/// Python's [`multiprocessing.Condition`](https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Condition).
///
/// # Examples
/// ```
/// use procession::shared::{Condvar, Mutex};
/// use procession::{Failure, process};
///
/// #[process]
/// async fn counts(value: Mutex<u32>, changed: Condvar) -> Result<(), Failure> {
///     for _ in 0..3 {
///         *value.lock().await? += 1;
///         changed.notify_all();
///     }
///     Ok(())
/// }
///
/// # #[procession::main]
/// # async fn main() -> Result<(), Failure> {
/// let (value, changed) = (Mutex::new(0)?, Condvar::new()?);
/// let mut child = counts(value.clone(), changed.clone()).spawn().await?;
/// let three = changed.wait_while(value.lock().await?, |value| *value < 3).await?;
/// assert_eq!(*three, 3);
/// drop(three);
/// child.join().await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "Condition")]
pub struct Condvar {
    object: Object,
    words: Place<Notices>,
    ledgers: Place<[AtomicU64; SLOTS]>,
}

impl Condvar {
    /// Where the ledgers begin: behind the words.
    const LEDGERS: usize = size_of::<Notices>();
    const SIZE: usize = Self::LEDGERS + SLOTS * size_of::<AtomicU64>();

    /// Makes one, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it.
    pub fn new() -> io::Result<Self> {
        Self::new_in(&Region::for_one(Self::SIZE)?)
    }

    /// Makes one in a region. The mutexes that it is used with may be in others.
    ///
    /// # Errors
    /// If the region has no room left.
    pub fn new_in(region: &Region) -> io::Result<Self> {
        Self::of(Object::new(region, Kind::Condvar, Self::SIZE)?)
    }

    fn of(object: Object) -> io::Result<Self> {
        let (words, ledgers) = (object.words(0)?, object.words(Self::LEDGERS)?);
        Ok(Self { object, words, ledgers })
    }

    /// How many bytes of a region one takes.
    #[must_use]
    pub const fn size_in_region() -> usize {
        room_for(Self::SIZE)
    }

    /// Commits the value and unlocks it, waits until it is notified, and locks it again.
    ///
    /// To unlock and to wait is one step for all who notify.
    ///
    /// # Errors
    /// [`OwnerDied`](super::OwnerDied), which has the guard: a process has died while it had the lock. The notice is taken then, too.
    ///
    /// # Cancel safety
    /// Who is dropped has unlocked the value, and does not lock it again. If it was notified, another one gets its notice.
    pub async fn wait<'a, T: Plain>(&self, guard: MutexGuard<'a, T>) -> Locked<'a, T> {
        let mut waiter = Waiter::enter(self);
        let unlocked = guard.unlock();
        waiter.notified().await;
        let locked = unlocked.lock().await;
        waiter.has_locked = true;
        locked
    }

    /// Waits as long as a condition holds: as [`wait`](Self::wait), again and again.
    ///
    /// The condition is looked at under the lock, first of all before any waiting. What it changes is committed.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// As [`wait`](Self::wait).
    #[doc(alias = "wait_for")]
    pub async fn wait_while<'a, T: Plain>(
        &self,
        guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Locked<'a, T> {
        let mut guard = guard;
        while condition(&mut guard) {
            guard = self.wait(guard).await?;
        }
        Ok(guard)
    }

    /// As [`wait`](Self::wait), blocking this thread: for code that is not async.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn blocking_wait<'a, T: Plain>(&self, guard: MutexGuard<'a, T>) -> Locked<'a, T> {
        block_on(self.wait(guard))
    }

    /// As [`wait_while`](Self::wait_while), blocking this thread: for code that is not async.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn blocking_wait_while<'a, T: Plain>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Locked<'a, T> {
        block_on(self.wait_while(guard, condition))
    }

    /// Wakes one of those that wait.
    ///
    /// It need not have the lock. But what those that wait look for must have been changed under the lock.
    #[doc(alias = "notify")]
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes so many of those that wait, or all if there are fewer.
    #[doc(alias = "notify")]
    pub fn notify_n(&self, n: usize) {
        self.notify(u64::try_from(n).unwrap_or(u64::MAX));
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.notify(u64::MAX);
    }

    fn notify(&self, count: u64) {
        let members = self.object.attachment.members();
        if self.words.notify(self.ledgers.as_slice(), members, count) > 0 {
            self.object.attachment.wake(&self.words.wait);
        }
    }

    /// Passes on what the dead have not taken.
    fn inherit(&self) {
        if self.words.inherit(self.ledgers.as_slice(), self.object.attachment.members()) {
            self.object.attachment.wake(&self.words.wait);
        }
    }
}

/// One that waits.
struct Waiter<'a> {
    condvar: &'a Condvar,
    forks: u64,
    /// Its line and its ticket. `None` where there was no room for it: it waits for nothing.
    place: Option<(Key, u64)>,
    has_locked: bool,
}

impl<'a> Waiter<'a> {
    fn enter(condvar: &'a Condvar) -> Self {
        // What the dead have left is for those who wait already.
        condvar.inherit();
        let Condvar { object, words, ledgers } = condvar;
        let mut is_passed = false;
        let enter = |me| {
            let count = || {
                let entered = words.enter(ledgers.as_slice(), object.attachment.members(), me);
                is_passed = entered == Some(true);
                entered.is_some()
            };
            Some(((object.at, me), object.attachment.lines.enter((object.at, me), count)?))
        };
        let place = object.attachment.me().and_then(enter);
        if is_passed {
            // A notice that reached one that had this slot before after all.
            object.attachment.wake(&words.wait);
        }
        Self { condvar, forks: sys::forks(), place, has_locked: false }
    }

    /// Waits until there is a notice for it. That stays where it is, so that it is found if this process is killed.
    async fn notified(&self) {
        let Condvar { object, words, ledgers } = self.condvar;
        let attempt = || {
            let Some((key, ticket)) = self.place else { return Some(()) };
            let notified = || words.notified(ledgers.as_slice(), key.1);
            object.attachment.lines.is_among(key, ticket, notified).then_some(())
        };
        let is_to_sleep = || {
            self.condvar.inherit();
            true
        };
        let mut waiting = Waiting::new(&object.attachment, object.at + Notices::WAIT, Turns::All);
        poll_fn(|context| waiting.poll(context, attempt, is_to_sleep)).await;
    }
}

/// Who has the lock takes its notice, and who gives up leaves it to another. In a fork it is the other process's to do so.
impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some((key, ticket)) = self.place.filter(|_| self.forks == sys::forks()) else { return };
        let Condvar { object, words, ledgers } = self.condvar;
        let is_passed = object.attachment.lines.leave(key, ticket, |before| {
            if self.has_locked {
                words.take(ledgers.as_slice(), key.1);
                return false;
            }
            words.leave(ledgers.as_slice(), object.attachment.members(), key.1, before)
        });
        if is_passed == Some(true) {
            object.attachment.wake(&words.wait);
        }
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

impl Serialize for Condvar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condvar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(deserializer, Kind::Condvar, |size| size == Self::SIZE)?;
        Self::of(object).map_err(D::Error::custom)
    }
}
