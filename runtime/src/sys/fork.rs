//! Forking: a copy of a process that has one thread, and what the copy changes in itself.

use std::ffi::{CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::sys::signal::{SigHandler, SigSet, Signal};
use rustix::process::Pid;

use super::spawn::LIFELINE_FD;
use crate::status::ExitStatus;

/// Which of the two a process is after a fork.
#[derive(Debug)]
pub(crate) enum Fork {
    Child,
    Parent(Pid),
}

/// Copies this process.
///
/// # Errors
/// Those of `fork(2)`.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the fork server alone calls this, and has made sure that it has one thread: in the copy no lock is held by
    // a thread that is not there.
    let pid = unsafe { libc::fork() };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent))
}

/// Writes out what the C library keeps for its streams: a copy of this process would write it once more.
pub(crate) fn flush_c_streams() {
    // SAFETY: without a stream the call flushes all of them.
    unsafe { libc::fflush(ptr::null_mut()) };
}

/// Has the end of a child be told by a signal that is blocked, and its status be kept until it is asked for.
///
/// # Errors
/// Those of `sigaction(2)` and `sigprocmask(2)`.
pub(crate) fn keep_ends_of_children() -> io::Result<SigSet> {
    // SAFETY: the default disposition is no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_set_mask()?;
    Ok(signals)
}

/// A child of this process that has ended, and how; it is still to be reaped.
///
/// It asks for any child: only the fork server may, in which no other code waits for one.
pub(crate) fn any_ended_child() -> Option<(Pid, ExitStatus)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the call writes what it is given, or nothing if no child has ended.
    while unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) } == -1 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
    // SAFETY: all zeros is a valid one, too.
    let info = unsafe { info.assume_init() };
    // SAFETY: what `waitid` writes carries the process id.
    let pid = Pid::from_raw(unsafe { info.si_pid() })?;
    // SAFETY: and the code or signal.
    let status = unsafe { info.si_status() };
    Some((
        pid,
        match info.si_code {
            libc::CLD_EXITED => ExitStatus::exited(status),
            code => ExitStatus::signaled(status, code == libc::CLD_DUMPED),
        },
    ))
}

/// Puts a lifeline at its place, instead of the one that is there.
///
/// # Errors
/// Those of `dup2(2)`.
pub(crate) fn replace_lifeline(lifeline: OwnedFd) -> io::Result<()> {
    if lifeline.as_raw_fd() == LIFELINE_FD {
        return Err(io::Error::other("a lifeline came at its own place: was there none before?"));
    }
    // SAFETY: the number is the lifeline's in every process of ours; nothing owns the descriptor that is replaced.
    let code = unsafe { libc::dup2(lifeline.as_raw_fd(), LIFELINE_FD) };
    if code == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes these the environment, each of the form `name=value`.
pub(crate) fn replace_environment(strings: Vec<CString>) {
    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    let pointers: Vec<*mut c_char> =
        strings.into_iter().map(CString::into_raw).chain([ptr::null_mut()]).collect();
    // It stays for as long as the process, as the one does that the kernel has left.
    let pointers = Vec::leak(pointers).as_mut_ptr();
    // SAFETY: a forked child calls this before anything else runs in it: no other thread can be reading. The C library
    // allows programs to assign this variable, and it copies the array before it changes it.
    unsafe { environ = pointers };
}

/// How a process ended that somebody else has reaped, if the kernel still knows: Linux does since 6.15, for whoever holds
/// a pidfd. `None` if it has not been reaped. See `PIDFD_GET_INFO` in `ioctl_pidfd(2)`.
///
/// # Errors
/// `EINVAL` or `ENOTTY` where the kernel is older.
pub(crate) fn end_of_reaped(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    /// `_IOWR(0xFF, 11, struct pidfd_info)`, of the first version of that structure.
    const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;
    const PIDFD_INFO_EXIT: u64 = 1 << 3;

    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const { assert!(size_of::<PidfdInfo>() == 64, "the size is a part of the number") };

    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the descriptor is open, and the kernel writes as many bytes as the number says.
    let code = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    match code {
        -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ if info.mask & PIDFD_INFO_EXIT == 0 => Ok(None),
        _ => Ok(Some(from_wait_status(info.exit_code))),
    }
}

fn from_wait_status(status: i32) -> ExitStatus {
    if libc::WIFEXITED(status) {
        ExitStatus::exited(libc::WEXITSTATUS(status))
    } else {
        ExitStatus::signaled(libc::WTERMSIG(status), libc::WCOREDUMP(status))
    }
}
