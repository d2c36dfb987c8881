//! What is done at an orderly end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

use crate::sys;

type Hook = Box<dyn FnOnce() + Send>;

static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

/// Has something done when this process comes to an orderly end: when its function has returned or panicked, when it
/// calls [`std::process::exit`], and, in a program, when `main` returns. The last hook runs first. Python's `atexit`.
///
/// No hook runs where a signal ends the process, an abort included. A hook that panics is told on stderr, and the next
/// one runs.
pub fn on_exit(hook: impl FnOnce() + Send + 'static) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| sys::at_exit(run_hooks));
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
}

extern "C" fn run_hooks() {
    // Not while the lock is held: a hook may add another.
    while let Some(hook) = { HOOKS.lock().unwrap_or_else(PoisonError::into_inner).pop() } {
        drop(catch_unwind(AssertUnwindSafe(hook)));
    }
}
