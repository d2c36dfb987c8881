//! A bell: a descriptor that becomes readable, for all that watch it, by a call that waits for nobody.
//!
//! It is a timer that nobody has set. The kernel lets anybody say how often one has expired, so that a process can be saved and
//! restored (`TFD_IOC_SET_TICKS` in `timerfd_create(2)`), and wakes who watches it. Such a call never blocks, whatever flags
//! others have set, and nothing fills up if nobody ever reads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::ioctl::{Opcode, opcode};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_gettime,
    timerfd_settime,
};

/// # Errors
/// If there is no room for another descriptor.
pub(crate) fn new_bell() -> io::Result<OwnedFd> {
    Ok(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?)
}

/// # Errors
/// If a descriptor is none.
pub(crate) fn check_bell(bell: BorrowedFd<'_>) -> io::Result<()> {
    timerfd_gettime(bell)?;
    Ok(())
}

/// Rings one that was checked. If that fails it is a peer's doing: who waits for it can give up waiting.
pub(crate) fn ring(bell: BorrowedFd<'_>) {
    const SET_TICKS: Opcode = opcode::write::<u64>(b'T', 0);
    let ticks = 1_u64;
    // SAFETY: a timer knows the request, which reads one number; a kernel that was built without it refuses.
    let code = unsafe { libc::ioctl(bell.as_raw_fd(), SET_TICKS as libc::Ioctl, &raw const ticks) };
    if code == -1 {
        expire(bell);
    }
}

/// The same on a kernel without `CONFIG_CHECKPOINT_RESTORE`, by way of an interrupt, which takes longer.
fn expire(bell: BorrowedFd<'_>) {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 1 };
    let once = Itimerspec { it_interval: Timespec::default(), it_value: at_once };
    let _refused = timerfd_settime(bell, TimerfdTimerFlags::empty(), &once);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use super::super::{is_readable, watch};
    use super::*;

    /// Nobody reads it, and all hear each ring.
    #[tokio::test]
    async fn all_hear_each_ring() {
        for ring in [ring, expire] {
            let bell = Arc::new(new_bell().unwrap());
            check_bell(bell.as_fd()).unwrap();
            assert!(!is_readable(bell.as_fd()));
            let as_another = bell.try_clone().unwrap();
            let (one, other) = (watch(Arc::clone(&bell)).unwrap(), watch(Arc::new(as_another)).unwrap());
            for _ in 0..10_000 {
                ring(bell.as_fd());
                for watch in [&one, &other] {
                    watch.readable().await.unwrap().clear_ready();
                }
            }
            tokio::task::yield_now().await;
            assert!(one.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    }

    /// A peer has made all of its calls block, and has done what there is to do with it.
    #[test]
    fn nothing_keeps_it_from_ringing() {
        let bell = new_bell().unwrap();
        rustix::io::ioctl_fionbio(&bell, false).unwrap();
        for _ in 0..100_000 {
            ring(bell.as_fd());
        }
        assert!(is_readable(bell.as_fd()));
        rustix::io::read(&bell, &mut [0; 8]).unwrap();
        assert!(!is_readable(bell.as_fd()));
        ring(bell.as_fd());
        assert!(is_readable(bell.as_fd()));
    }

    #[test]
    fn what_is_none_is_told() {
        let (reader, writer) = io::pipe().unwrap();
        check_bell(reader.as_fd()).unwrap_err();
        check_bell(writer.as_fd()).unwrap_err();
        let counter = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        check_bell(counter.as_fd()).unwrap_err();
    }
}
