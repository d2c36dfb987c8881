//! Messages that were accepted and whose sender is done with, or busy: what an orderly end waits for.

use std::sync::{Condvar, Mutex, PoisonError};

static COUNT: Mutex<usize> = Mutex::new(0);
static NONE: Condvar = Condvar::new();

/// That something is still to be written. Over when dropped.
#[derive(Debug)]
pub(super) struct Lingering(());

impl Lingering {
    pub(super) fn begin() -> Self {
        *COUNT.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            NONE.notify_all();
        }
    }
}

/// Blocks until everything that was accepted is written, or its receiver is gone.
pub(crate) fn wait_until_written() {
    let count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    drop(NONE.wait_while(count, |count| *count > 0));
}
