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

/// One that nobody has rung.
///
/// # Errors
/// If there is no room for another descriptor.
pub(crate) fn new_bell() -> io::Result<OwnedFd> {
    Ok(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?)
}

/// Whether a descriptor is one.
///
/// # Errors
/// If it is none.
pub(crate) fn check_bell(bell: BorrowedFd<'_>) -> io::Result<()> {
    timerfd_gettime(bell)?;
    Ok(())
}

/// Rings one that was checked. That fails where a peer has seen to it, or a filter of system calls: who waits for it can give up waiting.
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
    use std::array::from_fn;
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::sync::mpsc;
    use std::task::{Context, Waker};
    use std::thread;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};
    use tokio::time::timeout;

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

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    fn is_rung_in_time(bell: &OwnedFd) -> bool {
        let (mut fds, limit) =
            ([PollFd::new(bell, PollFlags::IN)], Timespec { tv_sec: LONG.as_secs() as i64, tv_nsec: 0 });
        poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    }

    /// A peer sets the timer, to expire after some seconds, once or again and again.
    fn set(bell: &OwnedFd, first: i64, again: i64) {
        let [it_value, it_interval] = [first, again].map(|tv_sec| Timespec { tv_sec, tv_nsec: 0 });
        timerfd_settime(bell, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value }).unwrap();
    }

    /// A peer has made all of its calls block, has set the timer far ahead, once and again and again, and has stopped it.
    #[test]
    fn nothing_keeps_it_from_ringing() {
        for ring in [ring, expire] {
            let bell = new_bell().unwrap();
            rustix::io::ioctl_fionbio(&bell, false).unwrap();
            for _ in 0..50_000 {
                ring(bell.as_fd());
            }
            for (first, again) in [(1 << 30, 0), (1 << 30, 1 << 30), (0, 0)] {
                for _ in 0..2 {
                    set(&bell, first, again);
                    assert!(!is_readable(bell.as_fd()));
                    ring(bell.as_fd());
                    assert!(is_rung_in_time(&bell), "set to {first}, {again}");
                    rustix::io::read(&bell, &mut [0; 8]).unwrap();
                    assert!(!is_readable(bell.as_fd()));
                    ring(bell.as_fd());
                    assert!(is_rung_in_time(&bell), "read, and set to {first}, {again}");
                }
            }
        }
    }

    const HANDSHAKES: u32 = 10_000;

    /// Says each number, rings, and waits until it was heard before it says the next one.
    fn says_and_rings(
        bell: &OwnedFd,
        ring: fn(BorrowedFd<'_>),
        said: &AtomicU32,
        heard: &mpsc::Receiver<u32>,
    ) {
        for number in 1..=HANDSHAKES {
            said.store(number, SeqCst);
            ring(bell.as_fd());
            assert_eq!(heard.recv_timeout(LONG), Ok(number), "nobody has heard it");
        }
    }

    /// Tells each of two that it was heard, whenever the bell is.
    async fn hears(bell: Arc<OwnedFd>, said: &[AtomicU32; 2], tells: [mpsc::Sender<u32>; 2]) {
        let (bell, mut heard) = (watch(bell).unwrap(), [0; 2]);
        while heard != [HANDSHAKES; 2] {
            timeout(LONG, bell.readable()).await.expect("a ring is lost").unwrap().clear_ready();
            for ((said, heard), tell) in said.iter().zip(&mut heard).zip(&tells) {
                let number = said.load(SeqCst);
                if number != *heard {
                    *heard = number;
                    tell.send(number).unwrap();
                }
            }
        }
    }

    /// Two ring whenever they like, and who listens hears each of them.
    #[test]
    fn who_rings_beside_another_is_heard() {
        for ring in [ring, expire] {
            let (bell, said) = (Arc::new(new_bell().unwrap()), from_fn(|_| AtomicU32::new(0)));
            let [one, other] = from_fn(|_| mpsc::channel());
            let (tells, answers) = ([one.0, other.0], [one.1, other.1]);
            thread::scope(|scope| {
                for (said, heard) in said.iter().zip(answers) {
                    let bell = &bell;
                    scope.spawn(move || says_and_rings(bell, ring, said, &heard));
                }
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(hears(Arc::clone(&bell), &said, tells));
            });
        }
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
