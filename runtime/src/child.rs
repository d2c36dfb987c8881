//! A child, as its parent sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_send_signal, waitid,
};
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
        // Linux has this since 6.9; it cannot hit a group that has got the number since.
        let by_pidfd = sys::kill_group(self.pidfd.as_fd());
        if by_pidfd.is_err_and(|error| error.raw_os_error() != Some(libc::ESRCH)) && self.look().is_ok() {
            // Until it is reaped the number is its own. An error means that all of them are gone.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        // For one that has left its group.
        drop(self.signal(Signal::KILL));
    }

    /// How it ended, if it has, without reaping it; an error if somebody else has.
    fn look(&self) -> Result<Option<WaitIdStatus>, Errno> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options))
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
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

    /// Ends the rest of its group and reaps it, now that it has ended.
    pub(crate) fn reap(&self) -> Ended {
        self.kill_group();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options)) {
            Ok(Some(status)) => status_of(&status),
            Ok(None) => Err(Cause::StatusLost { reason: "the system does not show its end".into() }),
            Err(Errno::CHILD) => Err(Cause::Reaped),
            Err(error) => Err(Cause::StatusLost { reason: error.to_string() }),
        }
    }
}

fn status_of(status: &WaitIdStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(ExitStatus::exited(code)),
        (None, Some(signal)) => Ok(ExitStatus::signaled(signal, status.dumped())),
        (None, None) => Err(Cause::StatusLost { reason: format!("an end that is none: {status:?}") }),
    }
}
