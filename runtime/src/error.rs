//! Why a call has no value.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::status::{ExitStatus, signal_name};
use crate::wire::{DecodeError, EncodeError};

/// Why a call has no value: which process, and the one true cause.
///
/// What a process function *returns* is never such an error, not even an `Err`: a function that returns a
/// `Result` gives `Result<Result<T, E>, ProcessError>`.
///
/// # Examples
/// ```
/// # use procession::{Cause, process};
/// #[process]
/// fn leave() {
///     std::process::exit(3)
/// }
///
/// let error = leave().blocking().unwrap_err();
/// assert_eq!(error.exit_code(), Some(3));
/// assert!(matches!(error.cause(), Cause::Exited { code: 3 }));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessError(Box<Inner>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Inner {
    name: String,
    pid: Option<u32>,
    cause: Cause,
    stderr: Vec<String>,
    item: Option<u64>,
}

/// What became of a process that gave no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The function panicked.
    #[error("panicked{}: {message}", at(location.as_deref()))]
    Panicked {
        /// What the panic said.
        message: String,
        /// `file:line:column`, unless the program replaced the panic hook.
        location: Option<String>,
        /// Where it came from, if `RUST_BACKTRACE` asks for it.
        backtrace: Option<String>,
    },
    /// The process left by itself, for example by [`std::process::exit`], before its function returned.
    #[error("exited with code {code} before its function returned")]
    Exited {
        /// The exit code, 0 included.
        code: i32,
    },
    /// A signal ended the process.
    #[error("was killed by {}{}", signal_name(*signal), if *core_dumped { " (core dumped)" } else { "" })]
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
    /// The process ran out of stack.
    #[error("overflowed its stack")]
    StackOverflow,
    /// The function ran longer than [`Call::timeout`](crate::Call::timeout) allows, and was killed.
    #[error("exceeded its time limit of {after:?} and was killed")]
    TimedOut {
        /// The limit, counted from the start of the function in the child.
        after: Duration,
    },
    /// Whoever waited for the value gave up, and the process was killed.
    #[error("was cancelled")]
    Cancelled,
    /// The process did not come as far as its function.
    #[error("could not be started ({stage}): {reason}")]
    Start {
        /// How far it came.
        stage: Stage,
        /// What was wrong, and what to do about it.
        reason: String,
        /// The error number of the system call that failed, if one did.
        errno: Option<i32>,
    },
    /// The arguments or the result cannot be encoded.
    #[error("has a value that cannot be sent")]
    Encode(#[source] EncodeError),
    /// The arguments or the result cannot be read back.
    #[error("was sent a value that cannot be read back")]
    Decode(#[source] DecodeError),
    /// The arguments or the result are larger than [`Call::max_message`](crate::Call::max_message) allows;
    /// nothing was sent.
    #[error("has a message of {size} bytes where the limit is {limit}: raise it with `max_message`")]
    TooLarge {
        /// The encoded size, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The process broke the protocol, and was killed.
    #[error("broke the protocol and was killed: {reason}")]
    BadMessage {
        /// What it sent.
        reason: String,
    },
    /// Other code of this program has waited for the process, and taken its exit status.
    #[error("was reaped by other code, so that how it ended is unknown")]
    Reaped,
    /// SIGKILL was sent, and the process is still there: the kernel holds it, for example in a device driver.
    #[error("could not be killed")]
    Unkillable,
    /// How the process ended could not be learned.
    #[error("ended in an unknown way: {reason}")]
    StatusLost {
        /// Why not.
        reason: String,
    },
    /// The [pool](crate::Pool) was closed, or has been killed: it takes no more tasks.
    #[error("was not run: its pool is closed")]
    Closed,
    /// The task has ended so many workers of its pool, one after the other, that it is not tried again.
    #[error("has ended {deaths} workers, and is not tried again: the last one {last}")]
    Poisoned {
        /// How many.
        deaths: u32,
        /// What became of the last one.
        last: String,
    },
    /// The workers of the pool could not be kept up: one after the other has ended before it could run anything.
    #[error("was not run: {deaths} workers in a row could not be had, the last because it {last}")]
    RestartLimit {
        /// How many.
        deaths: u32,
        /// What became of the last one.
        last: String,
    },
    /// The stream that a [map](crate::Pool::try_map_stream) takes its items from has failed.
    #[error("has lost its input: {reason}")]
    Input {
        /// What the stream said.
        reason: String,
    },
    /// The value was taken before, by an earlier `join`.
    #[error("has given its value before")]
    Taken,
}

/// How far a process came that did not reach its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stage {
    /// This program cannot start children: nothing would take them over.
    Setup,
    /// The image that the child would run is not the one that this code is in.
    Image,
    /// Children within children went too deep.
    Depth,
    /// The system could not start it.
    Spawn,
    /// It ended, or said nothing, before it was taken over.
    TakeOver,
    /// It was taken over, but could not do what it was asked.
    Boot,
    /// The fork server could not be started, or has ended.
    Server,
    /// A [preload](fn@crate::preload) did not succeed.
    Preload,
    /// What a worker of a [pool](crate::Pool) does first did not succeed.
    Init,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "setup",
            Self::Image => "image",
            Self::Depth => "depth",
            Self::Spawn => "spawn",
            Self::TakeOver => "take-over",
            Self::Boot => "boot",
            Self::Server => "fork server",
            Self::Preload => "preload",
            Self::Init => "init",
        })
    }
}

fn at(location: Option<&str>) -> String {
    location.map_or_else(String::new, |place| format!(" at {place}"))
}

impl Cause {
    pub(crate) fn start(stage: Stage, reason: impl Into<String>) -> Self {
        Self::Start { stage, reason: reason.into(), errno: None }
    }

    /// A system call of a start that failed.
    pub(crate) fn system(stage: Stage, what: &str, error: &std::io::Error) -> Self {
        Self::Start { stage, reason: format!("{what}: {error}"), errno: error.raw_os_error() }
    }
}

impl From<ExitStatus> for Cause {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Signaled { signal, core_dumped: status.core_dumped() },
            None => Self::Exited { code: status.exit_code() },
        }
    }
}

impl From<EncodeError> for Cause {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLarge { size, limit } => Self::TooLarge { size, limit },
            other => Self::Encode(other),
        }
    }
}

impl ProcessError {
    pub(crate) fn new(name: impl Into<String>, pid: Option<u32>, cause: Cause) -> Self {
        Self(Box::new(Inner { name: name.into(), pid, cause, stderr: Vec::new(), item: None }))
    }

    pub(crate) fn with_stderr(mut self, lines: Vec<String>) -> Self {
        self.0.stderr = lines;
        self
    }

    pub(crate) fn of_item(mut self, item: u64) -> Self {
        self.0.item = Some(item);
        self
    }

    /// Which item of a [map](crate::Pool::map) it is about, counted from zero; `None` if of none.
    #[must_use]
    pub fn item(&self) -> Option<u64> {
        self.0.item
    }

    /// The last lines that the process wrote to its standard errors, if they were
    /// [traced](crate::Stdio::traced).
    #[must_use]
    pub fn stderr(&self) -> &[String] {
        &self.0.stderr
    }

    /// The name of the process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The id that the process had, if it was started at all.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.0.pid
    }

    /// The one true cause.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// Whether the function panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0.cause, Cause::Panicked { .. })
    }

    /// Whether the function exceeded its time limit.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.cause, Cause::TimedOut { .. })
    }

    /// The signal that ended the process, if one from outside or a crash did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.0.cause {
            Cause::Signaled { signal, .. } => Some(signal),
            _ => None,
        }
    }

    /// The code with which the process left before its function returned, if it did.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.0.cause {
            Cause::Exited { code } => Some(code),
            _ => None,
        }
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, pid, cause, .. } = &*self.0;
        match pid {
            Some(pid) => write!(f, "process `{name}` (pid {pid}) {cause}"),
            None => write!(f, "process `{name}` {cause}"),
        }
    }
}

/// All of it in words, a line each for the causes, then the backtrace: what a `main` that returns it prints, and
/// what a failed `unwrap` says.
impl fmt::Debug for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if let Some(source) = self.0.cause.source() {
            write!(f, "\n  caused by: {source}")?;
        }
        if let Cause::Panicked { backtrace: Some(backtrace), .. } = &self.0.cause {
            write!(f, "\nits backtrace:\n{backtrace}")?;
        }
        if !self.0.stderr.is_empty() {
            write!(f, "\nits last words:\n{}", self.0.stderr.join("\n"))?;
        }
        Ok(())
    }
}

impl Error for ProcessError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.source()
    }
}
