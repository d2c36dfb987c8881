//! Our pipes, as contenders.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use procession::pipe::{SendError, pipe_with};
use procession::{Call, Failure, Limits, Message, Passed, Pipe, process};
use procession_bench::{Contender, Peer, same, stay_on};

/// Room for the longest body.
const LIMITS: Limits = Limits::DEFAULT.max_message(1 << 30);

/// What was not sent need not be one that a thread may have.
fn unsent<T>(error: SendError<T>) -> io::Error {
    other(error.to_string())
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

#[process]
async fn echo(mut pipe: Pipe<u64, u64>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(n) = pipe.recv().await? {
        pipe.send(n).await?;
    }
    Ok(())
}

#[process]
async fn echo_handles(mut pipe: Pipe<Passed<OwnedFd>, Passed<OwnedFd>>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(handle) = pipe.recv().await? {
        pipe.send(handle).await?;
    }
    Ok(())
}

/// A number there, and the same back.
#[derive(Debug)]
pub(super) struct RoundTrip {
    pipe: Pipe<u64, u64>,
    peer: Peer,
}

impl RoundTrip {
    pub(super) async fn start(core: usize) -> io::Result<Self> {
        let (pipe, theirs) = pipe_with(LIMITS)?;
        Ok(Self { pipe, peer: Peer::start(echo(theirs, core)).await? })
    }
}

impl Contender for RoundTrip {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for n in 0..times {
            self.pipe.send(n).await.map_err(other)?;
            same(self.pipe.recv().await.map_err(other)?, n)?;
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

/// A handle there, and the same back.
#[derive(Debug)]
pub(super) struct Handles {
    pipe: Pipe<Passed<OwnedFd>, Passed<OwnedFd>>,
    peer: Peer,
    /// `None` while it is under way.
    handle: Option<Passed<OwnedFd>>,
}

impl Handles {
    pub(super) async fn start(handle: OwnedFd, core: usize) -> io::Result<Self> {
        let (pipe, theirs) = pipe_with(LIMITS)?;
        let peer = Peer::start(echo_handles(theirs, core)).await?;
        Ok(Self { pipe, peer, handle: Some(Passed::new(handle)?) })
    }
}

impl Contender for Handles {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            let handle = self.handle.take().ok_or(io::ErrorKind::NotFound)?;
            self.pipe.send(handle).await.map_err(unsent)?;
            self.handle = self.pipe.recv().await.map_err(other)?;
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

/// Takes messages, and after each that is a last one says how many came: the child's part of [`OneWay`].
pub(super) async fn take<T: Message>(
    mut pipe: Pipe<u64, T>,
    core: usize,
    is_last: impl Fn(&T) -> bool,
) -> Result<(), Failure> {
    stay_on(core)?;
    let mut count = 0;
    while let Some(message) = pipe.recv().await? {
        count += 1;
        if is_last(&message) {
            pipe.send(std::mem::take(&mut count)).await?;
        }
    }
    Ok(())
}

/// Messages one way.
#[derive(Debug)]
pub(super) struct OneWay<T> {
    pipe: Pipe<T, u64>,
    peer: Peer,
    message: T,
    last: T,
}

impl<T: Message + Clone> OneWay<T> {
    pub(super) async fn start(
        message: T,
        last: T,
        child: impl FnOnce(Pipe<u64, T>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (pipe, theirs) = pipe_with(LIMITS)?;
        let peer = Peer::start(child(theirs).limits(LIMITS)).await?;
        Ok(Self { pipe, peer, message, last })
    }
}

impl<T: Message + Clone> Contender for OneWay<T> {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 1..times {
            self.pipe.send(self.message.clone()).await.map_err(unsent)?;
        }
        self.pipe.send(self.last.clone()).await.map_err(unsent)?;
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
async fn take_bodies(pipe: Pipe<u64, Bytes>, core: usize) -> Result<(), Failure> {
    take(pipe, core, |body| body.first() == Some(&1)).await
}

#[process]
async fn take_raw(mut pipe: Pipe<u64, ()>, length: usize, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let (mut body, mut count) = (vec![0; length], 0);
    while pipe.recv_bytes_into(&mut body).await?.is_some() {
        count += 1;
        if body.first() == Some(&1) {
            pipe.send(std::mem::take(&mut count)).await?;
        }
    }
    Ok(())
}

fn body(length: usize, first: u8) -> Bytes {
    let mut body = vec![0; length];
    body[0] = first;
    body.into()
}

/// Bodies of so many bytes one way, as messages: each comes in memory of its own.
pub(super) async fn bodies(length: usize, core: usize) -> io::Result<OneWay<Bytes>> {
    OneWay::start(body(length, 0), body(length, 1), |pipe| take_bodies(pipe, core)).await
}

/// Bodies of so many bytes one way, as they are, into a buffer that is used again.
#[derive(Debug)]
pub(super) struct Raw {
    pipe: Pipe<(), u64>,
    peer: Peer,
    body: Bytes,
    last: Bytes,
}

impl Raw {
    pub(super) async fn start(length: usize, core: usize) -> io::Result<Self> {
        let (pipe, theirs) = pipe_with(LIMITS)?;
        let peer = Peer::start(take_raw(theirs, length, core).limits(LIMITS)).await?;
        Ok(Self { pipe, peer, body: body(length, 0), last: body(length, 1) })
    }
}

impl Contender for Raw {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 1..times {
            self.pipe.send_bytes(&self.body).await.map_err(other)?;
        }
        self.pipe.send_bytes(&self.last).await.map_err(other)?;
        same(self.pipe.recv().await.map_err(other)?, times)
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}
