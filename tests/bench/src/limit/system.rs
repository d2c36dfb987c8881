//! `fork(2)`, which no crate has without `unsafe`.
#![expect(unsafe_code, reason = "fork(2) and _exit(2) are C")]

use std::io;

use rustix::process::Pid;

/// Forks. The copy runs `child`, ends with the status that it gives, and never comes back from here.
///
/// # Safety
/// This process has one thread: another could hold a lock, and nobody would open it in the copy.
pub(super) unsafe fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: there is one thread, says the caller, so that the copy is whole.
    match unsafe { libc::fork() } {
        0 => exit(child()),
        pid => Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(io::Error::last_os_error),
    }
}

/// Ends the process, and runs nothing of it any more.
pub(super) fn exit(status: i32) -> ! {
    // SAFETY: it does not come back, so that nothing sees what was left as it was.
    unsafe { libc::_exit(status) }
}
