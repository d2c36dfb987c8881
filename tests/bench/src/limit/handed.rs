//! The least that memory can cost that is handed to another process as it is: its descriptor by `SCM_RIGHTS`, and `mmap(2)` there.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use memmap2::MmapOptions;
use procession::{Call, Failure, Passed};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{link, rights};
use crate::{Contender, Peer, stay_on};

/// A child's part: it stays on a core, maps each memory that comes, and says so.
///
/// # Errors
/// Those of the socket, and of `mmap(2)`.
pub async fn map_memory(socket: Passed<StdUnixStream>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let mut socket = link::of_tokio(socket.into_inner()?)?;
    while let Some(memory) = rights::receive(&socket).await? {
        drop(MmapOptions::new().map_raw_read_only(&File::from(memory))?);
        socket.write_u8(1).await?;
    }
    Ok(())
}

/// Memory handed over, and one byte back.
#[derive(Debug)]
pub struct HandedMemory {
    socket: UnixStream,
    peer: Peer,
    memory: OwnedFd,
}

impl HandedMemory {
    /// Starts it, with memory of so many bytes. The child's part is [`map_memory`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(
        length: usize,
        child: impl FnOnce(Passed<StdUnixStream>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let memory = memfd_create(c"limit", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, length as u64)?;
        let peer = Peer::start(child(Passed::new(theirs)?)).await?;
        Ok(Self { socket: link::of_tokio(ours)?, peer, memory })
    }
}

impl Contender for HandedMemory {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            rights::send(&self.socket, &self.memory).await?;
            self.socket.read_u8().await?;
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
