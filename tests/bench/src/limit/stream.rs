//! The least that long bodies can cost on a stream: tokio's socket, and a buffer that is used again.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use procession::{Call, Failure, Passed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::link;
use crate::{Contender, Peer, same, stay_on};

/// A child's part: it stays on a core, reads bodies of so many bytes, and says so after each whose first byte is not
/// zero.
///
/// # Errors
/// Those of the socket.
pub async fn read_bodies(socket: Passed<StdUnixStream>, length: usize, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let (mut socket, mut body) = (link::of_tokio(socket.into_inner()?)?, vec![0; length]);
    while super::unless_closed(socket.read_exact(&mut body).await)?.is_some() {
        if body.first() != Some(&0) {
            socket.write_u8(1).await?;
        }
    }
    Ok(())
}

/// Bodies one way.
#[derive(Debug)]
pub struct Streamed {
    socket: UnixStream,
    peer: Peer,
    body: Vec<u8>,
}

impl Streamed {
    /// Starts it, with bodies of so many bytes. The child's part is [`read_bodies`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(
        length: usize,
        child: impl FnOnce(Passed<StdUnixStream>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let peer = Peer::start(child(Passed::new(theirs)?)).await?;
        Ok(Self { socket: link::of_tokio(ours)?, peer, body: vec![0; length] })
    }
}

impl Contender for Streamed {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        self.body[0] = 0;
        for _ in 1..times {
            self.socket.write_all(&self.body).await?;
        }
        self.body[0] = 1;
        self.socket.write_all(&self.body).await?;
        same(Some(self.socket.read_u8().await?.into()), 1)
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}
