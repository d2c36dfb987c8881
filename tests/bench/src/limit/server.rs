//! The least that a start by `fork(2)` can cost, where the process that wants a child may have threads: a server that
//! is asked for children, and a runtime on both sides. The parent's side of it.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram as StdUnixDatagram, UnixStream as StdUnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::process::{Child as ServerProcess, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Answers;
use super::link::{self, Link};
use super::message::{Ended, Order, receive_ended, send_order};

/// The argument that makes this program the server.
pub(super) const MARKER: &str = "--server-of-the-limit";

/// Its packets come in order, and there is an end to them: what tokio calls a datagram's socket is one of either kind.
type Socket = Arc<UnixDatagram>;

/// Who waits for which end.
type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Ended>>>>;

/// A fork server.
#[derive(Debug)]
pub struct Server {
    process: ServerProcess,
    socket: Socket,
    waiting: Waiting,
    next_id: AtomicU32,
    reader: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Starts one. Needs a runtime.
    ///
    /// # Errors
    /// Those of `socketpair(2)`, `clone(2)` and `execve(2)`.
    pub fn start() -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let ours = StdUnixDatagram::from(ours);
        ours.set_nonblocking(true)?;
        let process = Command::new("/proc/self/exe").arg(MARKER).stdin(Stdio::from(theirs)).spawn()?;
        let (socket, waiting) = (Arc::new(UnixDatagram::from_std(ours)?), Waiting::default());
        let reader = tokio::spawn(read_ends(Arc::clone(&socket), Arc::clone(&waiting)));
        Ok(Self { process, socket, waiting, next_id: AtomicU32::new(0), reader })
    }

    /// A start, a number in, its square out, the exit seen. Any number of them can be under way.
    ///
    /// # Errors
    /// If any of it fails.
    pub async fn square(&self, n: u64) -> io::Result<u64> {
        let (mut link, ended) = self.order(Answers::One).await?;
        let square = link::ask(&mut link, n).await?;
        drop(link);
        super::checked(end(ended).await?.1)?;
        Ok(square)
    }

    /// A child that waits.
    ///
    /// # Errors
    /// If any of starting it fails.
    pub async fn child(&self) -> io::Result<Forked> {
        let (mut link, ended) = self.order(Answers::Many).await?;
        let pid = u32::try_from(link::receive(&mut link).await?).map_err(io::Error::other)?;
        Ok(Forked { pid, link, ended })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it has failed.
    pub async fn end(mut self) -> io::Result<()> {
        shutdown(&self.socket, Shutdown::Write)?;
        self.reader.await.map_err(io::Error::other)??;
        super::checked(self.process.wait().await?)
    }

    async fn order(&self, answers: Answers) -> io::Result<(Link, oneshot::Receiver<Ended>)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let (tell, ended) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tell);
        let order = Order { id, answers };
        self.socket.async_io(Interest::WRITABLE, || send_order(&self.socket, &order, theirs.as_fd())).await?;
        Ok((link::framed(ours)?, ended))
    }
}

/// A child that the server has forked, and that waits for numbers.
#[derive(Debug)]
pub struct Forked {
    pid: u32,
    link: Link,
    ended: oneshot::Receiver<Ended>,
}

impl Forked {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives it a number, and gives its square.
    ///
    /// # Errors
    /// If it has ended, or says something else.
    pub async fn ask(&mut self, n: u64) -> io::Result<u64> {
        link::ask(&mut self.link, n).await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If the server has gone, or tells of another child.
    pub async fn wait(self) -> io::Result<ExitStatus> {
        drop(self.link);
        match end(self.ended).await? {
            (pid, status) if pid == self.pid => Ok(status),
            (pid, _) => Err(io::Error::other(format!("{} should have ended, not {pid}", self.pid))),
        }
    }
}

/// Who has ended, and how.
async fn end(ended: oneshot::Receiver<Ended>) -> io::Result<(u32, ExitStatus)> {
    let Ended { pid, status, .. } = ended.await.map_err(io::Error::other)?;
    Ok((pid.unsigned_abs(), ExitStatus::from_raw(status)))
}

/// Tells ends to whoever waits for them, until the server has gone; then, that none will come.
async fn read_ends(socket: Socket, waiting: Waiting) -> io::Result<()> {
    let last = loop {
        match socket.async_io(Interest::READABLE, || receive_ended(&socket)).await {
            Ok(Some(ended)) => tell(&waiting, ended),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    last
}

fn tell(waiting: &Waiting, ended: Ended) {
    let waits = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ended.id);
    // Who has stopped waiting needs no answer.
    let _ = waits.map(|waits| waits.send(ended));
}
