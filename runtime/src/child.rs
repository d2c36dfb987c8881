//! A child, as its parent sees it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_send_signal, waitid,
};
use tokio::sync::watch;

use crate::error::Cause;
use crate::status::ExitStatus;

/// How a child ended, or why that is not known.
pub(crate) type Ended = Result<ExitStatus, Cause>;

/// Where the end of a child is told.
pub(crate) type Announcement = watch::Sender<Option<Ended>>;

/// What the handles of a child share with the task that watches over it.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) name: String,
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Child {
    /// The other half tells everybody who waits how it ended.
    pub(crate) fn new(name: String, pid: Pid, pidfd: Arc<OwnedFd>) -> (Self, Announcement) {
        let (announcement, ended) = watch::channel(None);
        (Self { name, pid, pidfd, ended }, announcement)
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

    /// Kills the child and what it has started in its group. Only for one that is not reaped yet: until then
    /// the number of its group is its own.
    pub(crate) fn kill_group(&self) {
        // An error means that all of them are gone, or that the child has left its group: it is killed by itself.
        let _ = kill_process_group(self.pid, Signal::KILL);
        drop(self.signal(Signal::KILL));
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.map(|ended| ended.clone()) {
            Ok(Some(ended)) => ended,
            _ => Err(Cause::StatusLost { reason: "nobody watches over it".into() }),
        }
    }

    /// Ends the rest of its group and reaps it, now that it has ended.
    pub(crate) fn reap(&self) -> Ended {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let look = |options| match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => status_of(&status),
            Ok(None) => Err(Cause::StatusLost { reason: "the system does not show its end".into() }),
            Err(Errno::CHILD) => Err(Cause::Reaped),
            Err(error) => Err(Cause::StatusLost { reason: error.to_string() }),
        };
        look(options | WaitIdOptions::NOWAIT)?;
        self.kill_group();
        look(options)
    }
}

fn status_of(status: &WaitIdStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(ExitStatus::exited(code)),
        (None, Some(signal)) => Ok(ExitStatus::signaled(signal, status.dumped())),
        (None, None) => Err(Cause::StatusLost { reason: format!("an end that is none: {status:?}") }),
    }
}
