//! Children whose value was handed on, and whose end is still to come.
//!
//! Whoever awaits a call wants its value, and need not wait until the kernel has taken the process apart. But no more than
//! a few may leave at a time, and a program that ends lets them come to their end: what they do there, for example write
//! what they have counted, is not lost.

use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use crate::life::LEAVE_LIMIT;
use crate::sys;

/// How many may leave at a time; the values of others wait for their ends.
const MOST: u32 = 16;

/// How much longer than a child may take to leave a program that ends waits for it.
const MARGIN: Duration = Duration::from_secs(1);

/// Who they are children of, and how many there are: a `fork` copies this, but not the children.
static LEAVING: Mutex<(u32, u32)> = Mutex::new((0, 0));
static LEFT: Condvar = Condvar::new();

fn leaving() -> MutexGuard<'static, (u32, u32)> {
    LEAVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Leaving(());

impl Leaving {
    /// `None` if there are too many.
    pub(crate) fn begin() -> Option<Self> {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| sys::at_exit(wait_for_all));
        let mut leaving = leaving();
        if leaving.0 != std::process::id() {
            *leaving = (std::process::id(), 0);
        }
        if leaving.1 == MOST {
            return None;
        }
        leaving.1 += 1;
        Some(Self(()))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        leaving().1 -= 1;
        LEFT.notify_all();
    }
}

extern "C" fn wait_for_all() {
    let leaving = leaving();
    if leaving.0 == std::process::id() {
        // One that takes longer than it may is being killed, with this process at the latest.
        drop(LEFT.wait_timeout_while(leaving, LEAVE_LIMIT + MARGIN, |leaving| leaving.1 > 0));
    }
}
