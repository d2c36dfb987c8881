//! The least that a lock in shared memory can cost: a futex, as the second mutex of Drepper's "Futexes Are Tricky". It knows
//! of no owner: who dies while it has the lock keeps it for ever.
#![expect(unsafe_code, reason = "memory that another process has, too, is no slice")]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{MmapOptions, MmapRaw};
use procession::{Call, Failure, Passed, Pipe, pipe};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::thread::futex;

use crate::{Contender, Peer, same, stay_on};

/// A number, and its lock: a cache line for each.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct FutexLock {
    /// Free, locked, or locked and slept by.
    state: AtomicU32,
    value: AtomicU64,
}

const FREE: u32 = 0;
const LOCKED: u32 = 1;
const SLEPT_BY: u32 = 2;

impl FutexLock {
    /// Locks it, changes the number, and unlocks it.
    #[inline]
    pub fn change(&self, change: impl FnOnce(u64) -> u64) {
        self.lock();
        self.value.store(change(self.value.load(Relaxed)), Relaxed);
        if self.state.swap(FREE, Release) == SLEPT_BY {
            // If it is not woken, the other side waits for ever, and the benchmark with it.
            let _woken = futex::wake(&self.state, futex::Flags::empty(), 1);
        }
    }

    /// The number, for who needs no lock.
    pub(super) const fn number(&self) -> &AtomicU64 {
        &self.value
    }

    #[inline]
    fn lock(&self) {
        if self.state.compare_exchange(FREE, LOCKED, Acquire, Relaxed).is_err() {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        while self.state.swap(SLEPT_BY, Acquire) != FREE {
            // Whatever it returns for, the word says whether it is over.
            let _why = futex::wait(&self.state, futex::Flags::empty(), SLEPT_BY, None);
        }
    }
}

/// Some of them, in memory that other processes can map.
#[derive(Debug)]
pub struct FutexLocks {
    memory: File,
    mapping: MmapRaw,
}

impl FutexLocks {
    /// Makes so many.
    ///
    /// # Errors
    /// If the system has no memory for them.
    pub fn new(count: usize) -> io::Result<Self> {
        let memory = memfd_create(c"limit", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, (count * size_of::<FutexLock>()) as u64)?;
        Self::map(memory)
    }

    pub(super) fn map(memory: OwnedFd) -> io::Result<Self> {
        let memory = File::from(memory);
        Ok(Self { mapping: MmapOptions::new().populate().map_raw(&memory)?, memory })
    }

    /// Another descriptor of the memory.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.memory.try_clone()?.into())
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[FutexLock] {
        let count = self.mapping.len() / size_of::<FutexLock>();
        // SAFETY: the mapping begins a page, has as many bytes, and lives as long as `self`; they are atomics, which other
        // processes change, too.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().cast(), count) }
    }
}

/// A child's part: it stays on a core, and counts up the first lock's number as often as it is told.
///
/// # Errors
/// Those of the pipe, and of `mmap(2)`.
pub async fn count_by_futex(
    mut pipe: Pipe<u64, u64>,
    memory: Passed<OwnedFd>,
    core: usize,
) -> Result<(), Failure> {
    stay_on(core)?;
    let locks = FutexLocks::map(memory.into_inner()?)?;
    while let Some(times) = pipe.recv().await? {
        count(&locks, times);
        pipe.send(times).await?;
    }
    Ok(())
}

fn count(locks: &FutexLocks, times: u64) {
    for _ in 0..times {
        locks.all()[0].change(|n| n + 1);
    }
}

/// Two processes that count up the same number.
#[derive(Debug)]
pub struct FutexCounts {
    locks: FutexLocks,
    pipe: Pipe<u64, u64>,
    peer: Peer,
}

impl FutexCounts {
    /// Starts it. The child's part is [`count_by_futex`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(
        child: impl FnOnce(Pipe<u64, u64>, Passed<OwnedFd>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (locks, (pipe, theirs)) = (FutexLocks::new(1)?, pipe()?);
        let memory = Passed::new(locks.descriptor()?)?;
        Ok(Self { locks, pipe, peer: Peer::start(child(theirs, memory)).await? })
    }
}

impl Contender for FutexCounts {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        self.pipe.send(times).await.map_err(io::Error::other)?;
        count(&self.locks, times);
        same(self.pipe.recv().await.map_err(io::Error::other)?, times)
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}
