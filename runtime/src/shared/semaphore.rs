//! Permits that processes share.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::io;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::attachment::Waiting;
use super::layout::{Kind, room_for};
use super::listeners::block_on;
use super::region::{Object, Region};
use super::waiters::Turns;
use super::words::{MAX_PERMITS, Member, Permits, SLOTS, Wait};
use crate::sys;

/// A number of permits, which tasks of several processes take and give back.
///
/// Who takes one has a [`Permit`], which gives it back when it is dropped. What a process has when it dies, however it does, is
/// given back too: who waits for a permit gets it.
///
/// There is no order among those that wait: who asks for a permit at the right time gets it, although others wait longer. So who
/// wants many at a time by [`acquire_many`](Self::acquire_many) may wait as long as others keep taking few.
///
/// It is never closed: [`acquire`](Self::acquire) gives a permit, and no error.
///
/// Python's `Semaphore`, and its `BoundedSemaphore`: a permit cannot be given back twice.
///
/// # Examples
/// No more than two processes at a time do something:
/// ```
/// use procession::shared::Semaphore;
/// use procession::{Failure, ProcessSet, process};
///
/// #[process]
/// async fn fetch(seats: Semaphore, page: u32) -> u32 {
///     let _seat = seats.acquire().await;
///     page * 2
/// }
///
/// # async fn run() -> Result<(), Failure> {
/// let seats = Semaphore::new(2)?;
/// let mut set = ProcessSet::new();
/// for page in 0..8 {
///     set.spawn(fetch(seats.clone(), page)).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "BoundedSemaphore")]
pub struct Semaphore {
    object: Object,
}

/// Where the words stand: one for what is free, one to sleep by, and one for each slot.
const WAIT: usize = 8;
const LEDGER: usize = 16;
const SIZE: usize = LEDGER + 8 * SLOTS;

impl Semaphore {
    /// The most permits of one, taken or not.
    pub const MAX_PERMITS: usize = MAX_PERMITS as usize;

    /// Makes one with so many permits, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it, or [`TooManyPermits`] as the source of one of the kind
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn new(permits: usize) -> io::Result<Self> {
        Self::new_in(&Region::for_one(SIZE)?, permits)
    }

    /// Makes one in a region.
    ///
    /// # Errors
    /// If the region has no room left, or as [`new`](Self::new) if these are too many.
    pub fn new_in(region: &Region, permits: usize) -> io::Result<Self> {
        let invalid = |too_many| io::Error::new(io::ErrorKind::InvalidInput, too_many);
        number(permits).map_err(invalid)?;
        let new = Self { object: Object::new(region, Kind::Semaphore, SIZE)? };
        new.add_permits(permits).map_err(invalid)?;
        Ok(new)
    }

    /// How many bytes of a region one takes.
    #[must_use]
    pub const fn size_in_region() -> usize {
        room_for(SIZE)
    }

    /// Waits for a permit, and takes it.
    ///
    /// # Cancel safety
    /// Safe: who is dropped while it waits has taken nothing, and gives its turn to the next.
    pub async fn acquire(&self) -> Permit<'_> {
        Permit { taken: self.take(1).await, of: Cow::Borrowed(self) }
    }

    /// Waits for so many permits, and takes them all at once.
    ///
    /// # Errors
    /// [`TooManyPermits`] if there can never be so many. For more than there are now it waits: another may
    /// [add](Self::add_permits) some.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire): while it waits it has none of them.
    pub async fn acquire_many(&self, n: u32) -> Result<Permit<'_>, TooManyPermits> {
        Ok(Permit { taken: self.take(number(n)?).await, of: Cow::Borrowed(self) })
    }

    /// As [`acquire`](Self::acquire), for a permit that borrows nothing.
    ///
    /// # Cancel safety
    /// As `acquire`.
    pub async fn acquire_owned(self) -> Permit<'static> {
        Permit { taken: self.take(1).await, of: Cow::Owned(self) }
    }

    /// As [`acquire_many`](Self::acquire_many), for permits that borrow nothing.
    ///
    /// # Errors
    /// As `acquire_many`.
    ///
    /// # Cancel safety
    /// As `acquire_many`.
    pub async fn acquire_many_owned(self, n: u32) -> Result<Permit<'static>, TooManyPermits> {
        Ok(Permit { taken: self.take(number(n)?).await, of: Cow::Owned(self) })
    }

    /// Takes a permit, blocking this thread until there is one: for code that is not async.
    #[must_use = "it is given back when it is dropped"]
    pub fn blocking_acquire(&self) -> Permit<'_> {
        block_on(self.acquire())
    }

    /// Takes so many permits, blocking this thread until there are: for code that is not async.
    ///
    /// # Errors
    /// As [`acquire_many`](Self::acquire_many).
    pub fn blocking_acquire_many(&self, n: u32) -> Result<Permit<'_>, TooManyPermits> {
        block_on(self.acquire_many(n))
    }

    /// Takes a permit if there is one. If not, it looks whether each process that has one still lives.
    ///
    /// # Errors
    /// [`TryAcquireError::NoPermits`] if there is none.
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes so many permits if there are. If not, it looks as [`try_acquire`](Self::try_acquire) does.
    ///
    /// # Errors
    /// [`TryAcquireError::NoPermits`] if there are not, or [`TryAcquireError::TooMany`] if there can never be.
    pub fn try_acquire_many(&self, n: u32) -> Result<Permit<'_>, TryAcquireError> {
        let n = number(n)?;
        let taken = self.attempt(n).or_else(|| {
            self.look_for_dead();
            self.attempt(n)
        });
        Ok(Permit { taken: taken.ok_or(TryAcquireError::NoPermits)?, of: Cow::Borrowed(self) })
    }

    /// How many permits are free: it may have changed by the time that this returns. Looks first whether those that have the
    /// others still live.
    #[must_use]
    #[doc(alias = "get_value")]
    pub fn available_permits(&self) -> usize {
        self.look_for_dead();
        self.reclaim();
        self.words().free().into()
    }

    /// Makes so many more permits than there are.
    ///
    /// # Errors
    /// [`TooManyPermits`], and none is added, if there were more than [`MAX_PERMITS`](Self::MAX_PERMITS) then.
    #[doc(alias = "release")]
    pub fn add_permits(&self, n: usize) -> Result<(), TooManyPermits> {
        if !self.words().add(number(n)?) {
            return Err(TooManyPermits(()));
        }
        self.wake();
        Ok(())
    }

    async fn take(&self, n: u16) -> Taken {
        let mut waiting = Waiting::new(&self.object.attachment, self.object.at + WAIT, Turns::One);
        poll_fn(|context| {
            let polled = waiting.poll(context, || self.attempt(n), || true);
            // What is too little for this one may be enough for another, who would wait behind it.
            if polled.is_pending() && (1..n).contains(&self.words().free()) {
                waiting.pass();
            }
            polled
        })
        .await
    }

    fn attempt(&self, n: u16) -> Option<Taken> {
        let me = self.object.attachment.me()?;
        let is_taken = self.words().try_acquire(me, n) || self.reclaim() && self.words().try_acquire(me, n);
        is_taken.then(|| Taken { n, me, forks: sys::forks() })
    }

    /// Gives back the permits of the dead that are known.
    fn reclaim(&self) -> bool {
        let had_any = self.words().reclaim();
        if had_any {
            // Those that sleep elsewhere may not have known the dead one.
            self.wake();
        }
        had_any
    }

    /// Nobody watches for those that have permits where nobody waits.
    fn look_for_dead(&self) {
        let attachment = &self.object.attachment;
        let me = attachment.me();
        self.words()
            .holders()
            .filter(|holder| Some(*holder) != me)
            .for_each(|holder| attachment.check(holder));
    }

    fn wake(&self) {
        let attachment = &self.object.attachment;
        attachment.wake(attachment.at::<Wait>(self.object.at + WAIT));
    }

    fn words(&self) -> Permits<'_> {
        let attachment = &self.object.attachment;
        let ledger = attachment.shared().all_at(self.object.at + LEDGER, SLOTS);
        Permits {
            word: attachment.at(self.object.at),
            ledger: ledger.expect("the place of a handle lies within its region"),
            members: attachment.members(),
        }
    }
}

/// A number of permits, of which there can be so many.
fn number(n: impl TryInto<u16>) -> Result<u16, TooManyPermits> {
    n.try_into().map_err(|_large| TooManyPermits(()))
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.words().free()).finish_non_exhaustive()
    }
}

impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(deserializer, Kind::Semaphore, |size| size == SIZE)?;
        Ok(Self { object })
    }
}

/// Permits of a [`Semaphore`], which it gets back when this is dropped.
#[must_use = "it is given back when it is dropped"]
pub struct Permit<'a> {
    of: Cow<'a, Semaphore>,
    taken: Taken,
}

/// What a permit has of its semaphore.
struct Taken {
    n: u16,
    me: Member,
    forks: u64,
}

impl Permit<'_> {
    /// How many permits this has.
    #[must_use]
    pub fn num_permits(&self) -> usize {
        self.taken.n.into()
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Taken { n, me, forks } = self.taken;
        // A fork has copied this permit: it is the other process's.
        if forks == sys::forks() && self.of.words().release(me, n) {
            self.of.wake();
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("permits", &self.taken.n).finish_non_exhaustive()
    }
}

/// These are more permits than a [`Semaphore`] can have: [`Semaphore::MAX_PERMITS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are more permits than a semaphore can have: {MAX_PERMITS}")]
pub struct TooManyPermits(());

/// Why there was no permit at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// Others have them.
    #[error("no permits are free")]
    NoPermits,
    /// There can never be so many.
    #[error(transparent)]
    TooMany(#[from] TooManyPermits),
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::super::words::{Identity, Members};
    use super::*;

    /// The words of a semaphore, and its members.
    struct Words {
        word: AtomicU64,
        ledger: [AtomicU64; 3],
        members: [AtomicU64; 3],
    }

    impl Words {
        fn new(free: u16) -> Self {
            let new = Self { word: AtomicU64::new(0), ledger: <_>::default(), members: <_>::default() };
            assert!(new.permits().add(free));
            new
        }

        fn permits(&self) -> Permits<'_> {
            Permits { word: &self.word, ledger: &self.ledger, members: Members(&self.members) }
        }

        fn join(&self, pid: u32) -> Member {
            Members(&self.members).join(Identity::new(pid, 1)).unwrap()
        }
    }

    /// What the words are after each step of an operation: as they are if it is killed there.
    fn steps(words: &Words, slot: usize, operation: impl FnOnce()) -> [(u64, u64); 4] {
        let look = || (words.word.load(Relaxed), words.ledger[slot].load(Relaxed));
        let before = look();
        operation();
        let after = look();
        let pending = after.0 | 1 << 63;
        [before, (pending, before.1), (pending, after.1), after]
    }

    #[test]
    fn a_death_at_each_step_loses_none() {
        for step in 0..4 {
            for gives in [false, true] {
                let words = Words::new(3);
                let (dead, other) = (words.join(1), words.join(2));
                assert!(words.permits().try_acquire(dead, 1));
                let states = steps(&words, dead.slot(), || {
                    assert!(if gives {
                        words.permits().release(dead, 1)
                    } else {
                        words.permits().try_acquire(dead, 2)
                    });
                });
                let (word, entry) = states[step];
                words.word.store(word, Relaxed);
                words.ledger[dead.slot()].store(entry, Relaxed);
                assert!(Members(&words.members).remove(dead));
                // Where the last of its permits was already on its way back, there is none to reclaim.
                assert_eq!(words.permits().reclaim(), !(gives && step > 0), "step {step}, gives: {gives}");
                assert!(words.permits().try_acquire(other, 3), "step {step}, gives: {gives}");
                assert!(!words.permits().reclaim() && words.permits().release(other, 3));
                assert_eq!(words.permits().free(), 3);
            }
        }
    }

    #[test]
    fn who_dies_while_it_takes_some_is_found_to_have_them() {
        for step in 1..4 {
            let words = Words::new(3);
            let dead = words.join(1);
            assert!(words.permits().try_acquire(dead, 1) && words.permits().release(dead, 1));
            let states = steps(&words, dead.slot(), || assert!(words.permits().try_acquire(dead, 2)));
            let (word, entry) = states[step];
            words.word.store(word, Relaxed);
            words.ledger[dead.slot()].store(entry, Relaxed);
            assert_eq!(words.permits().holders().collect::<Vec<_>>(), [dead], "step {step}");
        }
    }

    #[test]
    fn who_gets_a_slot_has_nothing_of_the_one_before() {
        let words = Words::new(2);
        let dead = words.join(1);
        assert!(words.permits().try_acquire(dead, 1));
        assert!(Members(&words.members).remove(dead));
        let next = words.join(2);
        assert_eq!(next.slot(), dead.slot());
        assert!(!words.permits().release(next, 1), "it has none");
        assert!(!words.permits().try_acquire(next, 1), "the ledger is not its own yet");
        assert_eq!(words.permits().holders().collect::<Vec<_>>(), [dead]);
        assert!(words.permits().reclaim() && words.permits().try_acquire(next, 2));
        assert!(!words.permits().release(dead, 1), "it is dead");
        assert!(words.permits().release(next, 2) && !words.permits().release(next, 1));
        assert_eq!(words.permits().free(), 2);
    }

    #[test]
    fn whatever_a_hostile_process_writes_ends() {
        let bits = [0, 1, u64::from(u16::MAX), 1 << 31, 3 << 32, 0xff << 32, 1 << 46, 1 << 62, 1 << 63, !0];
        for (word, entry) in bits.iter().flat_map(|word| bits.map(|entry| (*word, entry))) {
            let words = Words::new(1);
            let me = words.join(1);
            let write = || {
                words.word.store(word, Relaxed);
                words.ledger.iter().for_each(|it| it.store(entry, Relaxed));
            };
            write();
            _ = words.permits().try_acquire(me, u16::MAX);
            write();
            _ = words.permits().release(me, u16::MAX);
            write();
            _ = (words.permits().reclaim(), words.permits().add(1), words.permits().holders().count());
        }
    }

    #[test]
    fn of_several_threads() {
        let words = Words::new(2);
        let (one, other) = (words.join(1), words.join(2));
        std::thread::scope(|scope| {
            for me in [one, other, one] {
                let permits = words.permits();
                scope.spawn(move || {
                    for n in 0..20_000 {
                        let several = 1 + n % 2;
                        if permits.try_acquire(me, several) {
                            assert!(permits.release(me, several));
                        }
                    }
                });
            }
        });
        assert_eq!((words.permits().free(), words.permits().holders().count()), (2, 0));
    }
}
