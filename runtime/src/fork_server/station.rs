//! What a process passes on to one that it starts by exec, and what of that can be told to one that a server forks.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::process::{
    Pid, Resource, Rlimit, fchdir, getpriority_process, getrlimit, setpriority_process, setrlimit, umask,
};
use rustix::thread::gettid;
use serde::{Deserialize, Serialize};

use crate::surroundings::{Environment, string};
use crate::sys;

/// All limits that there are; what is told of one is its index here.
const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

type Limits = [Rlimit; RESOURCES.len()];

/// Whether a line of a thread's `/proc/.../status` tells what a process cannot be given later: who it is, what it may do, and
/// where it runs.
fn is_fixed(key: &[u8]) -> bool {
    matches!(
        key,
        b"Uid"
            | b"Gid"
            | b"Groups"
            | b"CapInh"
            | b"CapPrm"
            | b"CapEff"
            | b"CapBnd"
            | b"CapAmb"
            | b"NoNewPrivs"
            | b"Seccomp"
            | b"Seccomp_filters"
            | b"Cpus_allowed"
            | b"Mems_allowed"
    )
}

type Variable = (OsString, OsString);

/// `None` takes a variable away.
type Change = (OsString, Option<OsString>);

/// Longer than that file mostly is.
const STATUS_ROOM: usize = 4 << 10;

/// What of a thread a child cannot be made later, and its umask, which `/proc` shows beside it.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    /// The lines.
    fixed: Vec<u8>,
    /// Not every kernel shows it.
    umask: Option<u32>,
}

impl Status {
    /// Reads it anew, from its first byte.
    fn read(file: &OwnedFd) -> io::Result<Self> {
        let mut room = Vec::with_capacity(STATUS_ROOM);
        // Each call makes the kernel write the file anew: room for all of it makes it one call, if nobody is in more
        // groups than most are.
        while rustix::io::pread(file, spare_capacity(&mut room), 0)? == room.capacity() {
            room = Vec::with_capacity(2 * room.capacity());
        }
        let (mut fixed, mut umask) = (Vec::with_capacity(1 << 10), None);
        for line in room.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            match &line[..colon] {
                b"Umask" => umask = std::str::from_utf8(&line[colon + 1..]).ok(),
                key if is_fixed(key) => fixed.extend_from_slice(line),
                _ => {}
            }
        }
        let umask = umask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
        Ok(Self { fixed, umask })
    }
}

/// From where a thread can be looked at, by others too.
#[derive(Debug)]
pub(crate) struct Lookout {
    thread: Pid,
    /// Kept open: to find it by its path takes as long as a third of what it is read for.
    status: OwnedFd,
}

impl Lookout {
    /// That on the calling thread.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub(crate) fn here() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let status = rustix::fs::open(c"/proc/thread-self/status", flags, Mode::empty())?;
        Ok(Self { thread: gettid(), status })
    }

    /// Where that thread is now.
    ///
    /// # Errors
    /// Those of reading from `/proc`, of `stat(2)` and `getpriority(2)`.
    pub(crate) fn station(&self) -> io::Result<Station> {
        Ok(Station {
            status: Status::read(&self.status)?,
            root: identity_of(c"/")?,
            directory: identity_of(c".")?,
            niceness: getpriority_process(Some(self.thread))?,
            limits: RESOURCES.map(getrlimit),
        })
    }
}

/// Who a thread is, and where: a server whose own is another cannot fork children for it.
#[derive(Debug)]
pub(crate) struct Station {
    status: Status,
    root: (u64, u64),
    directory: (u64, u64),
    niceness: i32,
    limits: Limits,
}

impl Station {
    /// Whether children of a server that was started there may be taken for children of a process that is here.
    ///
    /// What an unprivileged child could not do by itself, be less nice or have a higher hard limit, it must be born with.
    pub(crate) fn suits(&self, here: &Self) -> bool {
        let is_higher_now = |(there, here): (&Rlimit, &Rlimit)| match (there.maximum, here.maximum) {
            (Some(there), here) => here.is_none_or(|here| here > there),
            (None, _) => false,
        };
        self.status.fixed == here.status.fixed
            && self.root == here.root
            && here.niceness >= self.niceness
            && !self.limits.iter().zip(&here.limits).any(is_higher_now)
    }
}

/// What a process passes on to one that it starts by exec, and must tell one that is forked elsewhere. A server tells its
/// own: its parent's threads may change theirs while it starts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Estate {
    holdings: Holdings,
    environment: Vec<Variable>,
}

/// All of it but the environment.
#[derive(Debug, Serialize, Deserialize)]
struct Holdings {
    umask: Option<u32>,
    directory: (u64, u64),
    niceness: i32,
    /// Soft and hard, in the order of [`RESOURCES`].
    limits: [(Option<u64>, Option<u64>); RESOURCES.len()],
}

impl Holdings {
    fn of(here: &Station) -> Self {
        Self {
            umask: here.status.umask,
            directory: here.directory,
            niceness: here.niceness,
            limits: here.limits.map(|limit| (limit.current, limit.maximum)),
        }
    }
}

impl Estate {
    /// That of this process, which is here.
    pub(crate) fn of(here: &Station) -> Self {
        Self { holdings: Holdings::of(here), environment: std::env::vars_os().collect() }
    }

    /// What a child that has this is to be told by this process, which is here.
    ///
    /// # Errors
    /// If the environment cannot be one.
    pub(crate) fn difference_from(&self, here: &Station, changes: &Environment) -> io::Result<Inherited> {
        let is_the_same = changes.is_empty() && is_that_of_this_process(&self.environment);
        let environment = if is_the_same {
            Vec::new()
        } else {
            difference(&self.environment, std::env::vars_os().collect(), changes)?
        };
        Ok(self.holdings.difference(&Holdings::of(here), environment))
    }

    /// What a process that has this lacks to have that.
    ///
    /// # Errors
    /// If the environment cannot be one.
    pub(crate) fn difference(&self, wanted: &Self) -> io::Result<Inherited> {
        let environment = wanted.environment.iter().cloned().collect();
        let environment = difference(&self.environment, environment, &Environment::default())?;
        Ok(self.holdings.difference(&wanted.holdings, environment))
    }
}

impl Holdings {
    fn difference(&self, wanted: &Self, environment: Vec<Change>) -> Inherited {
        let limits = (0_u8..).zip(self.limits.iter().zip(&wanted.limits));
        let limits = limits.filter(|(_, (has, is_to_have))| has != is_to_have);
        Inherited {
            streams: [false; 3],
            directory: self.directory != wanted.directory,
            environment,
            umask: wanted.umask.filter(|_| self.umask != wanted.umask),
            niceness: (self.niceness != wanted.niceness).then_some(wanted.niceness),
            limits: limits.map(|(index, (_, (soft, hard)))| (index, *soft, *hard)).collect(),
        }
    }
}

fn identity_of(path: &CStr) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::stat(path)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// As it nearly always is. The standard library alone may read the environment while other threads change it, and it does so
/// by making a copy.
fn is_that_of_this_process(there: &[Variable]) -> bool {
    let mut rest = there.iter();
    std::env::vars_os().all(|variable| rest.next() == Some(&variable)) && rest.next().is_none()
}

fn difference(
    there: &[Variable],
    parents: BTreeMap<OsString, OsString>,
    changes: &Environment,
) -> io::Result<Vec<Change>> {
    let there: BTreeMap<_, _> = there.iter().cloned().collect();
    let here = changes.applied_to(parents)?;
    let gone = there.keys().filter(|key| !here.contains_key(*key)).map(|key| (key.clone(), None));
    let set = here.iter().filter(|(key, value)| there.get(*key) != Some(*value));
    Ok(gone.chain(set.map(|(key, value)| (key.clone(), Some(value.clone())))).collect())
}

/// What a forked child has from its parent that its server has not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Inherited {
    /// Which of the standard streams come beside this; the others are `/dev/null`.
    pub(crate) streams: [bool; 3],
    /// Whether the working directory comes beside this, as the last.
    pub(crate) directory: bool,
    environment: Vec<Change>,
    umask: Option<u32>,
    niceness: Option<i32>,
    limits: Vec<(u8, Option<u64>, Option<u64>)>,
}

impl Inherited {
    /// The standard streams alone.
    pub(crate) fn streams() -> Self {
        Self { streams: [true; 3], ..Self::default() }
    }

    /// The parent's working directory, if it is to come beside this.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub(crate) fn open_directory(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(".", flags, Mode::empty());
        Ok(self.directory.then(open).transpose()?)
    }

    /// Takes it over. No other thread may be there yet.
    pub(crate) fn apply(self, beside: Vec<OwnedFd>) -> Result<(), String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: rustix::io::Errno| format!("{what}: {error}")
        };
        let mut beside = beside.into_iter();
        for (number, _) in (0..).zip(self.streams).filter(|(_, comes)| *comes) {
            let stream = beside.next().ok_or("a standard stream has not come")?;
            put(&stream, number).map_err(failed("cannot place a standard stream"))?;
        }
        if self.directory {
            let directory = beside.next().ok_or("the working directory has not come")?;
            fchdir(directory).map_err(failed("cannot enter the parent's working directory"))?;
        }
        if let Some(mask) = self.umask {
            umask(Mode::from_raw_mode(mask));
        }
        if let Some(niceness) = self.niceness {
            setpriority_process(None, niceness).map_err(failed("cannot be as nice as the parent"))?;
        }
        for (index, current, maximum) in self.limits {
            let resource = RESOURCES.get(usize::from(index)).ok_or("a limit of an unknown resource")?;
            let limit = Rlimit { current, maximum };
            setrlimit(*resource, limit).map_err(failed("cannot take over the parent's limits"))?;
        }
        if !self.environment.is_empty() {
            sys::replace_environment(changed(self.environment).map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

fn put(stream: &OwnedFd, number: usize) -> rustix::io::Result<()> {
    match number {
        0 => rustix::stdio::dup2_stdin(stream),
        1 => rustix::stdio::dup2_stdout(stream),
        _ => rustix::stdio::dup2_stderr(stream),
    }
}

/// This process's environment with these changes.
fn changed(changes: Vec<Change>) -> io::Result<Vec<CString>> {
    let mut variables: BTreeMap<_, _> = std::env::vars_os().collect();
    for (key, value) in changes {
        match value {
            Some(value) => drop(variables.insert(key, value)),
            None => drop(variables.remove(&key)),
        }
    }
    variables.iter().map(|(key, value)| string(key, value)).collect()
}

/// The parent's own standard streams, as far as it has any: what is closed at an exec is none, but something that got the
/// number of a stream that was closed.
pub(crate) fn own_streams() -> [Option<BorrowedFd<'static>>; 3] {
    let open = |stream: BorrowedFd<'static>| {
        let is_passed_on = fcntl_getfd(stream).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC));
        is_passed_on.then_some(stream)
    };
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].map(open)
}
