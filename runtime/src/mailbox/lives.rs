//! Whether a mailbox has senders, and receivers, anywhere.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

/// Two pipes of the system that nobody writes to. Each sender has the writing end of the first, and each receiver that of the
/// second: in a process that dies they are closed, and in a message that is on its way they are open. So a hang-up at the reading
/// end says that the last one is gone, which no count could say.
#[derive(Debug, Clone)]
pub(super) struct Lives {
    /// The reading ends.
    senders: Arc<OwnedFd>,
    receivers: Arc<OwnedFd>,
}

/// What an end has as long as it lives.
pub(super) type Life = Arc<OwnedFd>;

/// What an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Sender,
    Receiver,
    /// A sender that does not count.
    Weak,
}

impl Lives {
    /// Makes them; gives the life of a sender and that of a receiver, too.
    ///
    /// # Errors
    /// If this process can have no more descriptors.
    pub(super) fn new() -> io::Result<(Self, Life, Life)> {
        let (senders, sender) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (receivers, receiver) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let lives = Self { senders: Arc::new(senders), receivers: Arc::new(receivers) };
        Ok((lives, Arc::new(sender), Arc::new(receiver)))
    }

    /// # Errors
    /// If what has come are no pipes.
    pub(super) fn of(senders: Arc<OwnedFd>, receivers: Arc<OwnedFd>) -> io::Result<Self> {
        check(&senders)?;
        check(&receivers)?;
        Ok(Self { senders, receivers })
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        [&self.senders, &self.receivers].into_iter()
    }

    pub(super) const fn of_role(&self, role: Role) -> &Arc<OwnedFd> {
        match role {
            Role::Sender | Role::Weak => &self.senders,
            Role::Receiver => &self.receivers,
        }
    }

    /// Whether there is none of a role any more, not even on its way.
    pub(super) fn are_gone(&self, role: Role) -> bool {
        has_hung_up(self.of_role(role))
    }

    /// Whether there are none of either role.
    pub(super) fn is_one_gone(&self) -> bool {
        self.are_gone(Role::Sender) || self.are_gone(Role::Receiver)
    }

    /// Another life of a sender, if there is one as yet: the pipe, opened again to be written.
    pub(super) fn another_sender(&self) -> Option<Life> {
        if self.are_gone(Role::Sender) {
            return None;
        }
        let path = format!("/proc/self/fd/{}", self.senders.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        open(path, flags, Mode::empty()).ok().map(Arc::new)
    }
}

/// # Errors
/// If it is no pipe.
pub(super) fn check(end: &OwnedFd) -> io::Result<()> {
    if FileType::from_raw_mode(fstat(end)?.st_mode) == FileType::Fifo {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "an end of a mailbox has not the descriptors that it should",
    ))
}

pub(super) fn has_hung_up(pipe: &OwnedFd) -> bool {
    let fd = pipe.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        && fds[0].revents().contains(PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_gone_is_seen() {
        let (lives, sender, receiver) = Lives::new().unwrap();
        let another = lives.another_sender().unwrap();
        drop(sender);
        assert!(!lives.is_one_gone());
        drop(another);
        assert!(lives.are_gone(Role::Sender) && !lives.are_gone(Role::Receiver));
        assert!(lives.another_sender().is_none());
        drop(receiver);
        assert!(lives.are_gone(Role::Receiver));
    }
}
