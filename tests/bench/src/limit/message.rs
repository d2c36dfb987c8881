//! What a process and its fork server say to each other: packets, so that each is whole.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, send, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::Answers;

/// No message is longer: three numbers of five bytes each.
const LONGEST: usize = 15;

/// To the server: a child is wanted. Its end of a link comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// By which the end is told.
    pub(super) id: u32,
    pub(super) answers: Answers,
}

/// From the server: a child has ended, and is reaped.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) id: u32,
    pub(super) pid: i32,
    /// As `waitpid(2)` gives it.
    pub(super) status: i32,
}

pub(super) fn send_order(server: impl AsFd, order: &Order, link: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [link];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let mut bytes = [0; LONGEST];
    let bytes = postcard::to_slice(order, &mut bytes).map_err(io::Error::other)?;
    sendmsg(server, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `None` when the other side has gone.
pub(super) fn receive_order(parent: impl AsFd) -> io::Result<Option<(Order, OwnedFd)>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; LONGEST];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(parent, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let order = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
    let link = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(Some((order, link.ok_or(io::ErrorKind::InvalidData)?)))
}

pub(super) fn send_ended(parent: impl AsFd, ended: &Ended) -> io::Result<()> {
    let mut bytes = [0; LONGEST];
    let bytes = postcard::to_slice(ended, &mut bytes).map_err(io::Error::other)?;
    send(parent, bytes, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `None` when the server has gone.
pub(super) fn receive_ended(server: impl AsFd) -> io::Result<Option<Ended>> {
    let mut bytes = [0; LONGEST];
    let (length, _) = recv(server, &mut bytes, RecvFlags::empty())?;
    if length == 0 { Ok(None) } else { postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other) }
}
