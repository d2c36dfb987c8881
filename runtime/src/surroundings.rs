//! What a child finds when it starts: environment, directory, limits, and its standard streams.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::process::{Rlimit, chdir, setrlimit, umask};
use serde::{Deserialize, Serialize};

use crate::stdio::Stdio;

/// What a call says about the surroundings of its child; what it does not say is the parent's. Most say nothing, and carry nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings(Option<Box<Said>>);

/// What there is to say about them.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) environment: Environment,
    pub(crate) settings: Settings,
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

impl Said {
    const NOTHING: Self = Self {
        environment: Environment { cleared: false, changes: BTreeMap::new() },
        settings: Settings { directory: None, umask: None, nice: 0, limits: BTreeMap::new() },
        stdin: Stdio::null(),
        stdout: Stdio::inherit(),
        stderr: Stdio::inherit(),
    };
}

impl Deref for Surroundings {
    type Target = Said;

    fn deref(&self) -> &Said {
        static NOTHING: Said = Said::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Surroundings {
    fn deref_mut(&mut self) -> &mut Said {
        self.0.get_or_insert_with(|| Box::new(Said::NOTHING))
    }
}

impl Surroundings {
    /// Whether a call says nothing about them.
    #[inline]
    pub(crate) fn are_the_parents(&self) -> bool {
        let Some(said) = &self.0 else { return true };
        let Said { environment, settings, stdin, stdout, stderr } = &**said;
        let Settings { directory, umask, nice, limits } = settings;
        let streams_are = stdin.is_null() && stdout.is_inherited() && stderr.is_inherited();
        let settings_are = directory.is_none() && umask.is_none() && *nice == 0 && limits.is_empty();
        streams_are && settings_are && environment.is_empty()
    }

    /// Whether the parent writes down what the child writes.
    pub(crate) fn are_traced(&self) -> bool {
        self.stdout.is_traced() || self.stderr.is_traced()
    }
}

/// How a child's environment differs from its parent's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    cleared: bool,
    /// `None` takes a variable away.
    changes: BTreeMap<OsString, Option<OsString>>,
}

impl Environment {
    pub(crate) fn set(&mut self, key: OsString, value: OsString) {
        self.changes.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: OsString) {
        self.changes.insert(key, None);
    }

    pub(crate) fn clear(&mut self) {
        self.cleared = true;
        self.changes.clear();
    }

    /// Whether there are no changes.
    pub(crate) fn is_empty(&self) -> bool {
        !self.cleared && self.changes.is_empty()
    }

    /// The variables that a child of a process with these has.
    ///
    /// # Errors
    /// If a name is empty or has a `=` in it, or if a NUL stands in a name or a value.
    pub(crate) fn applied_to(
        &self,
        inherited: BTreeMap<OsString, OsString>,
    ) -> io::Result<BTreeMap<OsString, OsString>> {
        let mut variables = if self.cleared { BTreeMap::new() } else { inherited };
        for (key, value) in &self.changes {
            match value {
                Some(value) => {
                    string(key, value)?;
                    variables.insert(key.clone(), value.clone());
                }
                None => drop(variables.remove(key)),
            }
        }
        Ok(variables)
    }

    /// All of it, as `execve(2)` wants it. Without changes the order is this process's: a fork server then has its parent's
    /// environment in its parent's order, so that one look tells that they are the same.
    ///
    /// # Errors
    /// As [`applied_to`](Self::applied_to).
    pub(crate) fn strings(&self) -> io::Result<Vec<CString>> {
        if self.is_empty() {
            return std::env::vars_os().map(|(key, value)| string(&key, &value)).collect();
        }
        let variables = self.applied_to(std::env::vars_os().collect())?;
        variables.iter().map(|(key, value)| string(key, value)).collect()
    }
}

/// `key=value`.
pub(crate) fn string(key: &OsStr, value: &OsStr) -> io::Result<CString> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    // The standard library gives names that begin with `=`, which some programs have.
    if key.is_empty() || key.as_encoded_bytes()[1..].contains(&b'=') {
        return Err(invalid(format!("{} cannot be the name of a variable", key.display())));
    }
    // With room for the NUL at the end, which would else move it all.
    let mut bytes = Vec::with_capacity(key.len() + value.len() + 2);
    bytes.extend_from_slice(key.as_bytes());
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    CString::new(bytes).map_err(|_nul| invalid(format!("the variable {} has a NUL in it", key.display())))
}

/// What a child does to itself before its function runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Paths are bytes: serde refuses those that are not UTF-8.
    pub(crate) directory: Option<OsString>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: i32,
    pub(crate) limits: BTreeMap<Resource, (u64, u64)>,
}

/// A resource that the kernel limits for each process. See `getrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resource {
    /// Address space, in bytes (`RLIMIT_AS`): what is mapped, used or not.
    AddressSpace,
    /// A core dump, in bytes (`RLIMIT_CORE`).
    Core,
    /// Time on a processor, in seconds (`RLIMIT_CPU`); SIGXCPU at the soft limit, SIGKILL at the hard one.
    Cpu,
    /// The heap, in bytes (`RLIMIT_DATA`).
    Data,
    /// A file that is written, in bytes (`RLIMIT_FSIZE`).
    FileSize,
    /// Memory that is locked, in bytes (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// Descriptors: one more than the highest number (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Processes and threads of the user (`RLIMIT_NPROC`); it does not hold for root.
    Processes,
    /// The stack of the main thread, in bytes (`RLIMIT_STACK`).
    Stack,
}

impl From<Resource> for rustix::process::Resource {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::AddressSpace => Self::As,
            Resource::Core => Self::Core,
            Resource::Cpu => Self::Cpu,
            Resource::Data => Self::Data,
            Resource::FileSize => Self::Fsize,
            Resource::LockedMemory => Self::Memlock,
            Resource::OpenFiles => Self::Nofile,
            Resource::Processes => Self::Nproc,
            Resource::Stack => Self::Stack,
        }
    }
}

impl Settings {
    /// Applies all of it to this process; limits last, because they may forbid the rest.
    pub(crate) fn apply(&self) -> Result<(), String> {
        let failed = |what: String| move |error: rustix::io::Errno| format!("{what}: {error}");
        if let Some(directory) = &self.directory {
            let shown = PathBuf::from(directory);
            chdir(&shown).map_err(failed(format!("cannot enter {}", shown.display())))?;
        }
        if let Some(mask) = self.umask {
            umask(Mode::from_raw_mode(mask));
        }
        if self.nice != 0 {
            rustix::process::nice(self.nice).map_err(failed(format!("cannot be nicer by {}", self.nice)))?;
        }
        for (resource, (soft, hard)) in &self.limits {
            // The kernel's own number for "no limit" is the highest.
            let limit = |bound: u64| (bound != u64::MAX).then_some(bound);
            let limits = Rlimit { current: limit(*soft), maximum: limit(*hard) };
            let what = format!("cannot limit {resource:?} to {soft} and {hard}");
            setrlimit((*resource).into(), limits).map_err(failed(what))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(environment: &Environment) -> Vec<String> {
        let strings = environment.strings().unwrap();
        strings.into_iter().map(|string| string.into_string().unwrap()).collect()
    }

    #[test]
    fn changes_to_an_environment() {
        let mut environment = Environment::default();
        environment.set("PATH".into(), "/nowhere".into());
        environment.remove("HOME".into());
        let strings = shown(&environment);
        assert_eq!(
            strings.iter().filter(|string| string.starts_with("PATH=")).collect::<Vec<_>>(),
            ["PATH=/nowhere"]
        );
        assert!(!strings.iter().any(|string| string.starts_with("HOME=")));
        environment.clear();
        environment.set("B".into(), "2=3".into());
        environment.set("A".into(), "".into());
        assert_eq!(shown(&environment), ["A=", "B=2=3"]);
    }

    #[test]
    fn names_that_cannot_be() {
        for (key, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            let mut environment = Environment::default();
            environment.set(key.into(), value.into());
            assert!(environment.strings().is_err(), "{key:?}={value:?}");
        }
    }
}
