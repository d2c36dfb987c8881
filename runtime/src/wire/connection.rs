//! The parent's end of a link.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::time::sleep;

use super::handles::{self, MAX_HANDLES};
use crate::sys;

/// A socket that wakes its reader, and no writer: each time that a child reads, a socket that is also watched for room
/// would wake its parent, which has nothing more to say.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: AsyncFd<Arc<OwnedFd>>,
    beside: Mutex<Beside>,
}

/// The descriptors that have come.
#[derive(Debug, Default)]
struct Beside {
    handles: Vec<Arc<OwnedFd>>,
    /// How many may.
    most: usize,
    /// Whether the kernel has dropped some: this process could have no more.
    is_cut: bool,
}

/// What came beside a frame.
#[derive(Debug)]
pub(crate) enum Came {
    All(Vec<Arc<OwnedFd>>),
    /// Other descriptors than were announced.
    Others {
        came: usize,
    },
    /// Fewer than were sent: this process could have no more.
    Cut,
}

impl Connection {
    /// Watches a socket, which must not block.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        Ok(Self { socket: sys::watch(Arc::new(socket.into()))?, beside: Mutex::default() })
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(self.socket.get_ref())
    }

    /// Waits until there may be something to read, or the other end is gone.
    ///
    /// # Cancel safety
    /// Safe: nothing is read.
    pub(crate) async fn readable(&self) {
        // An error means that the runtime ends, and whoever waits with it.
        while let Ok(mut guard) = self.socket.readable().await {
            if sys::is_readable(self.socket.as_fd()) {
                return;
            }
            // It was, until somebody has read.
            guard.clear_ready();
        }
    }

    /// Reads, by a call that can give more than bytes.
    ///
    /// # Errors
    /// Those of the call.
    ///
    /// # Cancel safety
    /// Safe: nothing was read if this is dropped.
    pub(crate) async fn read_by<T>(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.socket.async_io(Interest::READABLE, |socket| read(socket.as_fd())).await
    }

    /// Tells the other end that nothing more will be said.
    pub(crate) fn say_no_more(&self) {
        // An error means that the other end is gone.
        let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Write);
    }

    /// Lets so many descriptors come; without this, none may.
    pub(crate) fn allow_handles(&self, most: u16) {
        self.beside().most = usize::from(most);
    }

    /// Gives the descriptors that have come, to a frame that says how many they are.
    pub(crate) fn take_handles(&self, announced: u16) -> Came {
        let Beside { handles, is_cut, .. } = std::mem::take(&mut *self.beside());
        match handles.len() {
            _ if is_cut => Came::Cut,
            came if came == usize::from(announced) => Came::All(handles),
            came => Came::Others { came },
        }
    }

    fn beside(&self) -> std::sync::MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is there, without waiting, and keeps what comes beside it.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`; `InvalidData` if more descriptors have come than may.
    pub(crate) fn read_now(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let (count, handles) = handles::receive_now(self.socket.get_ref(), bytes)?;
        if handles.as_ref().is_some_and(Vec::is_empty) {
            return Ok(count);
        }
        let mut beside = self.beside();
        beside.is_cut |= handles.is_none();
        beside.handles.extend(handles.into_iter().flatten().map(Arc::new));
        if beside.handles.len() > beside.most {
            beside.handles.clear();
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors came than may"));
        }
        Ok(count)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Those of `sendto(2)`.
    ///
    /// # Cancel safety
    /// Not safe: how much was written is lost.
    pub(crate) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_beside(bytes, &[]).await
    }

    /// Writes all of it, and descriptors beside its first bytes, of which there are enough.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`.
    ///
    /// # Cancel safety
    /// Not safe: how much was written is lost.
    pub(crate) async fn write_beside(&self, mut bytes: &[u8], handles: &[Arc<OwnedFd>]) -> io::Result<()> {
        let mut turns = handles.chunks(MAX_HANDLES).peekable();
        // Watched for room once there is none; an epoll takes a descriptor once, so that it is another.
        let mut room = None;
        while !bytes.is_empty() {
            let beside: Vec<_> = turns.peek().into_iter().copied().flatten().map(AsFd::as_fd).collect();
            // Each byte takes as many as there may be.
            let length = if turns.len() > 1 { 1 } else { bytes.len() };
            match handles::send_now(self.socket.get_ref(), &[IoSlice::new(&bytes[..length])], &beside) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    turns.next();
                }
                // What the kernel is short of comes back: descriptors in flight, memory.
                Err(Errno::TOOMANYREFS | Errno::NOMEM | Errno::NOBUFS) => sleep(handles::CROWDED).await,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if room.is_none() {
                        let copy = Arc::new(self.socket.get_ref().try_clone()?);
                        room = Some(sys::watch_for(copy, Interest::WRITABLE)?);
                    }
                    if let Some(room) = &room {
                        room.writable().await?.clear_ready();
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for &Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match guard.try_io(|_| self.read_now(&mut *room)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn more_than_a_socket_takes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (ours, theirs) = (Connection::new(ours).unwrap(), Connection::new(theirs).unwrap());
        let sent: Vec<u8> = (0..4_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
        let (mut received, bytes) = (Vec::new(), sent.clone());
        let write = async move {
            ours.write_all(&bytes).await.unwrap();
        };
        let mut reader = &theirs;
        let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
        assert_eq!(read.unwrap(), sent.len());
        assert!(received == sent, "other bytes");
    }

    #[tokio::test]
    async fn a_closed_end_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let ours = Connection::new(ours).unwrap();
        assert_eq!(ours.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(ours.read_now(&mut [0]).unwrap(), 0);
    }
}
