//! Messages with handles: the kernel carries them, each in a packet.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_domain, socket_type};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

use super::lives::Role;
use crate::pipe::uninterrupted;
use crate::wire::Parcel;
use crate::wire::handles::{MAX_HANDLES, receive_now, send_now};
use crate::wire::memory::{new_memory, read_at, seals_of, write_at};

/// A side of a pair of sockets that keep packets whole (`SOCK_SEQPACKET` in `unix(7)`): all senders have the one, all receivers the
/// other. What was sent is the kernel's, whoever dies, and each packet goes to one receiver.
#[derive(Debug)]
pub(super) struct Socket {
    handle: Arc<OwnedFd>,
    /// What it can be used for.
    side: Shutdown,
}

/// What came of sending.
#[derive(Debug)]
pub(super) enum Sent {
    Done,
    /// The kernel has no room for it until something is received.
    Full,
    /// It has none for a reason that nobody here can remove.
    Crowded,
    Closed,
    Failed(io::Error),
}

/// What came of receiving.
#[derive(Debug)]
pub(super) enum Came {
    Packet(Ticket, Parcel),
    /// It cannot be read: it is lost.
    Unreadable(Option<Ticket>, io::Error),
    /// Its handles are lost, since this process can have no more descriptors.
    NoDescriptors(Option<Ticket>),
    Empty,
    End,
}

/// For which room a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) slot: u32,
    pub(super) stamp: u64,
}

/// A ticket, and how long the message is, if it stands in a memory, whose handle is the last one.
const HEADER: usize = 24;

/// The most bytes of a message in a packet: a longer one stands in a memory.
const MOST: usize = 32 << 10;

/// How much the kernel is asked to keep, which it may refuse.
const ROOM: usize = 4 << 20;

/// The most handles of a message: one more is the memory of a long one.
pub(super) const MOST_HANDLES: u16 = MAX_HANDLES as u16 - 1;

impl Socket {
    /// The sides of senders and of receivers.
    ///
    /// # Errors
    /// If this process can have no more descriptors.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (sends, receives) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // Where it is not allowed, there is room for fewer messages at a time.
        let _as_much_as_is_allowed = set_socket_send_buffer_size(&sends, ROOM);
        let of = |socket, side| Self { handle: Arc::new(socket), side };
        Ok((of(sends, Shutdown::Write), of(receives, Shutdown::Read)))
    }

    /// # Errors
    /// If what has come is no such socket.
    pub(super) fn of(handle: Arc<OwnedFd>, role: Role) -> io::Result<Self> {
        let side = if role == Role::Receiver { Shutdown::Read } else { Shutdown::Write };
        if socket_domain(&handle)? == AddressFamily::UNIX && socket_type(&handle)? == SocketType::SEQPACKET {
            return Ok(Self { handle, side });
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "a mailbox has not the socket that it should"))
    }

    pub(super) const fn handle(&self) -> &Arc<OwnedFd> {
        &self.handle
    }

    pub(super) fn send(&self, ticket: Ticket, message: &Parcel) -> Sent {
        let memory =
            if message.bytes.len() > MOST { new_memory_of(&message.bytes).map(Some) } else { Ok(None) };
        let memory = match memory {
            Ok(memory) => memory,
            Err(error) => return Sent::Failed(error),
        };
        let length = memory.as_ref().map_or(0, |_| message.bytes.len() as u64);
        let header = [ticket.slot.into(), ticket.stamp, length].map(u64::to_ne_bytes).concat();
        let body = if memory.is_some() { &[] } else { &message.bytes[..] };
        let handles: Vec<_> =
            message.handles.iter().map(AsFd::as_fd).chain(memory.as_ref().map(AsFd::as_fd)).collect();
        let parts = [IoSlice::new(&header), IoSlice::new(body)];
        match retry_on_intr(|| send_now(&self.handle, &parts, &handles)) {
            Ok(_all) => Sent::Done,
            Err(Errno::AGAIN) => Sent::Full,
            Err(Errno::TOOMANYREFS | Errno::NOMEM | Errno::NOBUFS) => Sent::Crowded,
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Sent::Closed,
            Err(error) => Sent::Failed(error.into()),
        }
    }

    /// Receives the next one, if it has at most so many bytes.
    pub(super) fn receive(&self, mut room: Vec<u8>, largest: u64) -> Came {
        room.resize(HEADER + MOST, 0);
        let (count, handles) = match uninterrupted(|| receive_now(&self.handle, &mut room)) {
            Ok((0, _)) => return Came::End,
            Ok(came) => came,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Came::Empty,
            Err(error) => return Came::Unreadable(None, error),
        };
        let Some((ticket, length)) = read_header(&room[..count]) else {
            return Came::Unreadable(None, io::ErrorKind::InvalidData.into());
        };
        let Some(mut handles) = handles else { return Came::NoDescriptors(Some(ticket)) };
        let bytes = if length == 0 {
            room.truncate(count);
            room.drain(..HEADER);
            Ok(room)
        } else {
            let memory = handles.pop().ok_or_else(|| io::ErrorKind::InvalidData.into());
            memory.and_then(|memory| read_memory(&memory, length, largest, room))
        };
        match bytes {
            Ok(bytes) => {
                let handles = handles.into_iter().map(Arc::new).collect();
                Came::Packet(ticket, Parcel { bytes, handles })
            }
            Err(error) => Came::Unreadable(Some(ticket), error),
        }
    }

    /// Has nothing be sent any more, from now on and by anybody. What was sent can be received.
    pub(super) fn close(&self) {
        // It may be closed already.
        let _closed = shutdown(&self.handle, self.side);
    }
}

fn read_header(packet: &[u8]) -> Option<(Ticket, u64)> {
    let (header, _) = packet.split_at_checked(HEADER)?;
    let (words, _) = header.as_chunks::<8>();
    let [slot, stamp, length] = words else { return None };
    let slot = u32::try_from(u64::from_ne_bytes(*slot)).ok()?;
    Some((Ticket { slot, stamp: u64::from_ne_bytes(*stamp) }, u64::from_ne_bytes(*length)))
}

fn new_memory_of(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = new_memory(c"procession-message")?;
    write_at(&memory, 0, bytes)?;
    Ok(memory)
}

fn read_memory(memory: &OwnedFd, length: u64, largest: u64, mut room: Vec<u8>) -> io::Result<Vec<u8>> {
    seals_of(memory)?;
    let length =
        usize::try_from(length).ok().filter(|_| length <= largest).ok_or(io::ErrorKind::InvalidData)?;
    read_at(memory, 0, length, &mut room)?;
    room.truncate(length);
    Ok(room)
}
