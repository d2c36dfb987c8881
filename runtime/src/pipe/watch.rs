//! A descriptor that some runtime watches: the one that is current when somebody waits for it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use crate::control::Control;
use crate::sys;

/// What a call on a watched descriptor has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done<T> {
    /// There may be more to do at once.
    Some(T),
    /// The next call would block.
    All(T),
}

impl<T> Done<T> {
    pub(super) fn into_inner(self) -> T {
        match self {
            Self::Some(done) | Self::All(done) => done,
        }
    }
}

/// A watch on a descriptor, by the runtime that was current when it was last waited for; where none is current, by that of
/// the control thread. So an end of a pipe can be moved to another runtime, or out of all.
#[derive(Debug)]
pub(super) struct Watch {
    interest: Interest,
    registration: Option<(Id, AsyncFd<Arc<OwnedFd>>)>,
}

impl Watch {
    pub(super) const fn new(interest: Interest) -> Self {
        Self { interest, registration: None }
    }

    /// Ends the watch: nobody is woken any more.
    pub(super) fn stop(&mut self) {
        self.registration = None;
    }

    /// Makes a call that gives [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting, and again when it would not, or
    /// when a signal has come between.
    ///
    /// # Errors
    /// Those of the call; if the system has no room to watch the descriptor.
    pub(super) fn poll_by<T>(
        &mut self,
        socket: &Arc<OwnedFd>,
        context: &mut Context<'_>,
        mut call: impl FnMut() -> io::Result<Done<T>>,
    ) -> Poll<io::Result<T>> {
        let mut call = || uninterrupted(&mut call);
        let runtime = current_runtime()?;
        if self.registration.as_ref().is_none_or(|(id, _)| *id != runtime.id()) {
            // A new watch does not know yet whether there is something to do.
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(done) => return Poll::Ready(Ok(done.into_inner())),
                Err(error) => return Poll::Ready(Err(error)),
            }
            let _inside = runtime.enter();
            self.registration = None;
            let watch = sys::watch_for(Arc::clone(socket), self.interest)?;
            self.registration = Some((runtime.id(), watch));
        }
        let Some((_, watch)) = &self.registration else { return Poll::Pending };
        loop {
            let mut ready = ready!(if self.interest.is_writable() {
                watch.poll_write_ready(context)
            } else {
                watch.poll_read_ready(context)
            })?;
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Done::Some(done)) => return Poll::Ready(Ok(done)),
                Ok(Done::All(done)) => {
                    ready.clear_ready();
                    return Poll::Ready(Ok(done));
                }
            }
        }
    }
}

/// Makes a call until no signal comes between.
///
/// # Errors
/// Those of the call.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn current_runtime() -> io::Result<Handle> {
    match Handle::try_current() {
        Ok(runtime) => Ok(runtime),
        Err(_none) => Ok(Control::get().map_err(io::Error::other)?.runtime().clone()),
    }
}

/// As long as it takes.
pub(super) const FOREVER: Duration = Duration::MAX;

/// Blocks this thread until a descriptor is ready, or for so long.
///
/// # Errors
/// Those of `poll(2)`.
pub(super) fn wait_for(socket: &OwnedFd, ready: PollFlags, most: Duration) -> io::Result<()> {
    let most = Timespec::try_from(most).ok();
    match poll(&mut [PollFd::new(socket, ready)], most.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
