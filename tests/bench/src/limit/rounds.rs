//! The least that it can cost tasks of several processes to wait for each other: a count in shared memory, and an eventfd with
//! `AsyncFd` for each. Futexes would cost less, but who waits by one blocks its thread, and all tasks of its runtime with it.
//! It knows of no death, no time limit, and nobody who gives up: then the others wait for ever.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::AcqRel;

use procession::{Call, Failure, Passed, Pipe, pipe};
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::unix::AsyncFd;

use super::eventfd::{ring, rung, watched};
use super::futex::FutexLocks;
use crate::{Contender, Peer, same, stay_on};

/// One of those that meet.
#[derive(Debug)]
struct Party {
    memory: FutexLocks,
    bells: Vec<AsyncFd<OwnedFd>>,
    number: usize,
}

impl Party {
    /// Waits for the others, so many times.
    async fn meet(&self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            let arrived = self.memory.all()[0].number().fetch_add(1, AcqRel) + 1;
            if arrived.is_multiple_of(self.bells.len() as u64) {
                let mut others = self.bells.iter().enumerate().filter(|(number, _)| *number != self.number);
                others.try_for_each(|(_, bell)| ring(bell))?;
            } else {
                rung(&self.bells[self.number]).await?;
            }
        }
        Ok(())
    }
}

/// A child's part: it stays on a core, and meets the others as often as it is told.
///
/// # Errors
/// Those of the pipe, of the descriptors, and of `mmap(2)`.
pub async fn meet(
    mut pipe: Pipe<u64, u64>,
    memory: Passed<OwnedFd>,
    bells: Vec<Passed<OwnedFd>>,
    number: usize,
    core: usize,
) -> Result<(), Failure> {
    stay_on(core)?;
    let bells = bells.into_iter().map(|bell| watched(bell.into_inner()?)).collect::<io::Result<_>>()?;
    let party = Party { memory: FutexLocks::map(memory.into_inner()?)?, bells, number };
    while let Some(times) = pipe.recv().await? {
        party.meet(times).await?;
        pipe.send(times).await?;
    }
    Ok(())
}

/// Processes that wait for each other, round by round.
#[derive(Debug)]
pub struct Rounds {
    party: Party,
    pipes: Vec<Pipe<u64, u64>>,
    peer: Peer,
}

impl Rounds {
    /// Starts it, with this process as the first party. The part of each child is [`meet`].
    ///
    /// # Errors
    /// If a child cannot be started.
    pub async fn start(
        parties: usize,
        child: impl Fn(Pipe<u64, u64>, Passed<OwnedFd>, Vec<Passed<OwnedFd>>, usize) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let memory = FutexLocks::new(1)?;
        let new = |_| Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let bells = (0..parties).map(new).collect::<io::Result<Vec<_>>>()?;
        let (mut pipes, mut calls) = (Vec::new(), Vec::new());
        for number in 1..parties {
            let (pipe, theirs) = pipe()?;
            let copies =
                bells.iter().map(|bell| Passed::new(bell.try_clone()?)).collect::<io::Result<_>>()?;
            pipes.push(pipe);
            calls.push(child(theirs, Passed::new(memory.descriptor()?)?, copies, number));
        }
        let peer = Peer::start_all(calls).await?;
        let bells = bells.into_iter().map(watched).collect::<io::Result<_>>()?;
        Ok(Self { party: Party { memory, bells, number: 0 }, pipes, peer })
    }
}

impl Contender for Rounds {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for pipe in &mut self.pipes {
            pipe.send(times).await.map_err(io::Error::other)?;
        }
        self.party.meet(times).await?;
        for pipe in &mut self.pipes {
            same(pipe.recv().await.map_err(io::Error::other)?, times)?;
        }
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}
