//! The least that messages of many to many can cost: a ring of cells in shared memory, each with the number of its turn (Vyukov's
//! bounded queue). Who finds none looks for a moment, then sleeps by an eventfd and tokio's `AsyncFd`. Messages are bytes, of one
//! length. Who dies within a cell stops all.
#![expect(unsafe_code, reason = "memory that other processes have, too")]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use memmap2::{MmapOptions, MmapRaw};
use procession::Passed;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::write;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::eventfd::{rung, watched};

/// What a child has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SharedQueue {
    memory: Passed<OwnedFd>,
    /// For those that send, and for those that receive.
    eventfds: [Passed<OwnedFd>; 2],
    capacity: usize,
    /// In words.
    length: usize,
}

/// Each in a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct End {
    position: AtomicU64,
    sleepers: AtomicU64,
    _rest: [AtomicU64; 6],
}

/// The queue, as a process has it.
#[derive(Debug)]
pub struct Queue {
    mapping: MmapRaw,
    eventfds: [AsyncFd<OwnedFd>; 2],
    capacity: usize,
    length: usize,
}

const SENDERS: usize = 0;
const RECEIVERS: usize = 1;

/// How often to look for a cell before sleeping: for some microseconds.
const LOOKS: usize = 100;

/// In words: the number of its turn, and the message, in whole cache lines.
fn stride(length: usize) -> usize {
    (1 + length).next_multiple_of(8)
}

impl SharedQueue {
    /// Makes one, with room for as many messages as a power of two, each of so many words.
    ///
    /// # Errors
    /// If the capacity is no power of two, or the system has no memory or no descriptors for it.
    pub fn new(capacity: usize, length: usize) -> io::Result<Self> {
        if !capacity.is_power_of_two() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let memory = memfd_create(c"limit", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, (2 * size_of::<End>() + 8 * stride(length) * capacity) as u64)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let new = || Passed::new(eventfd(0, flags)?);
        let shared = Self { memory: Passed::new(memory)?, eventfds: [new()?, new()?], capacity, length };
        Ok(shared)
    }

    /// The queue, in the current runtime.
    ///
    /// # Errors
    /// Those of the descriptors, and of `mmap(2)`; if the memory is too short.
    pub fn open(self) -> io::Result<Queue> {
        let Self { memory, eventfds: [senders, receivers], capacity, length } = self;
        let mapping = MmapOptions::new().populate().map_raw(&File::from(memory.into_inner()?))?;
        if mapping.len() < 2 * size_of::<End>() + 8 * stride(length) * capacity {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let eventfds = [watched(senders.into_inner()?)?, watched(receivers.into_inner()?)?];
        Ok(Queue { mapping, eventfds, capacity, length })
    }
}

impl Queue {
    fn end(&self, which: usize) -> &End {
        // SAFETY: the mapping begins a page with two of them, and lives as long as `self`; they are atomics, which other
        // processes change, too.
        let ends = unsafe { &*self.mapping.as_ptr().cast::<[End; 2]>() };
        &ends[which]
    }

    /// The number of a cell's turn, and the message. At first the turn is zero: the first lap's is the cell's lap, not its
    /// position, so that nobody has to write to the memory before.
    fn cell(&self, position: u64) -> (&AtomicU64, &[AtomicU64]) {
        let index = position as usize & (self.capacity - 1);
        let at = self.mapping.as_ptr().wrapping_add(2 * size_of::<End>()).cast::<AtomicU64>();
        let at = at.wrapping_add(index * stride(self.length));
        // SAFETY: the mapping has so many cells behind the ends, and they are atomics, as above.
        let words = unsafe { std::slice::from_raw_parts(at, 1 + self.length) };
        (&words[0], &words[1..])
    }

    /// The turn in which a cell is filled at a position; one more says that it is full.
    fn turn(&self, position: u64) -> u64 {
        position / self.capacity as u64 * 2
    }

    /// Claims the first cell whose turn it is.
    fn claim(&self, which: usize) -> Option<u64> {
        let end = self.end(which);
        let mut position = end.position.load(Relaxed);
        loop {
            let is_at = self.cell(position).0.load(Acquire);
            let wanted = self.turn(position) + which as u64;
            if is_at < wanted {
                return None;
            }
            if is_at > wanted {
                position = end.position.load(Relaxed);
                continue;
            }
            match end.position.compare_exchange_weak(position, position + 1, Relaxed, Relaxed) {
                Ok(_) => return Some(position),
                Err(other) => position = other,
            }
        }
    }

    /// Waits for a cell.
    async fn wait(&self, which: usize) -> io::Result<u64> {
        loop {
            for _ in 0..LOOKS {
                if let Some(position) = self.claim(which) {
                    return Ok(position);
                }
                std::hint::spin_loop();
            }
            self.end(which).sleepers.fetch_add(1, SeqCst);
            fence(SeqCst);
            if let Some(position) = self.claim(which) {
                return Ok(position);
            }
            rung(&self.eventfds[which]).await?;
        }
    }

    fn wake(&self, which: usize) -> io::Result<()> {
        fence(SeqCst);
        let sleepers = &self.end(which).sleepers;
        if sleepers.load(Relaxed) != 0 {
            let count = sleepers.swap(0, SeqCst);
            if count != 0 {
                write(self.eventfds[which].get_ref(), &count.to_ne_bytes())?;
            }
        }
        Ok(())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Those of the descriptors.
    pub async fn push(&self, message: &[u64]) -> io::Result<()> {
        let position = self.wait(SENDERS).await?;
        let (turn, words) = self.cell(position);
        words.iter().zip(message).for_each(|(word, of)| word.store(*of, Relaxed));
        turn.store(self.turn(position) + 1, Release);
        self.wake(RECEIVERS)
    }

    /// Receives one.
    ///
    /// # Errors
    /// Those of the descriptors.
    pub async fn pop(&self, message: &mut [u64]) -> io::Result<()> {
        let position = self.wait(RECEIVERS).await?;
        let (turn, words) = self.cell(position);
        words.iter().zip(message).for_each(|(word, to)| *to = word.load(Relaxed));
        turn.store(self.turn(position) + 2, Release);
        self.wake(SENDERS)
    }
}
