//! The least that small messages can cost on a stream: tokio-util's frames with postcard in them, on tokio's socket.
//! Nothing bounds what they decode to.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use procession::{Call, Failure, Passed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::{Contender, Peer, same, stay_on};

type Frames = Framed<UnixStream, LengthDelimitedCodec>;

/// A child's part: it stays on a core, and sends back each number that comes.
///
/// # Errors
/// Those of the socket.
pub async fn echo_frames(socket: Passed<StdUnixStream>, core: usize) -> Result<(), Failure> {
    let mut frames = open(socket, core)?;
    while let Some(n) = receive::<u64>(&mut frames).await? {
        feed(&mut frames, &n).await?;
        flush(&mut frames).await?;
    }
    Ok(())
}

/// A child's part: it stays on a core, takes messages, and after each that is a last one says how many came.
///
/// # Errors
/// Those of the socket.
pub async fn take_frames<T: DeserializeOwned>(
    socket: Passed<StdUnixStream>,
    core: usize,
    is_last: impl Fn(&T) -> bool,
) -> Result<(), Failure> {
    let (mut frames, mut count) = (open(socket, core)?, 0_u64);
    while let Some(message) = receive::<T>(&mut frames).await? {
        count += 1;
        if is_last(&message) {
            feed(&mut frames, &count).await?;
            flush(&mut frames).await?;
            count = 0;
        }
    }
    Ok(())
}

fn open(socket: Passed<StdUnixStream>, core: usize) -> io::Result<Frames> {
    stay_on(core)?;
    super::link::framed(socket.into_inner()?)
}

async fn feed(frames: &mut Frames, message: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    // It writes by itself whenever 8 KiB wait.
    frames.feed(Bytes::from(body)).await
}

async fn flush(frames: &mut Frames) -> io::Result<()> {
    SinkExt::<Bytes>::flush(frames).await
}

async fn receive<T: DeserializeOwned>(frames: &mut Frames) -> io::Result<Option<T>> {
    let Some(frame) = frames.next().await else { return Ok(None) };
    postcard::from_bytes(&frame?).map(Some).map_err(io::Error::other)
}

/// A number there, and the same back.
#[derive(Debug)]
pub struct FramedRoundTrip {
    frames: Frames,
    peer: Peer,
}

impl FramedRoundTrip {
    /// Starts it. The child's part is [`echo_frames`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(
        child: impl FnOnce(Passed<StdUnixStream>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (frames, peer) = start(child).await?;
        Ok(Self { frames, peer })
    }
}

async fn start(
    child: impl FnOnce(Passed<StdUnixStream>) -> Call<Result<(), Failure>>,
) -> io::Result<(Frames, Peer)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let peer = Peer::start(child(Passed::new(theirs)?)).await?;
    Ok((super::link::framed(ours)?, peer))
}

impl Contender for FramedRoundTrip {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for n in 0..times {
            feed(&mut self.frames, &n).await?;
            flush(&mut self.frames).await?;
            same(receive(&mut self.frames).await?, n)?;
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

/// Messages one way, in batches of 8 KiB.
#[derive(Debug)]
pub struct FramedOneWay<T> {
    frames: Frames,
    peer: Peer,
    message: T,
    last: T,
}

impl<T: Serialize> FramedOneWay<T> {
    /// Starts it, with the message, and the one after which the child says how many came. The child's part is
    /// [`take_frames`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(
        message: T,
        last: T,
        child: impl FnOnce(Passed<StdUnixStream>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (frames, peer) = start(child).await?;
        Ok(Self { frames, peer, message, last })
    }
}

impl<T: Serialize> Contender for FramedOneWay<T> {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 1..times {
            feed(&mut self.frames, &self.message).await?;
        }
        feed(&mut self.frames, &self.last).await?;
        flush(&mut self.frames).await?;
        same(receive(&mut self.frames).await?, times)
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}
