//! The least that a number there and back can cost where both sides look for it: two words in shared memory. Who has looked for
//! a while sleeps by an eventfd, and tokio's `AsyncFd`.
#![expect(unsafe_code, reason = "memory that another process has, too")]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use procession::{Call, Failure, Passed};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::eventfd::{ring, rung, watched};
use crate::{Contender, Peer, same, stay_on};

/// A number, and whether somebody sleeps until it changes.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Word {
    number: AtomicU64,
    is_slept_by: AtomicU64,
}

/// The question, and the answer.
#[derive(Debug, Default)]
#[repr(C)]
struct Both([Word; 2]);

/// What the child has.
#[derive(Debug, Serialize, Deserialize)]
pub struct SharedWords {
    memory: Passed<OwnedFd>,
    eventfds: [Passed<OwnedFd>; 2],
}

/// What each side has.
#[derive(Debug)]
struct Side {
    mapping: MmapRaw,
    eventfds: [AsyncFd<OwnedFd>; 2],
}

const LOOKS: Duration = Duration::from_micros(20);

/// What says that it was the last question.
const LAST: u64 = u64::MAX;

impl Side {
    fn new(memory: OwnedFd, [first, second]: [OwnedFd; 2]) -> io::Result<Self> {
        let mapping = MmapOptions::new().populate().map_raw(&File::from(memory))?;
        assert!(mapping.len() >= size_of::<Both>());
        Ok(Self { mapping, eventfds: [watched(first)?, watched(second)?] })
    }

    fn word(&self, which: usize) -> &Word {
        // SAFETY: the mapping begins a page, has as many bytes, and lives as long as `self`; they are atomics, which another
        // process changes, too.
        let both = unsafe { &*self.mapping.as_ptr().cast::<Both>() };
        &both.0[which]
    }

    fn say(&self, which: usize, number: u64) -> io::Result<()> {
        let word = self.word(which);
        word.number.store(number, SeqCst);
        if word.is_slept_by.load(SeqCst) != 0 {
            ring(&self.eventfds[which])?;
        }
        Ok(())
    }

    /// Waits for another number than there was.
    async fn hear(&self, which: usize, before: u64) -> io::Result<u64> {
        let word = self.word(which);
        let start = Instant::now();
        loop {
            for _ in 0..8 {
                let number = word.number.load(SeqCst);
                if number != before {
                    return Ok(number);
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > LOOKS {
                break;
            }
        }
        word.is_slept_by.store(1, SeqCst);
        while word.number.load(SeqCst) == before {
            rung(&self.eventfds[which]).await?;
        }
        word.is_slept_by.store(0, SeqCst);
        Ok(word.number.load(SeqCst))
    }
}

/// A child's part: it stays on a core, and answers each number by the same.
///
/// # Errors
/// Those of the descriptors, and of `mmap(2)`.
pub async fn answer_words(shared: SharedWords, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let [first, second] = shared.eventfds;
    let side = Side::new(shared.memory.into_inner()?, [first.into_inner()?, second.into_inner()?])?;
    let mut number = 0;
    loop {
        number = side.hear(0, number).await?;
        if number == LAST {
            return Ok(());
        }
        side.say(1, number)?;
    }
}

/// A number there, and the same back.
#[derive(Debug)]
pub struct Words {
    side: Side,
    number: u64,
    peer: Peer,
}

impl Words {
    /// Starts it. The child's part is [`answer_words`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(child: impl FnOnce(SharedWords) -> Call<Result<(), Failure>>) -> io::Result<Self> {
        let memory = memfd_create(c"limit", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, size_of::<Both>() as u64)?;
        let new = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let (first, second) = (new()?, new()?);
        let shared = SharedWords {
            memory: Passed::new(memory.try_clone()?)?,
            eventfds: [Passed::new(first.try_clone()?)?, Passed::new(second.try_clone()?)?],
        };
        let peer = Peer::start(child(shared)).await?;
        Ok(Self { side: Side::new(memory, [first, second])?, number: 0, peer })
    }
}

impl Contender for Words {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            let before = self.number;
            self.number += 1;
            self.side.say(0, self.number)?;
            same(Some(self.side.hear(1, before).await?), self.number)?;
        }
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        // An error means that the child has ended already.
        drop(self.side.say(0, LAST));
        self.peer
    }
}
