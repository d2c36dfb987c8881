//! What to run and how: everything that a call knows before it runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::error::{Cause, Stage};
use crate::surroundings::Surroundings;
use crate::wire::{Arguments, EncodeError, Limits, Packet};

/// How a child comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// A fork of a small process, the *fork server*, which was itself a fresh start of this program: about half the
    /// time of [`Spawn`](Self::Spawn). Children share what [`preload`](fn@crate::preload) has left in memory.
    ///
    /// Each call's environment, directory, umask, niceness, limits, streams and name hold, and what it does not say is the
    /// parent's at the time of the call. Where credentials, capabilities, seccomp filters, affinity or root directory have
    /// changed for the thread that starts children, a new server is started; that thread has what the one had that made
    /// the first call, and what the C library changes for all threads, as it does user and group. What stays as it was when the
    /// server started: cgroup, namespaces, Landlock domain, security label, scheduling policy, I/O priority,
    /// `oom_score_adj`, and what the dynamic linker and the C library have read from the environment. Who changes these in a
    /// running program does so before its first call, or chooses `Spawn`.
    ///
    /// All children have the server's address-space layout and stack guard: one that is taken over by hostile input
    /// knows its siblings'. For hostile input, choose `Spawn`.
    #[default]
    ForkServer,
    /// A fresh start of this program by `posix_spawn`: nothing of the parent's memory is shared or copied, and
    /// the address-space layout is the child's own.
    Spawn,
}

/// The start method of calls that do not choose: zero is none, else one more than its place in [`METHODS`].
static DEFAULT: AtomicU8 = AtomicU8::new(0);
const METHODS: [StartMethod; 2] = [StartMethod::ForkServer, StartMethod::Spawn];

impl StartMethod {
    /// Makes this the method of all calls that do not choose one, in this process and in those that it starts from now on.
    /// Python's `set_start_method`.
    ///
    /// If nobody sets it, it is [`ForkServer`](Self::ForkServer) where a fork server can be: in a program that has a
    /// second thread before `main`, which a library may start, it is [`Spawn`](Self::Spawn).
    pub fn set_default(self) {
        let place = (1_u8..).zip(METHODS).find(|(_, method)| *method == self);
        DEFAULT.store(place.map_or(0, |(place, _)| place), Relaxed);
    }

    /// The method of calls that do not choose one, if it was set.
    pub(crate) fn set() -> Option<Self> {
        METHODS.get(usize::from(DEFAULT.load(Relaxed)).checked_sub(1)?).copied()
    }
}

/// What to run and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) entry: &'static Entry,
    pub(crate) arguments: Result<Arguments, Box<EncodeError>>,
    pub(crate) name: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Limits,
    pub(crate) start_method: Option<StartMethod>,
    pub(crate) surroundings: Surroundings,
    pub(crate) daemon: bool,
    pub(crate) kill_on_drop: bool,
}

impl Plan {
    /// The encoded arguments, if they may be sent.
    pub(crate) fn sendable_arguments(&self) -> Result<Packet, Cause> {
        let arguments = self.arguments.as_ref().map_err(|error| EncodeError::clone(error))?;
        let (size, limit) = (arguments.bytes().len() as u64, self.limits.max_message);
        if size > limit {
            return Err(Cause::TooLarge { size, limit });
        }
        self.limits.check_handles(arguments.handles().len())?;
        Ok(arguments.packet())
    }

    /// Whether it can run in a process that it has not for itself.
    #[inline]
    pub(crate) fn check_that_it_is_a_task(&self) -> Result<(), Cause> {
        let is_one = self.start_method.is_none() && !self.daemon && !self.kill_on_drop;
        if is_one && self.surroundings.are_the_parents() {
            return Ok(());
        }
        let reason = "how a process starts and ends, its environment, directory, streams and limits are not those of a task, which has \
                      no process of its own: set them in the function, or in what each worker does first";
        Err(Cause::start(Stage::Setup, reason))
    }

    /// What runs: the arguments' handles go with it, and are closed here as soon as the child has them.
    pub(crate) fn take(&mut self) -> Self {
        let taken = self.clone();
        self.forget_handles();
        taken
    }

    pub(crate) fn forget_handles(&mut self) {
        if let Ok(arguments) = &mut self.arguments {
            arguments.forget_handles();
        }
    }

    /// What to call it before it has a number.
    pub(crate) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.entry.place.name)
    }

    /// The name that was given, or the function's with a number that no other child of this process has.
    pub(crate) fn name_of_next(&self) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        self.name
            .clone()
            .unwrap_or_else(|| format!("{}-{}", self.entry.place.name, NUMBER.fetch_add(1, Relaxed)))
    }
}
