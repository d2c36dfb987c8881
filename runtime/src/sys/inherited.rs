//! What a child is born with: its link, its lifeline, and its station.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::spawn::{LIFELINE_FD, LINK_FD};

/// Which signal `O_ASYNC` sends: `fcntl(2)`; the same number on every machine, which `libc` lacks.
const F_SETSIG: c_int = 10;

/// Whether the program was started with more rights than its caller has. See `getauxval(3)`, `AT_SECURE`.
pub(crate) fn secure_mode() -> bool {
    // SAFETY: the call only reads what the kernel left for this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Takes the link that a parent has put at its place; `None` if nothing is open there.
pub(crate) fn inherited_socket() -> Option<UnixStream> {
    take(LINK_FD).map(UnixStream::from)
}

/// Owns a descriptor that this process was started with, and keeps it from processes that it starts.
fn take(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: setting a flag on a number touches no memory, and fails if nothing is open there.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: it is open, and boot, which alone calls this, does so once and before any other code could have
    // taken it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has the kernel kill this process, and its group, when the last other end of the lifeline closes: when the
/// parent is gone, whatever ended it, and whatever this process is doing then.
///
/// The owner must be set before the flag that arms it. If the parent is gone already there will be no further
/// signal: the caller looks once after this, by [`lifeline_is_cut`].
///
/// # Errors
/// Those of `fcntl(2)`, `F_SETOWN`, `F_SETSIG` and `O_ASYNC`.
pub(crate) fn arm_lifeline() -> io::Result<()> {
    let group = rustix::process::getpgrp().as_raw_nonzero().get();
    set(LIFELINE_FD, libc::F_SETOWN, -group)?;
    set(LIFELINE_FD, F_SETSIG, libc::SIGKILL)?;
    set(LIFELINE_FD, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)?;
    // It stays open, also in the programs that this process starts or becomes: they are of its group, and the signal is
    // theirs too, even if this process is gone by then and its parent has not come to end them.
    Ok(())
}

/// Whether the parent is gone: the last other end of the lifeline is closed.
pub(crate) fn lifeline_is_cut() -> bool {
    let mut fd = libc::pollfd { fd: LIFELINE_FD, events: 0, revents: 0 };
    // SAFETY: one element, which the call writes to; a bad descriptor is told in it.
    let code = unsafe { libc::poll(&raw mut fd, 1, 0) };
    code == 1 && fd.revents & libc::POLLHUP != 0
}

fn set(fd: RawFd, command: c_int, argument: c_int) -> io::Result<()> {
    // SAFETY: these commands take an integer and touch no memory of ours.
    let code = unsafe { libc::fcntl(fd, command, argument) };
    if code == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Leaves at once, without destructors: for a child whose constructors have not run.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call does not return, and touches nothing.
    unsafe { libc::_exit(code) }
}

/// Watches a descriptor in the runtime that is current.
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub(crate) fn watch(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    watch_for(fd, Interest::READABLE)
}

/// As [`watch`], for more than what can be read.
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub(crate) fn watch_for(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `Arc<OwnedFd>` gives the same number for as long as it lives, and closes it at its end alone.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}

/// Whether a descriptor is readable now; a pidfd is when its process has ended.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// One `write(2)`, whatever becomes of it: for a signal handler.
pub(crate) fn write_once(fd: RawFd, bytes: &[u8]) {
    // SAFETY: the bytes are readable, and a bad descriptor is an error that is of no use to a dying process.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Closes everything that a child does not know, where the C library could not do it at the start.
pub(crate) fn close_strangers() {
    if !super::spawn::closes_descriptors() {
        // SAFETY: in a child that was just taken over nothing of ours has a descriptor beyond the lifeline. On a
        // kernel without the call (before 5.9) strangers stay open until they end.
        unsafe { libc::syscall(libc::SYS_close_range, LIFELINE_FD + 1, c_int::MAX, 0) };
    }
}

/// Has a write to a broken pipe give an error instead of ending the process, as in every Rust program: the
/// standard library does this before `main`, which a child never comes to.
///
/// # Errors
/// Those of `sigaction(2)`.
pub(crate) fn ignore_broken_pipes() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigIgn)
    }?;
    Ok(())
}

/// Has the C library call a function when the process exits by `exit(3)`. Without memory for it, it is not called.
pub(crate) fn at_exit(function: extern "C" fn()) {
    // SAFETY: the function may be called at any time from then on, and does not unwind.
    unsafe { libc::atexit(function) };
}

/// Sends SIGKILL to the process group that a process led, whether or not it was reaped. See `pidfd_send_signal(2)`.
///
/// # Errors
/// `ESRCH` if nobody is left in it; `EINVAL` where the kernel is older than 6.9.
pub(crate) fn kill_group(leader: BorrowedFd<'_>) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 4;
    let (fd, info) = (leader.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: the descriptor is open, and without a `siginfo_t` the kernel makes its own.
    let code = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, info, PIDFD_SIGNAL_PROCESS_GROUP)
    };
    if code == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
