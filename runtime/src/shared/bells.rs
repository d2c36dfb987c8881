//! What wakes processes: the bells of a region.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::AcqRel};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use super::words::Member;
use crate::passed::check_unix_stream;

/// Some pairs of connected sockets, of which every process of a region has both sides. What is written to one side makes the other
/// readable for all that watch it, edge by edge: nobody reads it, so that nobody can take another's wake-up away. Each
/// side is the bell of some of the members.
///
/// They are sockets, and no eventfds, because a peer may set their flags: `send(2)` can be told for each call not to wait.
#[derive(Debug)]
pub(super) struct Bells {
    pairs: Vec<[Arc<OwnedFd>; 2]>,
    /// Whether some thread empties one, by their bits.
    emptied: Arc<AtomicU32>,
}

/// How long a thread empties a bell at most where no peer disturbs it, and some more.
const PATIENCE: Duration = Duration::from_millis(100);

/// The most pairs of a region: a word has a bit for each side.
pub(super) const MOST: usize = 16;

impl Bells {
    pub(super) fn new(pairs: usize) -> io::Result<Self> {
        let pair = |_| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            Ok([Arc::new(one), Arc::new(other)])
        };
        (0..pairs).map(pair).collect::<io::Result<_>>().map(Self::from_pairs)
    }

    /// # Errors
    /// If they are no sockets, or not in pairs.
    pub(super) fn from_handles(handles: &[Arc<OwnedFd>]) -> io::Result<Self> {
        for handle in handles {
            check_unix_stream(handle.as_fd())?;
        }
        let (pairs, rest) = handles.as_chunks();
        if pairs.is_empty() || pairs.len() > MOST || !rest.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a region has not the bells that it should",
            ));
        }
        Ok(Self::from_pairs(pairs.to_vec()))
    }

    fn from_pairs(pairs: Vec<[Arc<OwnedFd>; 2]>) -> Self {
        Self { pairs, emptied: Arc::default() }
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.pairs.iter().flatten()
    }

    /// Beside which one a member sleeps.
    pub(super) fn of(&self, member: Member) -> u32 {
        (member.slot() % (2 * self.pairs.len())) as u32
    }

    /// What becomes readable when a bell is rung.
    pub(super) fn listener(&self, bell: u32) -> Option<&Arc<OwnedFd>> {
        let bell = bell as usize;
        self.pairs.get(bell / 2).map(|pair| &pair[bell % 2])
    }

    /// Rings those whose bits are set.
    pub(super) fn ring(&self, bells: u32) {
        for bell in (0..u32::BITS).filter(|bell| bells & 1 << bell != 0) {
            if let (Some(near), Some(far)) = (self.listener(bell ^ 1), self.listener(bell))
                && knock(near) == Err(Errno::AGAIN)
            {
                self.empty(bell, near, far);
            }
        }
    }

    /// The same, and does not return before they have rung, or a peer has kept them from it for [`PATIENCE`]: for what nobody else
    /// tells if this process is killed.
    pub(super) fn ring_through(&self, bells: u32) {
        let until = Instant::now() + PATIENCE;
        for bell in (0..u32::BITS).filter(|bell| bells & 1 << bell != 0) {
            let (Some(near), Some(far)) = (self.listener(bell ^ 1), self.listener(bell)) else { continue };
            while knock(near) == Err(Errno::AGAIN) && Instant::now() < until {
                self.empty(bell, near, far);
                std::thread::yield_now();
            }
        }
    }

    /// Nobody reads a bell but whoever finds it full, and on a thread of its own: a peer that reads it at the same time, into memory that
    /// does not come, keeps it from all others for as long as it wants.
    fn empty(&self, bell: u32, near: &Arc<OwnedFd>, far: &Arc<OwnedFd>) {
        let bit = 1 << bell;
        if self.emptied.fetch_or(bit, AcqRel) & bit != 0 {
            // It will be rung when it is empty.
            return;
        }
        let (near, far, emptied) = (Arc::clone(near), Arc::clone(far), Arc::clone(&self.emptied));
        let empty = move || {
            take_all(&far);
            ring_again(&near, &far, &emptied, bit);
        };
        if std::thread::Builder::new().name("procession".into()).spawn(empty).is_err() {
            // The system has no room for a thread: the next one to ring tries again.
            self.emptied.fetch_and(!bit, AcqRel);
        }
    }
}

/// How often a bell is emptied in a row: a hostile peer may fill it all the time.
const TRIES: usize = 1000;

fn take_all(far: &OwnedFd) {
    let _full = recv(far, &mut [0; 4096][..], RecvFlags::DONTWAIT);
}

/// Rings a bell that this thread has emptied. Others may have filled it again in between, and left it to this one.
fn ring_again(near: &OwnedFd, far: &OwnedFd, emptied: &AtomicU32, bit: u32) {
    for _ in 0..TRIES {
        emptied.fetch_and(!bit, AcqRel);
        if knock(near) != Err(Errno::AGAIN) || emptied.fetch_or(bit, AcqRel) & bit != 0 {
            return;
        }
        take_all(far);
    }
    emptied.fetch_and(!bit, AcqRel);
}

/// Whatever else comes of it is a peer's doing: who waits for this wake-up can give up waiting.
fn knock(near: &OwnedFd) -> Result<usize, Errno> {
    send(near, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_filled_while_it_is_emptied_rings() {
        let bells = Bells::new(1).unwrap();
        let [far, near] = &bells.pairs[0];
        // A thread has emptied it, and was stopped there.
        bells.emptied.fetch_or(1, AcqRel);
        while knock(near).is_ok() {}
        bells.ring(1);
        ring_again(near, far, &bells.emptied, 1);
        assert_eq!(recv(far, &mut [0; 4096][..], RecvFlags::DONTWAIT), Ok((1, 1)));
        assert_eq!(bells.emptied.fetch_or(0, AcqRel), 0);
    }

    #[test]
    fn one_that_is_full_has_rung_when_that_returns() {
        let bells = Bells::new(1).unwrap();
        let [far, near] = &bells.pairs[0];
        while knock(near).is_ok() {}
        // A thread is about to empty it, and takes its time.
        bells.emptied.fetch_or(1, AcqRel);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..1000).for_each(|_| std::thread::yield_now());
                take_all(far);
                ring_again(near, far, &bells.emptied, 1);
            });
            bells.ring_through(1);
            // What was rung since it was empty: by this one, and perhaps by that thread.
            let rung = recv(far, &mut [0; 4096][..], RecvFlags::DONTWAIT).unwrap().0;
            assert!(rung == 1 || rung == 2, "{rung}");
        });
    }

    #[test]
    fn one_that_nobody_reads_rings_for_ever() {
        let bells = Bells::new(1).unwrap();
        for _ in 0..10_000 {
            bells.ring(0b01);
        }
        let is_readable = |bell| crate::sys::is_readable(bells.listener(bell).unwrap().as_fd());
        // It may be being emptied, and is rung then.
        while !is_readable(0) {
            std::thread::yield_now();
        }
        assert!(!is_readable(1));
        bells.ring(!0);
        assert!(is_readable(1));
    }
}
