//! The least that long bodies can cost at all: two slabs of memory that both processes keep mapped. One side fills one
//! while the other empties the other, into a buffer that is used again, and a byte on tokio's socket hands a slab
//! over. A peer that cuts a slab short would end the process: nothing guards it.
#![expect(unsafe_code, reason = "memory that another process has, too, is no slice")]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use memmap2::{MmapOptions, MmapRaw};
use procession::{Call, Failure, Passed};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::link;
use crate::{Contender, Peer, stay_on};

/// What the child has: the slabs, and where they are handed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct SharedSlabs {
    slabs: [Passed<OwnedFd>; 2],
    socket: Passed<StdUnixStream>,
    length: usize,
}

/// Memory that both have mapped.
#[derive(Debug)]
struct Slab(MmapRaw);

impl Slab {
    fn new(memory: OwnedFd, length: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(length).populate().map_raw(&File::from(memory))?))
    }

    fn fill(&self, from: &[u8]) {
        assert!(from.len() <= self.0.len());
        // SAFETY: the mapping has as many bytes, and the other process reads none of them before it is told to.
        unsafe { from.as_ptr().copy_to_nonoverlapping(self.0.as_mut_ptr(), from.len()) }
    }

    fn empty(&self, into: &mut [u8]) {
        assert!(into.len() <= self.0.len());
        // SAFETY: the mapping has as many bytes, and the other process writes none of them before it is told to.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(self.0.as_ptr(), into.len()) }
    }
}

/// A child's part: it stays on a core, empties slabs in turns, and hands each back.
///
/// # Errors
/// Those of the socket, and of `mmap(2)`.
pub async fn empty_slabs(shared: SharedSlabs, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let SharedSlabs { slabs: [one, other], socket, length } = shared;
    let slabs = [Slab::new(one.into_inner()?, length)?, Slab::new(other.into_inner()?, length)?];
    let (mut socket, mut body) = (link::of_tokio(socket.into_inner()?)?, vec![0; length]);
    for slab in slabs.iter().cycle() {
        let Some(turn) = super::unless_closed(socket.read_u8().await)? else { break };
        slab.empty(&mut body);
        socket.write_u8(turn).await?;
    }
    Ok(())
}

/// Bodies one way.
#[derive(Debug)]
pub struct Slabs {
    slabs: [Slab; 2],
    socket: UnixStream,
    peer: Peer,
    body: Vec<u8>,
    /// How many bodies went so far.
    turn: usize,
}

impl Slabs {
    /// Starts it, with bodies of so many bytes. The child's part is [`empty_slabs`].
    ///
    /// # Errors
    /// If the child cannot be started, or the system has no memory for the slabs.
    pub async fn start(
        length: usize,
        child: impl FnOnce(SharedSlabs) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let memory = [memory(length)?, memory(length)?];
        let [one, other] = &memory;
        let slabs = [Passed::new(one.try_clone()?)?, Passed::new(other.try_clone()?)?];
        let peer = Peer::start(child(SharedSlabs { slabs, socket: Passed::new(theirs)?, length })).await?;
        let [one, other] = memory;
        let slabs = [Slab::new(one, length)?, Slab::new(other, length)?];
        Ok(Self { slabs, socket: link::of_tokio(ours)?, peer, body: vec![1; length], turn: 0 })
    }
}

fn memory(length: usize) -> io::Result<OwnedFd> {
    let memory = memfd_create(c"limit", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, length as u64)?;
    Ok(memory)
}

impl Contender for Slabs {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        let mut waits = 0;
        for _ in 0..times {
            if waits == self.slabs.len() {
                self.socket.read_u8().await?;
                waits -= 1;
            }
            self.slabs[self.turn % self.slabs.len()].fill(&self.body);
            self.socket.write_u8(0).await?;
            self.turn += 1;
            waits += 1;
        }
        for _ in 0..waits {
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
