//! Who this process is.

use std::sync::OnceLock;

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
}

fn program_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let path = std::env::args_os().next().map(std::path::PathBuf::from).unwrap_or_default();
        path.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned())
    })
}
