//! Ending a process that another waits for.

use std::io;
use std::sync::Arc;

use rustix::process::Signal;

use crate::child::Child;

/// A handle that can only send signals to a process, made by
/// [`Process::signaler`](crate::Process::signaler).
///
/// A signal to a process that has ended is no error, and does nothing: it cannot hit another one.
#[derive(Debug, Clone)]
pub struct Signaler {
    child: Arc<Child>,
}

impl Signaler {
    pub(crate) const fn new(child: Arc<Child>) -> Self {
        Self { child }
    }

    /// The name of the process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.child.name
    }

    /// The id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether the process is there, as [`Process::is_alive`](crate::Process::is_alive).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.child.ended().is_none()
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// Those of `pidfd_send_signal(2)`: the process now belongs to another user.
    pub fn kill(&self) -> io::Result<()> {
        self.child.signal(Signal::KILL)
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn terminate(&self) -> io::Result<()> {
        self.child.signal(Signal::TERM)
    }

    /// Sends SIGINT.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn interrupt(&self) -> io::Result<()> {
        self.child.signal(Signal::INT)
    }
}
