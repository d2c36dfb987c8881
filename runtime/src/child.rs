//! A child, as its parent sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid};
use tokio::sync::watch;

use crate::error::Cause;
use crate::status::ExitStatus;
use crate::sys;

/// How a child ended, or why that is not known.
pub(crate) type Ended = Result<ExitStatus, Cause>;

/// What is told of a child that was born.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    Living,
    /// SIGKILL was sent, and it is still there.
    Unkillable,
    Ended(Ended),
}

/// Where the progress of a child is told.
pub(crate) type Announcement = watch::Sender<Progress>;

/// What the handles of a child share with the task that watches over it.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// Who has started it, and alone is told of it.
    owner: u32,
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    progress: watch::Receiver<Progress>,
    /// How much time it was given to stop, once it was asked to.
    pub(crate) asked_to_stop: watch::Sender<Option<Duration>>,
}

impl Child {
    /// The other half tells everybody who waits how it ended.
    pub(crate) fn new(name: String, daemon: bool, pid: Pid, pidfd: Arc<OwnedFd>) -> (Self, Announcement) {
        let (announcement, progress) = watch::channel(Progress::Living);
        let asked_to_stop = watch::Sender::new(None);
        (Self { name, daemon, owner: std::process::id(), pid, pidfd, progress, asked_to_stop }, announcement)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal; one that has ended is left alone, whoever has its number now.
    pub(crate) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Err(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Kills the child and what is left of its group.
    pub(crate) fn kill_group(&self) {
        kill_group(self.pid, self.pidfd.as_fd());
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn shared_pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        match &*self.progress.borrow() {
            Progress::Ended(ended) => Some(ended.clone()),
            _ => None,
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&self) -> Ended {
        self.wait_for(|progress| matches!(progress, Progress::Ended(_))).await
    }

    /// Asks it to stop, and waits until it has ended, or will not.
    pub(crate) async fn stop(&self, grace: Duration) -> Ended {
        self.asked_to_stop.send_replace(Some(grace));
        self.wait_for(|progress| !matches!(progress, Progress::Living)).await
    }

    async fn wait_for(&self, enough: impl FnMut(&Progress) -> bool) -> Ended {
        if self.owner != std::process::id() {
            let reason = "this is a copy of the process that has started it, made by `fork`".into();
            return Err(Cause::StatusLost { reason });
        }
        let mut progress = self.progress.clone();
        match progress.wait_for(enough).await.map(|progress| progress.clone()) {
            Ok(Progress::Ended(ended)) => ended,
            Ok(_) => Err(Cause::Unkillable),
            Err(_gone) => Err(Cause::StatusLost { reason: "nobody watches over it".into() }),
        }
    }
}

/// Kills a process and what is left of its group.
pub(crate) fn kill_group(pid: Pid, pidfd: BorrowedFd<'_>) {
    // Linux has this since 6.9; it cannot hit a group that has got the number since.
    let by_pidfd = sys::kill_group(pidfd);
    if by_pidfd.is_err_and(|error| error.raw_os_error() != Some(libc::ESRCH)) && is_unreaped(pidfd) {
        // Until it is reaped the number is its own.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    // For one that has left its group. An error means that it has ended, or is another user's.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

/// Whether it is a child of ours that nobody has reaped.
fn is_unreaped(pidfd: BorrowedFd<'_>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options)).is_ok()
}
