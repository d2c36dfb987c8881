//! Our locks, events, barriers and blobs, as contenders.

use std::io;

use procession::shared::{Barrier, Blob, Event, Mutex};
use procession::{Failure, Pipe, pipe, process};
use procession_bench::{Contender, Peer, same, stay_on};

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

/// Counts up so many times.
pub(super) async fn count(lock: &Mutex<u64>, times: u64) {
    for _ in 0..times {
        *lock.lock().await.expect("nobody dies") += 1;
    }
}

#[process]
async fn counts(mut pipe: Pipe<u64, u64>, lock: Mutex<u64>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(times) = pipe.recv().await? {
        count(&lock, times).await;
        pipe.send(times).await?;
    }
    Ok(())
}

/// Two processes that count up the same number.
#[derive(Debug)]
pub(super) struct Counts {
    lock: Mutex<u64>,
    pipe: Pipe<u64, u64>,
    peer: Peer,
}

impl Counts {
    pub(super) async fn start(core: usize) -> io::Result<Self> {
        let (lock, (pipe, theirs)) = (Mutex::new(0)?, pipe()?);
        let peer = Peer::start(counts(theirs, lock.clone(), core)).await?;
        Ok(Self { lock, pipe, peer })
    }
}

impl Contender for Counts {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        self.pipe.send(times).await.map_err(other)?;
        count(&self.lock, times).await;
        same(self.pipe.recv().await.map_err(other)?, times)
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}

#[process]
async fn answers(asked: Event, answered: Event, last: Event, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    loop {
        asked.wait().await;
        asked.clear();
        answered.set();
        if last.is_set() {
            return Ok(());
        }
    }
}

/// Two processes that wake each other.
#[derive(Debug)]
pub(super) struct Events {
    asked: Event,
    answered: Event,
    last: Event,
    peer: Peer,
}

impl Events {
    pub(super) async fn start(core: usize) -> io::Result<Self> {
        let (asked, answered, last) = (Event::new()?, Event::new()?, Event::new()?);
        let child = answers(asked.clone(), answered.clone(), last.clone(), core);
        let peer = Peer::start(child).await?;
        Ok(Self { asked, answered, last, peer })
    }
}

impl Contender for Events {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            self.asked.set();
            self.answered.wait().await;
            self.answered.clear();
        }
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.last.set();
        self.asked.set();
        self.peer
    }
}

#[process]
async fn meets(mut pipe: Pipe<u64, u64>, barrier: Barrier, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(times) = pipe.recv().await? {
        for _ in 0..times {
            barrier.wait().await?;
        }
        pipe.send(times).await?;
    }
    Ok(())
}

/// Processes that wait for each other, round by round.
#[derive(Debug)]
pub(super) struct Rounds {
    barrier: Barrier,
    pipes: Vec<Pipe<u64, u64>>,
    peer: Peer,
}

impl Rounds {
    /// This process is the first party, and each of the others is on a core by its number.
    pub(super) async fn start(parties: usize, core: impl Fn(usize) -> usize) -> io::Result<Self> {
        let (barrier, mut pipes, mut calls) = (Barrier::new(parties).map_err(other)?, Vec::new(), Vec::new());
        for number in 1..parties {
            let (pipe, theirs) = pipe()?;
            pipes.push(pipe);
            calls.push(meets(theirs, barrier.clone(), core(number)));
        }
        Ok(Self { barrier, pipes, peer: Peer::start_all(calls).await? })
    }
}

impl Contender for Rounds {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for pipe in &mut self.pipes {
            pipe.send(times).await.map_err(other)?;
        }
        for _ in 0..times {
            self.barrier.wait().await.map_err(other)?;
        }
        for pipe in &mut self.pipes {
            same(pipe.recv().await.map_err(other)?, times)?;
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

#[process]
async fn read_blobs(mut pipe: Pipe<usize, Blob>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(blob) = pipe.recv().await? {
        pipe.send(blob.len()).await?;
    }
    Ok(())
}

/// A blob handed over, and its length back.
#[derive(Debug)]
pub(super) struct Blobs {
    pipe: Pipe<Blob, usize>,
    peer: Peer,
    blob: Blob,
}

impl Blobs {
    pub(super) async fn start(blob: Blob, core: usize) -> io::Result<Self> {
        let (pipe, theirs) = pipe()?;
        Ok(Self { pipe, peer: Peer::start(read_blobs(theirs, core)).await?, blob })
    }
}

impl Contender for Blobs {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            self.pipe.send(self.blob.clone()).await.map_err(|error| other(error.to_string()))?;
            same(self.pipe.recv().await.map_err(other)?, self.blob.len())?;
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
