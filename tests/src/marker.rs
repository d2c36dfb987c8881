//! How a run of the test binary learns which of a test's three processes it is.

use std::env;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::family::pid_of;

/// The environment variable that says so: `<parent's pid>:<role>:<directory>`.
///
/// Everything that a body starts inherits it. It names one parent, so that it means nothing to them; and a
/// test binary that finds a foreign one refuses to start processes, so that no mistake ends in a fork bomb.
const NAME: &str = "PROCESSION_TESTS_RUN";

/// What a process that was started by this crate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Starts the inner processes, adopts and reaps.
    Keeper,
    /// Runs the body.
    Body,
    /// Runs no body, but writes down what a warm process holds.
    Reference,
}

/// The marker of this process.
#[derive(Debug)]
pub(crate) struct Marker {
    pub(crate) role: Role,
    pub(crate) parent: u32,
    pub(crate) directory: PathBuf,
}

impl Marker {
    /// Reads the marker; `None` in the outer process.
    ///
    /// # Panics
    /// If it was meant for another process, which is an isolated test within an isolated test.
    pub(crate) fn read() -> Option<Self> {
        let value = env::var(NAME).ok()?;
        let marker = Self::parse(&value).unwrap_or_else(|| panic!("{NAME} is {value:?}, which is no marker"));
        assert!(
            marker.parent_lives(),
            "an isolated test cannot run within an isolated test: {NAME} is {value:?}"
        );
        Some(marker)
    }

    fn parse(value: &str) -> Option<Self> {
        let (parent, rest) = value.split_once(':')?;
        let (role, directory) = rest.split_once(':')?;
        let role = match role {
            "keeper" => Role::Keeper,
            "body" => Role::Body,
            "reference" => Role::Reference,
            _ => return None,
        };
        Some(Self { role, parent: parent.parse().ok()?, directory: PathBuf::from(directory) })
    }

    /// Name and value for a child of this process.
    pub(crate) fn for_child(role: Role, directory: &Path) -> (&'static str, String) {
        let role = match role {
            Role::Keeper => "keeper",
            Role::Body => "body",
            Role::Reference => "reference",
        };
        (NAME, format!("{}:{role}:{}", std::process::id(), directory.display()))
    }

    /// Makes this process end when the one that waits for it does.
    ///
    /// # Panics
    /// If the parent has ended already.
    pub(crate) fn follow_parent(&self) {
        set_parent_process_death_signal(Some(Signal::KILL)).expect("prctl(PR_SET_PDEATHSIG)");
        assert!(self.parent_lives(), "the parent ended before the test began");
    }

    /// Whether the one that waits for this process is still there.
    pub(crate) fn parent_lives(&self) -> bool {
        getppid().is_some_and(|parent: Pid| Some(parent) == pid_of(self.parent))
    }
}
