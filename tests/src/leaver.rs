//! A child that leaves its group, and so outlives its parent until it sees that this has died.

use std::path::PathBuf;

use procession::{parent, process};
use rustix::process::{Pid, setpgid};

use crate::meeting::arrive;

/// Has a child that leaves for this group, and waits for it.
///
/// # Panics
/// If the child fails.
#[process]
pub async fn has_a_child_that_leaves(place: PathBuf, group: i32) {
    leaves(place, group).await.expect("a child that ends by itself");
}

/// Comes to the place when it has left, and to another, by the extension `told`, when it has heard of its parent's death.
#[process]
async fn leaves(place: PathBuf, group: i32) {
    setpgid(None, Pid::from_raw(group)).expect("a group of this session");
    arrive(&place);
    parent().expect("a child has a parent").died().await.expect("a death can be waited for");
    arrive(&place.with_extension("told"));
}
