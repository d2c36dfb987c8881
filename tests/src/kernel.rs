//! What this kernel can do that older ones cannot.
#![expect(unsafe_code, reason = "there is no safe face for what it can do")]

use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nix::libc;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::family::pid_of;

/// Whether it tells how a process has ended that somebody else has reaped: Linux does since 6.15.
#[must_use]
pub fn remembers_ends() -> bool {
    static REMEMBERS: LazyLock<bool> = LazyLock::new(|| tells_an_end().unwrap_or(false));
    *REMEMBERS
}

/// `None` if a process could not be had.
fn tells_an_end() -> Option<bool> {
    /// `_IOWR(0xFF, 11, struct pidfd_info)`, of the first version of that structure, and the bit that asks for the end.
    const PIDFD_GET_INFO: u32 = 0xc040_ff0b;
    const PIDFD_INFO_EXIT: u64 = 1 << 3;

    let mut process = Command::new("true").stdin(Stdio::null()).spawn().ok()?;
    let pidfd = pidfd_open(pid_of(process.id())?, PidfdFlags::empty());
    process.wait().ok()?;
    let mut info = [PIDFD_INFO_EXIT, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the request says that the kernel writes 64 bytes, which there are.
    let code =
        unsafe { libc::ioctl(pidfd.ok()?.as_raw_fd(), PIDFD_GET_INFO as libc::Ioctl, info.as_mut_ptr()) };
    Some(code == 0 && info[0] & PIDFD_INFO_EXIT != 0)
}

/// Whether it takes a signal for a process group by the pidfd of its leader: Linux does since 6.9.
#[must_use]
pub fn signals_groups() -> bool {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 4;
    let (no_signal, no_info) = (0, std::ptr::null::<libc::siginfo_t>());
    let Ok(this) = pidfd_open(getpid(), PidfdFlags::empty()) else { return false };
    let (call, pidfd) = (libc::SYS_pidfd_send_signal, this.as_raw_fd());
    // SAFETY: the descriptor is open, and without a `siginfo_t` the kernel makes its own.
    let code = unsafe { libc::syscall(call, pidfd, no_signal, no_info, PIDFD_SIGNAL_PROCESS_GROUP) };
    // This process may lead no group: that is another error.
    code == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
}
