//! The parent's end of a link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};

use crate::sys;

/// A socket that wakes its reader, and no writer: each time that a child reads, a socket that is also watched for room
/// would wake its parent, which has nothing more to say.
#[derive(Debug)]
pub(crate) struct Connection(AsyncFd<Arc<OwnedFd>>);

impl Connection {
    /// Watches a socket, which must not block.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        Ok(Self(sys::watch(Arc::new(socket.into()))?))
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
        self.0.async_io(Interest::READABLE, |socket| read(socket.as_fd())).await
    }

    /// Tells the other end that nothing more will be said.
    pub(crate) fn say_no_more(&self) {
        // An error means that the other end is gone.
        let _ = rustix::net::shutdown(self.0.get_ref(), rustix::net::Shutdown::Write);
    }

    /// Reads what is there, without waiting.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub(crate) fn read_now(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0.get_ref(), bytes)?)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Those of `sendto(2)`.
    ///
    /// # Cancel safety
    /// Not safe: how much was written is lost.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        // Watched for room once there is none; an epoll takes a descriptor once, so that it is another.
        let mut room = None;
        while !bytes.is_empty() {
            match rustix::net::send(self.0.get_ref(), bytes, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if room.is_none() {
                        let copy = Arc::new(self.0.get_ref().try_clone()?);
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
        self.0.as_fd()
    }
}

impl AsyncRead for &Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match guard.try_io(|socket| Ok(rustix::io::read(socket.get_ref(), &mut *room)?)) {
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
