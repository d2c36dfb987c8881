//! A child's end of the link to its parent.
//!
//! The child writes little and rarely, and its function may keep every thread busy: it writes blocking, from
//! whichever thread has something to say.

use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};

use crate::error::{Cause, Stage};
use crate::image::Identity;
use crate::surroundings::Settings;
use crate::sys;
use crate::wire::frame::{FrameError, Kind, header, read_frame};
use crate::wire::{DecodeError, EncodeError, Limits};

/// What a parent tells its child first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    pub(crate) image: Identity,
    /// The entry's distance from the anchor.
    pub(crate) entry: i64,
    /// The entry's place and signature, in words: they must be those of what stands at that distance.
    pub(crate) place: String,
    pub(crate) signature: String,
    pub(crate) name: String,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
    pub(crate) depth: u32,
    pub(crate) limits: Limits,
    pub(crate) settings: Settings,
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

static LINK: OnceLock<Link> = OnceLock::new();

/// The link, and what tells that it still is the one: this process may fork, and close what it does not know.
#[derive(Debug)]
struct Link {
    stream: Mutex<UnixStream>,
    owner: u32,
    inode: u64,
}

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
    if rustix::process::getpgrp() != rustix::process::getpid() {
        return Err(NoParent::ByHand("it does not lead a process group, as every child does"));
    }
    if is_from_parent(&stream) { Ok(stream) } else { Err(NoParent::Gone) }
}

/// Whether the other end of the link was made by the process that is our parent now.
pub(crate) fn is_from_parent(stream: &UnixStream) -> bool {
    let Ok(peer) = getsockopt(stream, PeerCredentials) else { return false };
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    // Zero is a process outside of our namespace: anybody's.
    parent != 0 && peer.pid() == parent && peer.uid() == rustix::process::getuid().as_raw()
}

/// Reads what the parent says first; `None` if the parent is gone.
pub(crate) fn read(
    stream: &mut UnixStream,
    kind: Kind,
    max_message: u64,
) -> Result<Option<Vec<u8>>, FrameError> {
    match read_frame(stream, max_message)? {
        Some((found, body)) if found == kind => Ok(Some(body)),
        Some((found, _)) => {
            Err(FrameError::Io(io::Error::other(format!("{found:?} came where {kind:?} belongs"))))
        }
        None => Ok(None),
    }
}

/// Makes the link the one that everything in this process reports on.
pub(crate) fn open(stream: UnixStream) {
    LINK_FD.store(stream.as_raw_fd(), Ordering::Release);
    let inode = inode_of(&stream).unwrap_or(0);
    // A process is taken over once, so that this is the first and only time.
    LINK.get_or_init(|| Link { stream: Mutex::new(stream), owner: std::process::id(), inode });
}

fn inode_of(stream: &UnixStream) -> io::Result<u64> {
    Ok(rustix::fs::fstat(stream)?.st_ino)
}

/// Whether this is the process that was taken over, and not a copy that its function has made by `fork`.
pub(crate) fn is_ours() -> bool {
    LINK.get().is_some_and(|link| link.owner == std::process::id())
}

/// A second handle to the link, to listen to what the parent says later; `None` in a process that has no parent.
pub(crate) fn listener() -> Option<UnixStream> {
    LINK.get()?.stream.lock().unwrap_or_else(PoisonError::into_inner).try_clone().ok()
}

/// Sends a frame. An error means that the parent is gone, which ends this process by other ways.
pub(crate) fn send(kind: Kind, body: &[u8]) -> io::Result<()> {
    let Some(link) = LINK.get() else { return Ok(()) };
    let mut stream = link.stream.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_ours() || inode_of(&stream)? != link.inode {
        // A copy must not speak for the original, nor must a frame go into whatever has the link's number now.
        return Err(io::ErrorKind::NotConnected.into());
    }
    // Acquire and release: a handler that finds the flag down may write a whole frame.
    WRITING.store(true, Ordering::SeqCst);
    let sent = write_all_vectored(&mut stream, &header(kind, body.len() as u64), body);
    WRITING.store(false, Ordering::SeqCst);
    sent
}

/// Sends the reason why there is no result.
pub(crate) fn send_report(report: &Report) -> io::Result<()> {
    let body = postcard::to_stdvec(report).map_err(io::Error::other)?;
    send(Kind::Failed, &body)
}

/// How long a frame waits for memory before it is tried again, and how often.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES: u32 = 500;

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}

fn write_all_vectored(stream: &mut UnixStream, header: &[u8], body: &[u8]) -> io::Result<()> {
    let mut parts = [IoSlice::new(header), IoSlice::new(body)];
    let mut rest = &mut parts[..];
    IoSlice::advance_slices(&mut rest, 0);
    let mut pauses = 0;
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The kernel has no memory for it just now; half a frame may be out already.
            Err(error) if is_passing(&error) && pauses < PAUSES => {
                pauses += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
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
