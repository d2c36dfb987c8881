//! The least that a descriptor can cost that goes to another process and comes back: `sendmsg(2)` and `recvmsg(2)` on
//! tokio's socket, with one byte.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use procession::{Call, Failure, Passed};
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::link;
use crate::{Contender, Peer, stay_on};

/// A child's part: it stays on a core, and sends back each descriptor that comes.
///
/// # Errors
/// Those of the socket.
pub async fn echo_rights(socket: Passed<StdUnixStream>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    let socket = link::of_tokio(socket.into_inner()?)?;
    while let Some(descriptor) = receive(&socket).await? {
        send(&socket, descriptor).await?;
    }
    Ok(())
}

pub(super) async fn send(socket: &UnixStream, descriptor: impl AsFd) -> io::Result<()> {
    socket.async_io(Interest::WRITABLE, || send_now(socket.as_fd(), descriptor.as_fd())).await
}

fn send_now(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[1])], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

pub(super) async fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    socket.async_io(Interest::READABLE, || receive_now(socket.as_fd())).await
}

fn receive_now(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut beside, flags)?;
    let mut messages = beside.drain();
    Ok(messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// A descriptor there, and back.
#[derive(Debug)]
pub struct Rights {
    socket: UnixStream,
    peer: Peer,
    /// `None` while it is under way.
    descriptor: Option<OwnedFd>,
}

impl Rights {
    /// Starts it. The child's part is [`echo_rights`].
    ///
    /// # Errors
    /// If the child cannot be started.
    pub async fn start(
        descriptor: OwnedFd,
        child: impl FnOnce(Passed<StdUnixStream>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let peer = Peer::start(child(Passed::new(theirs)?)).await?;
        Ok(Self { socket: link::of_tokio(ours)?, peer, descriptor: Some(descriptor) })
    }
}

impl Contender for Rights {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            send(&self.socket, self.descriptor.take().ok_or(io::ErrorKind::NotFound)?).await?;
            self.descriptor = receive(&self.socket).await?;
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
