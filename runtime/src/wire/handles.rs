//! Descriptors beside bytes, on a socket: `SCM_RIGHTS`, see `unix(7)`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors that the kernel takes with one message: `SCM_MAX_FD`.
pub(crate) const MAX_HANDLES: usize = 253;

/// How long to wait for what the kernel is short of: descriptors in flight, or memory.
pub(crate) const CROWDED: Duration = Duration::from_millis(10);

/// Whether the error means that the kernel has too many descriptors in flight for this user.
pub(crate) fn is_crowded(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETOOMANYREFS)
}

/// Sends bytes, and descriptors beside the first of them; gives how many bytes were sent.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], handles: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fit = handles.len() <= MAX_HANDLES;
    if !fit || !(handles.is_empty() || beside.push(SendAncillaryMessage::ScmRights(handles))) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// Sends bytes, and descriptors beside the first of them, if that takes no waiting; gives how many bytes were sent.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub(crate) fn send_now(
    socket: impl AsFd,
    bytes: &[IoSlice<'_>],
    handles: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    send_by(socket, bytes, handles, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

/// The same, waiting where the socket does.
///
/// # Errors
/// Those of `sendmsg(2)`.
pub(crate) fn send_parts(
    socket: impl AsFd,
    bytes: &[IoSlice<'_>],
    handles: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    send_by(socket, bytes, handles, SendFlags::NOSIGNAL)
}

fn send_by(
    socket: impl AsFd,
    bytes: &[IoSlice<'_>],
    handles: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    if handles.is_empty() {
        return sendmsg(socket, bytes, &mut SendAncillaryBuffer::default(), flags);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !beside.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(rustix::io::Errno::INVAL);
    }
    sendmsg(socket, bytes, &mut beside, flags)
}

/// Receives bytes, and the descriptors beside them; gives how many bytes came.
///
/// # Errors
/// Those of `recvmsg(2)`; `EMFILE` if the kernel has dropped descriptors because this process can have no more.
pub(crate) fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    match receive_all_or_none(socket, bytes)? {
        (length, Some(handles)) => Ok((length, handles)),
        (_, None) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}

/// As [`receive`]; `None` in place of the descriptors if the kernel has dropped some because this process can have no more.
///
/// # Errors
/// Those of `recvmsg(2)`.
pub(crate) fn receive_all_or_none(
    socket: impl AsFd,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<Vec<OwnedFd>>)> {
    receive_by(socket, bytes, RecvFlags::empty())
}

/// The same, if that takes no waiting.
///
/// # Errors
/// Those of `recvmsg(2)`.
pub(crate) fn receive_now(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Option<Vec<OwnedFd>>)> {
    receive_by(socket, bytes, RecvFlags::DONTWAIT)
}

fn receive_by(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Option<Vec<OwnedFd>>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDLES))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | flags;
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut beside, flags)?;
    let mut handles = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            handles.extend(rights);
        }
    }
    let are_all = !received.flags.contains(ReturnFlags::CTRUNC);
    Ok((received.bytes, are_all.then_some(handles)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_come_with_their_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        assert_eq!(send(&ours, b"ab", &[writer.as_fd(), writer.as_fd()]).unwrap(), 2);
        drop(writer);
        let mut bytes = [0; 1];
        let (count, handles) = receive(&theirs, &mut bytes).unwrap();
        assert_eq!((count, &bytes, handles.len()), (1, b"a", 2));
        let (count, none) = receive(&theirs, &mut bytes).unwrap();
        assert_eq!((count, &bytes, none.len()), (1, b"b", 0));
        drop(handles);
        assert_eq!(reader.read(&mut bytes).unwrap(), 0);
    }

    #[test]
    fn too_many_are_refused() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = send(&ours, b"a", &[ours.as_fd(); MAX_HANDLES + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
