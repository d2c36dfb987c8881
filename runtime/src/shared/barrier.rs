//! A place where several wait for each other.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::attachment::Waiting;
use super::layout::{Kind, room_for};
use super::listeners::block_on;
use super::region::{Object, Region};
use super::waiters::Turns;
use super::words::{Arrival, MOST_PARTIES, Round, SLOTS};
use crate::sys::{self, Place};

/// Where a number of parties wait until all of them are there; any task of any process is one that waits.
///
/// When the last one has arrived all go on, and the next round begins. One in each round is the leader: the last one.
///
/// A round that cannot be completed any more is *broken*, and so is the barrier, until somebody calls [`reset`](Self::reset):
///
/// | when | those that wait, and those that come |
/// |---|---|
/// | somebody calls [`abort`](Self::abort) | get [`Broken`] |
/// | a wait is dropped before the round was completed: a time-out, a task that was aborted | get `Broken` |
/// | a process that waits is killed, or ends | get `Broken`, as soon as somebody who waits has noticed |
/// | the action of [`wait_with`](Self::wait_with) panics | get `Broken` |
/// | somebody calls `reset` while others wait | get `Broken`; those that come wait in a new round |
///
/// A process that is stopped is late, and nothing else.
///
/// Python's [`multiprocessing.Barrier`](https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Barrier).
///
/// # Examples
/// ```
/// use procession::{Failure, process, shared::Barrier};
///
/// #[process]
/// async fn meets(barrier: Barrier) -> Result<(), Failure> {
///     barrier.wait().await?;
///     Ok(())
/// }
///
/// # #[procession::main]
/// # async fn main() -> Result<(), Failure> {
/// let barrier = Barrier::new(2)?;
/// let mut child = meets(barrier.clone()).spawn().await?;
/// barrier.wait().await?;
/// child.join().await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Barrier {
    object: Object,
    words: Place<Round>,
    ledgers: Place<[AtomicU64; SLOTS]>,
    parties: u64,
}

/// A round of a [`Barrier`] was not completed: a party gave up, timed out or died, or somebody reset it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken: a party gave up or died, or somebody reset it")]
#[doc(alias = "BrokenBarrierError")]
#[non_exhaustive]
pub struct Broken;

/// Why there is no new [`Barrier`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewBarrierError {
    /// It would have none, or more than it has room for.
    #[error("a barrier is for 1 to {MOST_PARTIES} parties, not {parties}")]
    Parties {
        /// How many it was to have.
        parties: usize,
    },
    /// The system has no memory or no descriptors for it, or the region has no room left.
    #[error("no room for a barrier")]
    Io(#[from] io::Error),
}

/// What [`Barrier::wait`] gives, to each party.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether it was the last one to arrive: one in each round.
    #[must_use]
    pub const fn is_leader(self) -> bool {
        self.is_leader
    }
}

impl Barrier {
    /// Where the ledgers begin: behind the words.
    const LEDGERS: usize = size_of::<Round>();
    const SIZE: usize = Self::LEDGERS + SLOTS * size_of::<AtomicU64>();

    /// Makes one for so many parties, in memory of its own.
    ///
    /// # Errors
    /// If there are none or more than 4095, or the system has no memory or no descriptors for it.
    pub fn new(parties: usize) -> Result<Self, NewBarrierError> {
        let checked = check(parties)?;
        Self::make(&Region::for_one(Self::SIZE)?, checked)
    }

    /// Makes one in a region.
    ///
    /// # Errors
    /// If there are no parties or more than 4095, or the region has no room left.
    pub fn new_in(region: &Region, parties: usize) -> Result<Self, NewBarrierError> {
        Self::make(region, check(parties)?)
    }

    fn make(region: &Region, parties: u64) -> Result<Self, NewBarrierError> {
        let new = Self::of(Object::new(region, Kind::Barrier, Self::SIZE)?, parties)?;
        new.words.parties.store(parties, Relaxed);
        Ok(new)
    }

    fn of(object: Object, parties: u64) -> io::Result<Self> {
        let (words, ledgers) = (object.words(0)?, object.words(Self::LEDGERS)?);
        Ok(Self { object, words, ledgers, parties })
    }

    /// How many bytes of a region one takes.
    #[must_use]
    pub const fn size_in_region() -> usize {
        room_for(Self::SIZE)
    }

    /// Waits until all parties are there.
    ///
    /// What each of them did before is seen by all of them after.
    ///
    /// # Errors
    /// [`Broken`] if the round was not completed, or the barrier was broken before.
    ///
    /// # Cancel safety
    /// Who is dropped while it waits breaks the barrier: the others cannot know whether it will come again. So a time limit is one
    /// for all of them.
    pub async fn wait(&self) -> Result<BarrierWaitResult, Broken> {
        self.wait_with(|| ()).await
    }

    /// As [`wait`](Self::wait), and the last one to arrive runs its action before it and the others go on.
    ///
    /// The actions of the others are dropped. Whoever arrives last runs its own, so that all parties are to bring the same one.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    /// If the action does; that breaks the barrier.
    ///
    /// # Cancel safety
    /// As [`wait`](Self::wait).
    #[doc(alias = "action")]
    pub async fn wait_with(&self, action: impl FnOnce()) -> Result<BarrierWaitResult, Broken> {
        let mut party = Party { barrier: self, forks: sys::forks(), round: None };
        // From the first time on they are heard of.
        if self.object.attachment.watch() {
            self.look_for_deaths();
        }
        let mut waiting = Waiting::new(&self.object.attachment, self.object.at + Round::WAIT, Turns::All);
        let arrive = poll_fn(|context| waiting.poll(context, || party.attempt(), || !self.bury()));
        let is_leader = arrive.await?;
        if is_leader {
            action();
            party.complete()?;
        }
        Ok(BarrierWaitResult { is_leader })
    }

    /// Waits until all parties are there, blocking this thread: for code that is not async.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn blocking_wait(&self) -> Result<BarrierWaitResult, Broken> {
        block_on(self.wait())
    }

    /// Breaks it: those that wait get [`Broken`], and so do all that come, until it is [`reset`](Self::reset).
    pub fn abort(&self) {
        self.words.abort();
        self.wake();
    }

    /// Begins a new round, be it broken or not. Those that wait get [`Broken`].
    pub fn reset(&self) {
        self.words.reset();
        self.wake();
    }

    /// Whether it is broken: it may be another way by the time that this returns.
    #[must_use]
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.look_for_deaths();
        self.words.is_broken()
    }

    /// How many parties there are to be.
    #[must_use]
    pub const fn parties(&self) -> usize {
        self.parties as usize
    }

    /// How many have arrived and wait for the others: it may be another number by the time that this returns.
    #[must_use]
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        usize::try_from(self.words.waiting()).unwrap_or(usize::MAX)
    }

    fn wake(&self) {
        self.object.attachment.wake(&self.words.wait);
    }

    /// Breaks it if one that has arrived is known to be dead; gives whether it did.
    fn bury(&self) -> bool {
        let is_broken = self.words.bury(self.ledgers.as_slice(), self.object.attachment.members());
        if is_broken {
            self.wake();
        }
        is_broken
    }

    /// Looks whether those that have arrived live: where nobody waits, nobody watches.
    fn look_for_deaths(&self) {
        self.words.arrived(self.ledgers.as_slice()).for_each(|party| self.object.attachment.check(party));
        self.bury();
    }
}

fn check(parties: usize) -> Result<u64, NewBarrierError> {
    let checked = u64::try_from(parties).ok().filter(|parties| (1..=MOST_PARTIES).contains(parties));
    checked.ok_or(NewBarrierError::Parties { parties })
}

/// One that waits.
struct Party<'a> {
    barrier: &'a Barrier,
    forks: u64,
    /// The round in which it has arrived, as long as it does not know what became of it.
    round: Option<u64>,
}

impl Party<'_> {
    /// Arrives, or looks what became of the round. Gives whether it is the leader.
    fn attempt(&mut self) -> Option<Result<bool, Broken>> {
        let barrier = self.barrier;
        if let Some(round) = self.round {
            let is_completed = barrier.words.outcome(round)?;
            self.round = None;
            return Some(if is_completed { Ok(false) } else { Err(Broken) });
        }
        let me = barrier.object.attachment.me()?;
        match barrier.words.arrive(barrier.ledgers.as_slice(), me, barrier.parties) {
            Arrival::Waits(round) => {
                self.round = Some(round);
                None
            }
            Arrival::Last(round) => {
                self.round = Some(round);
                Some(Ok(true))
            }
            Arrival::Full => None,
            Arrival::Broken => {
                // It may have been this one that has found the dead.
                barrier.wake();
                Some(Err(Broken))
            }
        }
    }

    fn complete(&mut self) -> Result<(), Broken> {
        let is_completed = self.round.take().is_some_and(|round| self.barrier.words.complete(round));
        self.barrier.wake();
        if is_completed { Ok(()) } else { Err(Broken) }
    }
}

/// Who gives up leaves nobody waiting for it. In a fork it is the other process's to do so.
impl Drop for Party<'_> {
    fn drop(&mut self) {
        if let Some(round) = self.round
            && self.forks == sys::forks()
            && self.barrier.words.break_round(round)
        {
            self.barrier.wake();
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_broken = self.words.is_broken();
        let mut debug = f.debug_struct("Barrier");
        debug.field("parties", &self.parties).field("waiting", &self.waiting());
        debug.field("is_broken", &is_broken).finish_non_exhaustive()
    }
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(deserializer, Kind::Barrier, |size| size == Self::SIZE)?;
        let mut barrier = Self::of(object, 0).map_err(D::Error::custom)?;
        let parties = usize::try_from(barrier.words.parties.load(Relaxed)).unwrap_or(usize::MAX);
        barrier.parties = check(parties).map_err(D::Error::custom)?;
        Ok(barrier)
    }
}
