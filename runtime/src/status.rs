//! How a process ended.

use std::fmt;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a process ended, as the kernel tells it: with a code of its own, or by a signal.
///
/// The same verbs as [`std::process::ExitStatus`], without the raw number: see `waitid(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExitStatus(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Kind {
    Exited { code: i32 },
    Signaled { signal: i32, core_dumped: bool },
}

impl ExitStatus {
    pub(crate) const fn exited(code: i32) -> Self {
        Self(Kind::Exited { code })
    }

    pub(crate) const fn signaled(signal: i32, core_dumped: bool) -> Self {
        Self(Kind::Signaled { signal, core_dumped })
    }

    /// Whether the process exited with code 0.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self.0, Kind::Exited { code: 0 })
    }

    /// The exit code, if the process ended by itself.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        match self.0 {
            Kind::Exited { code } => Some(code),
            Kind::Signaled { .. } => None,
        }
    }

    /// The number of the signal that ended the process, if one did.
    #[must_use]
    pub const fn signal(self) -> Option<i32> {
        match self.0 {
            Kind::Signaled { signal, .. } => Some(signal),
            Kind::Exited { .. } => None,
        }
    }

    /// Whether a signal ended the process and the kernel wrote a core dump.
    #[must_use]
    pub const fn core_dumped(self) -> bool {
        matches!(self.0, Kind::Signaled { core_dumped: true, .. })
    }

    /// One number for both, as Python's `Process.exitcode`: the code, or minus the signal's number.
    #[must_use]
    pub const fn exit_code(self) -> i32 {
        match self.0 {
            Kind::Exited { code } => code,
            Kind::Signaled { signal, .. } => -signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Exited { code } => write!(f, "exited with code {code}"),
            Kind::Signaled { signal, core_dumped } => {
                write!(f, "killed by {}", signal_name(signal))?;
                if core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

/// `SIGKILL`, or `signal 34` for one that has no name.
pub(crate) fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(known) => known.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_for_both() {
        assert_eq!(ExitStatus::exited(0).exit_code(), 0);
        assert_eq!(ExitStatus::exited(8).exit_code(), 8);
        assert_eq!(ExitStatus::signaled(15, false).exit_code(), -15);
    }

    #[test]
    fn words() {
        assert_eq!(ExitStatus::exited(3).to_string(), "exited with code 3");
        assert_eq!(ExitStatus::signaled(11, true).to_string(), "killed by SIGSEGV (core dumped)");
        assert_eq!(ExitStatus::signaled(34, false).to_string(), "killed by signal 34");
    }
}
