//! The least that it can cost to wake a task of another process: an eventfd, and tokio's `AsyncFd`.
#![expect(unsafe_code, reason = "tokio asks whether a descriptor stays open")]

use std::io;
use std::os::fd::OwnedFd;

use procession::{Call, Failure, Passed};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Contender, Peer, stay_on};

/// A descriptor, in the current runtime.
///
/// # Errors
/// If the runtime has no room for it.
pub fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it is open as long as its `OwnedFd` is there, and gives the same number all the time.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(Into::into)
}

pub(super) fn ring(descriptor: &AsyncFd<OwnedFd>) -> io::Result<()> {
    write(descriptor.get_ref(), &1_u64.to_ne_bytes())?;
    Ok(())
}

/// Waits until it is rung; gives how often.
pub(super) async fn rung(descriptor: &AsyncFd<OwnedFd>) -> io::Result<u64> {
    let mut count = [0; 8];
    descriptor.async_io(Interest::READABLE, |descriptor| Ok(read(descriptor, &mut count)?)).await?;
    Ok(u64::from_ne_bytes(count))
}

/// A child's part: it stays on a core, and rings the second each time that the first is rung; twice at once is the end.
///
/// # Errors
/// Those of the descriptors.
pub async fn answer_rings(
    ours: Passed<OwnedFd>,
    theirs: Passed<OwnedFd>,
    core: usize,
) -> Result<(), Failure> {
    stay_on(core)?;
    let (ours, theirs) = (watched(ours.into_inner()?)?, watched(theirs.into_inner()?)?);
    while rung(&ours).await? == 1 {
        ring(&theirs)?;
    }
    Ok(())
}

/// Two processes that wake each other.
#[derive(Debug)]
pub struct Rings {
    theirs: AsyncFd<OwnedFd>,
    ours: AsyncFd<OwnedFd>,
    peer: Peer,
}

impl Rings {
    /// Starts it. The child's part is [`answer_rings`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(
        child: impl FnOnce(Passed<OwnedFd>, Passed<OwnedFd>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let new = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let (theirs, ours) = (new()?, new()?);
        let [first, second] = [Passed::new(theirs.try_clone()?)?, Passed::new(ours.try_clone()?)?];
        let peer = Peer::start(child(first, second)).await?;
        Ok(Self { theirs: watched(theirs)?, ours: watched(ours)?, peer })
    }
}

impl Contender for Rings {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            ring(&self.theirs)?;
            rung(&self.ours).await?;
        }
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        // An error means that the child has ended already.
        let _ = write(self.theirs.get_ref(), &2_u64.to_ne_bytes());
        self.peer
    }
}
