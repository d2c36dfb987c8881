//! The guard: which processes may start children, and what tells a child.
//!
//! A process in which our constructor has run (see `constructor`), or which has called `init`, may start children:
//! what happened in it will happen in the child too, which is the same image. No other process may, because its
//! child would run `main`, and start a child, which would run `main`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The second argument of a child. The first is the parent's own; the parent's others follow.
///
/// It names the version, so that two of them in one program do not take over one another's children.
pub(crate) const MARKER: &CStr = {
    let marker = concat!("--procession-child-", env!("CARGO_PKG_VERSION"), "\0");
    match CStr::from_bytes_with_nul(marker.as_bytes()) {
        Ok(marker) => marker,
        Err(_) => panic!("it ends with its only NUL"),
    }
};

static ARMED: AtomicBool = AtomicBool::new(false);

/// Whether a child of this process would be taken over.
pub(crate) fn armed() -> bool {
    ARMED.load(Relaxed)
}

/// Notes that a child of this process would be taken over.
pub(crate) fn arm() {
    ARMED.store(true, Relaxed);
}
