//! How the end of a child is seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::child::{Child, Ended};
use crate::error::Cause;
use crate::status::ExitStatus;
use crate::sys;

/// How long somebody else may take to reap a child whose fork server is gone, and how often we look.
const ADOPTION: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// How a fork server's word on a child comes: its status, or why it was not forked.
pub(crate) type Told = Result<ExitStatus, i32>;

/// Who tells the end of a child.
#[derive(Debug)]
pub(crate) enum End {
    /// Its pidfd; it is our own, and we reap it.
    Ours(AsyncFd<Arc<OwnedFd>>),
    /// The server that has forked it, and reaps it; if that is gone, whoever has adopted it does.
    Forked(oneshot::Receiver<Told>),
}

impl End {
    /// Waits until the child has ended, ends the rest of its group, and has it reaped.
    pub(crate) async fn seen(self, child: &Child) -> Ended {
        match self {
            Self::Ours(pidfd) => {
                // An error means that the runtime ends, and this with it.
                drop(pidfd.readable().await);
                // Before it is reaped: until then the group's number is its own.
                child.kill_group();
                reap(child.pidfd())
            }
            Self::Forked(told) => match told.await {
                // Its server has swept its group before it was reaped.
                Ok(Ok(status)) => Ok(status),
                Ok(Err(_)) | Err(_) => orphan(child).await,
            },
        }
    }
}

fn reap(pidfd: BorrowedFd<'_>) -> Ended {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options)) {
        Ok(Some(status)) => status_of(&status),
        Ok(None) => Err(lost("the system does not show its end".into())),
        Err(Errno::CHILD) => Err(Cause::Reaped),
        Err(error) => Err(lost(error.to_string())),
    }
}

fn lost(reason: String) -> Cause {
    Cause::StatusLost { reason }
}

pub(crate) fn status_of(status: &WaitIdStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(ExitStatus::exited(code)),
        (None, Some(signal)) => Ok(ExitStatus::signaled(signal, status.dumped())),
        (None, None) => Err(lost(format!("an end that is none: {status:?}"))),
    }
}

/// Waits for a process whose fork server is gone, and reaps it if it has come to us: to process 1, or a subreaper.
pub(crate) async fn adopt(pidfd: Arc<OwnedFd>) {
    if let Ok(watch) = sys::watch(Arc::clone(&pidfd)) {
        drop(watch.readable().await);
        // An error means that it is somebody else's.
        drop(reap(pidfd.as_fd()));
    }
}

/// The end of a child whose fork server has died before it. The kernel remembers it (Linux since 6.15), once it is reaped.
async fn orphan(child: &Child) -> Ended {
    let watch = sys::watch(child.shared_pidfd()).map_err(|error| lost(error.to_string()))?;
    drop(watch.readable().await);
    child.kill_group();
    match reap(child.pidfd()) {
        // It is not ours, unless orphans come to us: process 1, or a subreaper.
        Err(Cause::Reaped) => {}
        other => return other,
    }
    let deadline = Instant::now() + ADOPTION;
    while Instant::now() < deadline {
        match sys::end_of_reaped(child.pidfd()) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => sleep(LOOK).await,
            Err(_unknown_to_the_kernel) => break,
        }
    }
    Err(lost("its fork server has died before it, and the system does not tell".into()))
}
