//! The board of a worker: what it and its pool tell one another by shared memory, without a system call.
//!
//! It belongs to one worker and its pool alone. On it are, for each *slot* that a job of the worker's may have,
//!
//! | word | who writes | what it says |
//! |---|---|---|
//! | claim | both | whose turn of the slot it is, and whether it was offered, started, or taken back |
//! | item | worker | how many of the job's items it has started |
//! | since | worker | when it has started the last of them, in nanoseconds of `CLOCK_MONOTONIC` |
//!
//! and two [rings](super::ring): of jobs, and of results. A worker that is killed at any instruction leaves them readable: what it
//! has written to the end counts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use rustix::fs::{SealFlags, fcntl_add_seals, fstat};
use rustix::time::{ClockId, clock_gettime};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::ring::Ring;
use crate::sys::Shared;
use crate::wire::beside::{HandleKind, Ownership, give, take};
use crate::wire::memory::new_memory_of;

/// How many jobs a worker may have at a time.
pub(super) const SLOTS: usize = 1024;

/// The length of each ring, in words: 64 KiB.
const RING: usize = 8 << 10;

/// What goes by a ring at most, in bytes; what is longer goes by the link.
pub(super) const SHORT: usize = 4 << 10;

/// Each has a cache line for itself: one side writes it while the other writes its neighbour.
mod at {
    const LINE: usize = 8;
    pub(super) const JOBS_READ: usize = 0;
    pub(super) const JOBS_WRITTEN: usize = LINE;
    pub(super) const RESULTS_READ: usize = 2 * LINE;
    pub(super) const RESULTS_WRITTEN: usize = 3 * LINE;
    pub(super) const WORKER_SLEEPS: usize = 4 * LINE;
    pub(super) const POOL_SLEEPS: usize = 5 * LINE;
    pub(super) const MAILED: usize = 6 * LINE;
    pub(super) const CLAIMS: usize = 7 * LINE;
    pub(super) const ITEMS: usize = CLAIMS + super::SLOTS;
    pub(super) const SINCE: usize = ITEMS + super::SLOTS;
    pub(super) const JOBS: usize = SINCE + super::SLOTS;
    pub(super) const RESULTS: usize = JOBS + super::RING;
    pub(super) const END: usize = RESULTS + super::RING;
}

const LENGTH: usize = at::END * size_of::<AtomicU64>();

/// What has become of a job that was offered to a worker, in the lower bits of its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Claim {
    /// The worker may start it.
    Offered = 1,
    /// The worker has started it.
    Started = 2,
    /// The pool has taken it back: the worker does not start it.
    Withdrawn = 3,
    /// The worker has started it, and is to start no more of its items.
    Stopped = 4,
}

/// How many bits a [`Claim`] takes.
const CLAIM_BITS: u32 = 3;

const fn claim(turn: u64, claim: Claim) -> u64 {
    turn << CLAIM_BITS | claim as u64
}

/// The board, as both sides have it.
#[derive(Debug, Clone)]
pub(super) struct Board {
    memory: Arc<OwnedFd>,
    shared: Arc<Shared>,
}

impl Board {
    /// A board with nothing on it.
    ///
    /// # Errors
    /// If there is no memory, or no descriptor.
    pub(super) fn new() -> io::Result<Self> {
        let memory = new_memory_of(c"procession-pool", LENGTH as u64)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::of(Arc::new(memory))
    }

    fn of(memory: Arc<OwnedFd>) -> io::Result<Self> {
        let length = fstat(&*memory)?.st_size;
        if usize::try_from(length).ok() != Some(LENGTH) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let shared = Arc::new(Shared::map(&*memory, LENGTH)?);
        Ok(Self { memory, shared })
    }

    #[inline]
    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        self.shared.all_at(at * size_of::<AtomicU64>(), count).expect("a board has all its words")
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words(at, 1)[0]
    }

    /// From the pool to the worker.
    pub(super) fn jobs(&self) -> Ring<'_> {
        let (read, written) = (self.word(at::JOBS_READ), self.word(at::JOBS_WRITTEN));
        Ring { words: self.words(at::JOBS, RING), read, written }
    }

    /// From the worker to the pool.
    pub(super) fn results(&self) -> Ring<'_> {
        let (read, written) = (self.word(at::RESULTS_READ), self.word(at::RESULTS_WRITTEN));
        Ring { words: self.words(at::RESULTS, RING), read, written }
    }

    /// Offers a slot's job.
    pub(super) fn offer(&self, slot: usize, turn: u64) {
        // Release: the worker that sees it sees what was done with the slot before.
        self.word(at::CLAIMS + slot).store(claim(turn, Claim::Offered), Release);
    }

    /// Starts a slot's job: not if it was taken back. Whoever changes the word first has it.
    pub(super) fn start(&self, slot: usize, turn: u64) -> bool {
        self.change(slot, turn, Claim::Offered, Claim::Started)
    }

    /// Takes a slot's job back: not if it was started.
    pub(super) fn withdraw(&self, slot: usize, turn: u64) -> bool {
        self.change(slot, turn, Claim::Offered, Claim::Withdrawn)
    }

    /// Has the worker start no more items of a job: not if it has not started it.
    pub(super) fn stop(&self, slot: usize, turn: u64) -> bool {
        self.change(slot, turn, Claim::Started, Claim::Stopped)
    }

    fn change(&self, slot: usize, turn: u64, from: Claim, to: Claim) -> bool {
        // Acquire and release: what the worker told of its items before it has started is seen by who finds it started.
        self.word(at::CLAIMS + slot)
            .compare_exchange(claim(turn, from), claim(turn, to), AcqRel, Acquire)
            .is_ok()
    }

    /// Whether a job was offered, and nobody has taken it back or started it. A worker that has written nonsense has started it.
    pub(super) fn is_offered(&self, slot: usize, turn: u64) -> bool {
        self.word(at::CLAIMS + slot).load(Acquire) == claim(turn, Claim::Offered)
    }

    /// Whether the worker is to start no more items of a job.
    pub(super) fn is_stopped(&self, slot: usize, turn: u64) -> bool {
        self.word(at::CLAIMS + slot).load(Relaxed) == claim(turn, Claim::Stopped)
    }

    /// Tells that one more item of a job is about to start: the how manieth it is, and when, if somebody asks.
    pub(super) fn begin(&self, slot: usize, item: u32, is_timed: bool) {
        if is_timed {
            self.word(at::SINCE + slot).store(now(), Relaxed);
        }
        // Release: with the number goes the time.
        self.word(at::ITEMS + slot).store(u64::from(item), Release);
    }

    /// How many items of a job that was started were, and when the last of them was.
    pub(super) fn begun(&self, slot: usize) -> (u64, u64) {
        // Acquire: as above. Between the two words the worker may begin the next item, whose time is later.
        let item = self.word(at::ITEMS + slot).load(Acquire);
        (item, self.word(at::SINCE + slot).load(Relaxed))
    }

    /// Who sleeps, and is to be woken by a word on the link.
    pub(super) fn sleeper(&self, side: Side) -> Sleeper<'_> {
        Sleeper(self.word(match side {
            Side::Worker => at::WORKER_SLEEPS,
            Side::Pool => at::POOL_SLEEPS,
        }))
    }

    /// How many letters the pool has sent by the link: the worker looks for them where the number has grown.
    pub(super) fn mailed(&self) -> u64 {
        self.word(at::MAILED).load(Acquire)
    }

    /// One more letter is about to be sent.
    pub(super) fn count_letter(&self) {
        self.word(at::MAILED).fetch_add(1, Release);
    }
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Worker,
    Pool,
}

/// How somebody sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Sleep {
    /// It looks by itself before long, and need not be woken for a little.
    Light = 1,
    /// It is to be woken for anything.
    Deep = 2,
    /// It waits for room on the board, and is to be woken for that, too.
    Full = 3,
}

/// Whether a side sleeps. It enters that, looks once more, and sleeps; who has something for it writes that, and then looks here:
/// one of the two sees the other, because each has a fence between its two steps, and fences have one order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sleeper<'a>(&'a AtomicU64);

impl Sleeper<'_> {
    /// Enters that this side is about to sleep.
    pub(super) fn sleep(self, how: Sleep) {
        self.0.store(how as u64, Relaxed);
        // A fence, as on the other side: what an exchange alone has written the look that follows could overtake.
        fence(SeqCst);
    }

    /// This side is awake.
    pub(super) fn awake(self) {
        self.0.store(0, Relaxed);
    }

    /// Whether the other side must be woken, for little or for much; it counts as woken then.
    pub(super) fn must_be_woken(self, for_much: bool) -> bool {
        fence(SeqCst);
        let how = self.0.load(Relaxed);
        let is_due = how >= Sleep::Deep as u64 || (for_much && how != 0);
        is_due && self.0.swap(0, SeqCst) != 0
    }

    /// Whether the other side must be woken because there is room; it counts as woken then.
    pub(super) fn waits_for_room(self) -> bool {
        fence(SeqCst);
        self.0.load(Relaxed) == Sleep::Full as u64 && self.0.swap(0, SeqCst) != 0
    }
}

/// The time by which both sides count.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

impl Serialize for Board {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give(&self.memory, HandleKind::Descriptor, Ownership::Shared, serializer)
    }
}

impl<'de> Deserialize<'de> for Board {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(take(HandleKind::Descriptor, deserializer)?.handle).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_started_or_taken_back() {
        let board = Board::new().unwrap();
        board.offer(7, 1);
        assert!(board.is_offered(7, 1));
        assert!(board.start(7, 1) && !board.withdraw(7, 1) && !board.is_offered(7, 1));
        board.stop(7, 1);
        assert!(board.is_stopped(7, 1));
        board.offer(7, 2);
        assert!(!board.start(7, 1), "an offer of before");
        assert!(board.withdraw(7, 2) && !board.start(7, 2));
        board.stop(7, 2);
        assert!(!board.is_stopped(7, 2));
    }

    #[test]
    fn who_sleeps_is_woken_once() {
        let board = Board::new().unwrap();
        let worker = board.sleeper(Side::Worker);
        assert!(!worker.must_be_woken(true));
        worker.sleep(Sleep::Light);
        assert!(!worker.must_be_woken(false) && worker.must_be_woken(true) && !worker.must_be_woken(true));
        worker.sleep(Sleep::Deep);
        assert!(!board.sleeper(Side::Pool).must_be_woken(true));
        assert!(worker.must_be_woken(false) && !worker.must_be_woken(false));
    }

    #[test]
    fn what_was_begun_is_told() {
        let board = Board::new().unwrap();
        board.begin(3, 1, false);
        assert_eq!(board.begun(3), (1, 0));
        let before = now();
        board.begin(3, 2, true);
        let (item, since) = board.begun(3);
        assert!(item == 2 && since >= before && since <= now());
    }
}
