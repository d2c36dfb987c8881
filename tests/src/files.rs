//! Files that a test may leave: shared memory objects and temporary ones.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::proc::{all, descendants_of};

/// The files that there are at a moment.
#[derive(Debug, Default)]
pub(crate) struct Files {
    shared: BTreeSet<PathBuf>,
    temporary: BTreeSet<PathBuf>,
}

impl Files {
    /// This user's files in the directories for shared memory objects and for temporary files.
    pub(crate) fn now(shared: &Path, temporary: &Path) -> Self {
        let shared = paths_in(shared).filter(|path| is_ours(path)).collect();
        Self { shared, temporary: paths_in(temporary).collect() }
    }

    /// What was not there before, one line each. That something is gone says nothing: others have objects too.
    pub(crate) fn left_since(&self, before: &Self) -> Vec<String> {
        let shared = self.shared.difference(&before.shared);
        // In this order: what is removed and then closed by others, between the two looks, is none of ours.
        let shared = shared.filter(|path| !is_held_elsewhere(path) && is_ours(path));
        let shared = shared.map(|path| format!("left behind: shared memory {}", path.display()));
        let temporary = self.temporary.difference(&before.temporary);
        let temporary = temporary.map(|path| format!("left behind: temporary file {}", path.display()));
        shared.chain(temporary).collect()
    }
}

fn paths_in(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.uid() == rustix::process::geteuid().as_raw())
}

/// Whether another program, or a test next to this one, has it open or mapped, so that it is none of ours.
fn is_held_elsewhere(path: &Path) -> bool {
    let ours = descendants_of(process::id());
    let is_other = |pid: u32| pid != process::id() && ours.iter().all(|it| it.pid != pid);
    all().into_iter().any(|it| is_other(it.pid) && holds(it.pid, path))
}

fn holds(pid: u32, path: &Path) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let is_mapped = path.to_str().is_some_and(|path| maps.lines().any(|line| line.ends_with(path)));
    let mut fds = paths_in(Path::new(&format!("/proc/{pid}/fd")));
    is_mapped || fds.any(|fd| fs::read_link(fd).is_ok_and(|target| target == path))
}
