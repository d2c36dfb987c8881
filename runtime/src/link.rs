//! A child's end of the link to its parent.
//!
//! The child writes little and rarely, and its function may keep every thread busy: it writes blocking, from
//! whichever thread has something to say.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{DupFlags, Errno};
use rustix::process::{PidfdFlags, getpgrp, getpid, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Cause, Stage};
use crate::fork_server::Inherited;
use crate::image::Identity;
use crate::plan::StartMethod;
use crate::surroundings::Settings;
use crate::sys;
use crate::wire::frame::{FrameError, Kind, Told, header, header_with, read_frame_with};
use crate::wire::handles::{self, MAX_HANDLES};
use crate::wire::{DecodeError, EncodeError, Limits, Packet};

/// By what a child knows that it is of the same build as its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) image: Identity,
    /// The entry's place and signature, in words: they must be those of what stands at its distance.
    pub(crate) place: String,
    pub(crate) signature: String,
}

/// What a parent tells its child first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    /// The entry's distance from the anchor.
    pub(crate) entry: i64,
    /// For a child that was started by exec. One that a server has forked is a copy of what was checked.
    pub(crate) program: Option<Program>,
    pub(crate) name: String,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
    pub(crate) depth: u32,
    pub(crate) limits: Limits,
    /// Whether it is to say when its function starts: a word that costs both a wake-up.
    pub(crate) is_timed: bool,
    /// Whether its end has time when its value was told: nobody waits for that.
    pub(crate) lingers: bool,
    pub(crate) settings: Settings,
    pub(crate) default_method: Option<StartMethod>,
    /// What a child that was forked by a server is to have from its parent.
    pub(crate) inherited: Option<Inherited>,
}

impl Bootstrap {
    /// One that says nothing, to a child that has its streams already.
    pub(crate) fn empty() -> Self {
        Self {
            entry: 0,
            program: None,
            name: String::new(),
            parent_name: String::new(),
            parent_pid: 0,
            depth: 0,
            limits: Limits::DEFAULT,
            is_timed: false,
            lingers: false,
            settings: Settings::default(),
            default_method: None,
            inherited: Some(Inherited::streams()),
        }
    }
}

/// Why a child has no result to give.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Panicked { message: String, location: Option<String>, backtrace: Option<String> },
    Encode(EncodeError),
    Decode(DecodeError),
    Refused { reason: String },
}

impl From<Report> for Cause {
    fn from(report: Report) -> Self {
        match report {
            Report::Panicked { message, location, backtrace } => {
                Self::Panicked { message, location, backtrace }
            }
            Report::Encode(error) => error.into(),
            Report::Decode(error) => Self::Decode(error),
            Report::Refused { reason } => Self::start(Stage::Boot, reason),
        }
    }
}

/// A box, so that what is empty is all zeros, and lies beside the others: a forked child copies one page less.
static LINK: Mutex<Option<Box<Link>>> = Mutex::new(None);

/// The link, and what tells that it still is the one: this process may close what it does not know.
#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    inode: u64,
}

/// The process that the link belongs to: it may fork. Zero if there is no link.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Whether a frame is being written: a signal handler cannot wait for its end.
static WRITING: AtomicBool = AtomicBool::new(false);
/// The link's descriptor, for a signal handler.
static LINK_FD: AtomicI32 = AtomicI32::new(-1);

/// Why a process that carries the marker is nobody's child.
#[derive(Debug)]
pub(crate) enum NoParent {
    /// It was started by hand.
    ByHand(&'static str),
    /// Its parent is gone already, or has never been its parent: neither is worth a word. A parent of many threads can
    /// be gone while its end of the link is still being closed, so that the two cannot be told apart.
    Gone,
}

/// Takes the link that the parent has left, if there is a parent that has.
///
/// The marker in the arguments is no authority: whoever starts the program can write it there. The other end of
/// the link must be of our parent and our user, and this program must not run with more rights than its caller.
pub(crate) fn inherit() -> Result<UnixStream, NoParent> {
    if sys::secure_mode() {
        return Err(NoParent::ByHand("it runs with more rights than its caller (AT_SECURE)"));
    }
    let stream = sys::inherited_socket().ok_or(NoParent::ByHand("there is no link to a parent"))?;
    if getsockopt(&stream, PeerCredentials).is_err() {
        return Err(NoParent::ByHand("its link is not a socket"));
    }
    if getpgrp() != getpid() {
        return Err(NoParent::ByHand("it does not lead a process group, as every child does"));
    }
    if is_from_parent(&stream) { Ok(stream) } else { Err(NoParent::Gone) }
}

/// Whether the other end of the link was made by the process that is our parent now.
fn is_from_parent(stream: &UnixStream) -> bool {
    let Ok(peer) = getsockopt(stream, PeerCredentials) else { return false };
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    // Zero is a process outside of our namespace: anybody's.
    parent != 0 && peer.pid() == parent && peer.uid() == rustix::process::getuid().as_raw()
}

/// Reads the arguments, and what comes beside them; `None` if the parent is gone.
pub(crate) fn read_arguments(stream: &UnixStream, limits: &Limits) -> Result<Option<Packet>, FrameError> {
    match read_frame_with(stream, limits.max_message)? {
        Some(Told { kind: Kind::Arguments, body, beside }) => {
            let handles = beside.into_iter().map(Arc::new).collect();
            Ok(Some(Packet { bytes: body.into(), handles }))
        }
        Some(Told { kind, .. }) => Err(FrameError::Io(io::Error::other(format!("{kind:?} came instead")))),
        None => Ok(None),
    }
}

/// Makes the link the one that everything in this process reports on.
pub(crate) fn open(stream: UnixStream) {
    let socket = OwnedFd::from(stream);
    LINK_FD.store(socket.as_raw_fd(), Ordering::Release);
    let inode = inode_of(&socket).unwrap_or(0);
    *link() = Some(Box::new(Link { socket, inode }));
    OWNER.store(std::process::id(), Ordering::Release);
}

fn link() -> MutexGuard<'static, Option<Box<Link>>> {
    LINK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this the link, at the number of the one that was there: this process is a copy of the one that had that.
pub(crate) fn replace(new: &OwnedFd) -> io::Result<()> {
    let mut link = link();
    let Some(Link { socket, inode }) = link.as_deref_mut() else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    rustix::io::dup3(new, socket, DupFlags::CLOEXEC)?;
    *inode = inode_of(socket)?;
    OWNER.store(std::process::id(), Ordering::Release);
    Ok(())
}

fn inode_of(socket: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}

/// Whether this is the process that was taken over, and not a copy that its function has made by `fork`.
pub(crate) fn is_ours() -> bool {
    OWNER.load(Ordering::Acquire) == std::process::id()
}

/// A second handle to the link, to listen to what the parent says later; `None` in a process that has no parent.
pub(crate) fn listener() -> Option<UnixStream> {
    link().as_ref()?.socket.try_clone().ok().map(UnixStream::from)
}

/// Sends a frame. An error means that the parent is gone, which ends this process by other ways.
pub(crate) fn send(kind: Kind, body: &[u8]) -> io::Result<()> {
    send_with(kind, body, &[])
}

fn send_with(kind: Kind, body: &[u8], handles: &[Arc<OwnedFd>]) -> io::Result<()> {
    let link = link();
    let Some(Link { socket, inode }) = link.as_deref() else { return Ok(()) };
    if !is_ours() || inode_of(socket)? != *inode {
        // A copy must not speak for the original, nor must a frame go into whatever has the link's number now.
        return Err(io::ErrorKind::NotConnected.into());
    }
    // Acquire and release: a handler that finds the flag down may write a whole frame.
    WRITING.store(true, Ordering::SeqCst);
    let sent = write_frame_with(socket, kind, body, handles);
    WRITING.store(false, Ordering::SeqCst);
    sent
}

/// Says that a forked child is there, and who it is.
pub(crate) fn send_hello_of_forked() -> io::Result<()> {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty())?;
    let body = std::process::id().to_le_bytes();
    let mut hello = header_with(Kind::Hello, body.len() as u64, 1).to_vec();
    hello.extend_from_slice(&body);
    let Some(link) = &*link() else { return Err(io::ErrorKind::NotConnected.into()) };
    let mut pauses = 0;
    loop {
        // The first bytes on an empty socket: they go at once and whole.
        match handles::send(&link.socket, &hello, &[pidfd.as_fd()]) {
            Err(error) if is_passing(&error) && pauses < PAUSES => {
                pauses += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other.map(drop),
        }
    }
}

/// Waits until the parent says something or is gone, but no longer than this.
pub(crate) fn await_word(limit: Duration) {
    let Some(listener) = listener() else { return };
    let limit = Timespec::try_from(limit).ok();
    // An error ends the waiting, too.
    let _ = poll(&mut [PollFd::new(&listener, PollFlags::IN)], limit.as_ref());
}

/// Sends a result, and what goes beside it.
pub(crate) fn send_result(result: &Packet) -> io::Result<()> {
    send_with(Kind::Returned, &result.bytes, &result.handles)
}

/// Sends the reason why there is no result.
pub(crate) fn send_report(report: &Report) -> io::Result<()> {
    let body = postcard::to_stdvec(report).map_err(io::Error::other)?;
    send(Kind::Failed, &body)
}

/// How long a frame waits for what the kernel is short of before it is tried again, and how often.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES: u32 = 500;

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS | libc::ETOOMANYREFS))
}

/// Writes a whole frame.
pub(crate) fn write_frame(socket: impl AsFd, kind: Kind, body: &[u8]) -> io::Result<()> {
    write_frame_with(socket, kind, body, &[])
}

/// Writes a whole frame, and descriptors beside its first bytes, of which there are enough.
fn write_frame_with(socket: impl AsFd, kind: Kind, body: &[u8], handles: &[Arc<OwnedFd>]) -> io::Result<()> {
    let count = u16::try_from(handles.len()).map_err(io::Error::other)?;
    let header = header_with(kind, body.len() as u64, count);
    let mut parts = [IoSlice::new(&header), IoSlice::new(body)];
    let mut rest = &mut parts[..];
    IoSlice::advance_slices(&mut rest, 0);
    let mut turns = handles.chunks(MAX_HANDLES).peekable();
    let mut pauses = 0;
    while !rest.is_empty() {
        let beside: Vec<_> = turns.peek().into_iter().copied().flatten().map(AsFd::as_fd).collect();
        // Each byte takes as many as there may be.
        let first = [IoSlice::new(&rest[0][..1])];
        let bytes = if turns.len() > 1 { &first[..] } else { &*rest };
        match handles::send_parts(&socket, bytes, &beside) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut rest, written);
                turns.next();
            }
            Err(Errno::INTR) => {}
            // The kernel is short of something just now; half a frame may be out already.
            Err(error) if is_passing(&error.into()) && pauses < PAUSES => {
                pauses += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Says that a stack has overflowed, from a signal handler: one `write`, no lock, no memory. In the middle of
/// another frame it says nothing, and the death is a plain one by a signal.
pub(crate) fn report_overflow() {
    let fd = LINK_FD.load(Ordering::Acquire);
    if fd >= 0 && is_ours() && !WRITING.swap(true, Ordering::SeqCst) {
        sys::write_once(fd, &header(Kind::Overflowed, 0));
    }
}
