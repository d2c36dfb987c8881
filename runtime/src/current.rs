//! Who this process is.

use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::control::Control;
use crate::stopping::{Stopping, is_stopping};
use crate::sys;

/// Who a child was made to be; unset in a process that nobody of ours has started.
static BORN: OnceLock<Born> = OnceLock::new();

/// What a child's parent has told it about itself.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) name: String,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
    pub(crate) depth: u32,
}

/// Notes who this process is. Called once, as a child is taken over.
pub(crate) fn be(born: Born) {
    BORN.get_or_init(|| born);
}

/// How many generations of children stand above this process.
pub(crate) fn depth() -> u32 {
    BORN.get().map_or(0, |born| born.depth)
}

/// This process, as Procession knows it. Python's `multiprocessing.current_process()`.
///
/// # Examples
/// ```
/// use procession::{current, process};
///
/// #[process]
/// async fn who() -> (String, u32) {
///     (current().name().to_owned(), current().pid())
/// }
///
/// let (name, pid) = who().name("somebody").blocking().unwrap();
/// assert_eq!(name, "somebody");
/// assert_ne!(pid, current().pid());
/// assert!(!current().is_child());
/// ```
#[must_use]
pub fn current() -> Current {
    Current { born: BORN.get() }
}

/// This process, as Procession knows it; see [`current`].
#[derive(Debug, Clone, Copy)]
pub struct Current {
    born: Option<&'static Born>,
}

impl Current {
    /// The name that its parent gave it; in a program that was started otherwise, the name of its file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.born.map_or_else(program_name, |born| &born.name)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Waits until this process is asked to stop, by [`Process::stop`](crate::Process::stop). A function that can
    /// come to an early end awaits this beside its work; one that does not is ended by signals when its time is over.
    ///
    /// In a process that nobody of ours has started it never comes.
    pub fn stopping(&self) -> Stopping {
        Stopping::new()
    }

    /// Whether this process has been asked to stop: for code that computes, and looks up now and then.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        is_stopping()
    }

    /// Whether it was started by Procession, to run a process function.
    #[must_use]
    pub const fn is_child(&self) -> bool {
        self.born.is_some()
    }
}

/// The process that has started this one; `None` in a program that was started otherwise. Python's
/// `multiprocessing.parent_process()`.
///
/// # Examples
/// ```
/// use procession::{current, parent, process};
///
/// #[process]
/// fn child_of() -> Option<u32> {
///     parent().map(|parent| parent.pid())
/// }
///
/// assert_eq!(child_of().blocking().unwrap(), Some(current().pid()));
/// assert!(parent().is_none());
/// ```
#[must_use]
pub fn parent() -> Option<Parent> {
    BORN.get().map(|born| Parent { born })
}

/// The process that has started this one; see [`parent`].
#[derive(Debug, Clone, Copy)]
pub struct Parent {
    born: &'static Born,
}

impl Parent {
    /// The name of the parent, as [`Current::name`] gives it there.
    #[must_use]
    #[expect(clippy::misnamed_getters, reason = "it is the parent's name, which its child keeps")]
    pub fn name(&self) -> &'static str {
        &self.born.parent_name
    }

    /// The process id that the parent has, or had.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.born.parent_pid
    }

    /// Waits until the parent is gone.
    ///
    /// A child is killed with its parent, so that most never see this: only one that has left its process group, by
    /// `setsid(2)` for example, outlives its parent.
    ///
    /// # Errors
    /// If the system has no descriptors left to watch the parent.
    ///
    /// # Cancel safety
    /// Safe: asking again gives the same answer.
    pub async fn died(&self) -> std::io::Result<()> {
        let Some(parent) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let pidfd = match pidfd_open(parent, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        };
        // It may have died, and its number been given away, before the descriptor was made.
        if sys::lifeline_is_cut() {
            return Ok(());
        }
        Control::get().map_err(std::io::Error::other)?.readable(pidfd).await
    }
}

fn program_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let path = std::env::args_os().next().map(std::path::PathBuf::from).unwrap_or_default();
        path.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned())
    })
}
