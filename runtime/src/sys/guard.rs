//! The guard: which processes may start children, and what tells a child.
//!
//! A process in which our constructor has run (see `constructor`), or which has called `init`, may start children:
//! what happened in it will happen in the child too, which is the same image. No other process may, because its
//! child would run `main`, and start a child, which would run `main`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The second argument of a child. The first is the parent's own; the parent's others follow.
pub(crate) const MARKER: &CStr = c"--procession-child-of-this-program";

static ARMED: AtomicBool = AtomicBool::new(false);

/// Whether a child of this process would be taken over.
pub(crate) fn armed() -> bool {
    ARMED.load(Relaxed)
}

/// Notes that a child of this process would be taken over.
pub(crate) fn arm() {
    ARMED.store(true, Relaxed);
}
