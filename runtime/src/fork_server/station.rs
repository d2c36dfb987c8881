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

/// What of a thread's `/proc/.../status` a process cannot be given later: who it is, what it may do, and where it runs.
const FIXED: [&[u8]; 13] = [
    b"Uid",
    b"Gid",
    b"Groups",
    b"CapInh",
    b"CapPrm",
    b"CapEff",
    b"CapBnd",
    b"CapAmb",
    b"NoNewPrivs",
    b"Seccomp",
    b"Seccomp_filters",
    b"Cpus_allowed",
    b"Mems_allowed",
];

type Variable = (OsString, OsString);

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
    fn read(path: &CStr) -> io::Result<Self> {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut room = Vec::with_capacity(STATUS_ROOM);
        // Each call makes the kernel write the file anew: room for all of it makes it one call, if nobody is in more
        // groups than most are.
        while rustix::io::read(&file, spare_capacity(&mut room))? > 0 && room.len() == room.capacity() {
            room.reserve(room.capacity());
        }
        let (mut fixed, mut umask) = (Vec::with_capacity(1 << 10), None);
        for line in room.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            match &line[..colon] {
                b"Umask" => umask = std::str::from_utf8(&line[colon + 1..]).ok(),
                key if FIXED.contains(&key) => fixed.extend_from_slice(line),
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
    path_to_status: CString,
}

impl Lookout {
    /// That on the calling thread.
    ///
    /// # Errors
    /// Those of `readlink(2)`.
    pub(crate) fn here() -> io::Result<Self> {
        let thread = rustix::fs::readlink(c"/proc/thread-self", Vec::new())?;
        let path = [b"/proc/", thread.as_bytes(), b"/status"].concat();
        Ok(Self { thread: gettid(), path_to_status: CString::new(path)? })
    }

    /// Where that thread is now.
    ///
    /// # Errors
    /// Those of reading from `/proc`, of `stat(2)` and `getpriority(2)`.
    pub(crate) fn station(&self) -> io::Result<Station> {
        Ok(Station {
            status: Status::read(&self.path_to_status)?,
            root: identity_of(c"/")?,
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
    umask: Option<u32>,
    directory: (u64, u64),
    niceness: i32,
    /// Soft and hard, in the order of [`RESOURCES`].
    limits: Vec<(Option<u64>, Option<u64>)>,
    environment: Vec<Variable>,
}

impl Estate {
    /// That of a process which is here.
    ///
    /// # Errors
    /// Those of `stat(2)`.
    pub(crate) fn of(here: &Station) -> io::Result<Self> {
        Ok(Self {
            umask: here.status.umask,
            directory: identity_of(c".")?,
            niceness: here.niceness,
            limits: here.limits.iter().map(|limit| (limit.current, limit.maximum)).collect(),
            environment: std::env::vars_os().collect(),
        })
    }

    /// What a child that has this is to be told by a parent that has that.
    ///
    /// # Errors
    /// If the environment cannot be one.
    pub(crate) fn difference(&self, parents: &Self, changes: &Environment) -> io::Result<Inherited> {
        let limits = (0_u8..).zip(self.limits.iter().zip(&parents.limits));
        let limits = limits.filter(|(_, (has, is_to_have))| has != is_to_have);
        Ok(Inherited {
            streams: [false; 3],
            directory: self.directory != parents.directory,
            environment: difference(&self.environment, &parents.environment, changes)?,
            umask: parents.umask.filter(|_| self.umask != parents.umask),
            niceness: (self.niceness != parents.niceness).then_some(parents.niceness),
            limits: limits.map(|(index, (_, (soft, hard)))| (index, *soft, *hard)).collect(),
        })
    }
}

fn identity_of(path: &CStr) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::stat(path)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn difference(
    there: &Vec<Variable>,
    parents: &Vec<Variable>,
    changes: &Environment,
) -> io::Result<Vec<(OsString, Option<OsString>)>> {
    // As it nearly always is.
    if there == parents && changes.is_empty() {
        return Ok(Vec::new());
    }
    let there: BTreeMap<_, _> = there.iter().cloned().collect();
    let here = changes.applied_to(parents.iter().cloned().collect())?;
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
    environment: Vec<(OsString, Option<OsString>)>,
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
fn changed(changes: Vec<(OsString, Option<OsString>)>) -> io::Result<Vec<CString>> {
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
