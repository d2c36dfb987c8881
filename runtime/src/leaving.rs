//! Children whose value was handed on, and whose end is still to come.
//!
//! Whoever awaits a call wants its value, and need not wait until the kernel has taken the process apart. But no more than
//! a few may leave at a time, and a program that ends lets them come to their end: what they do there, for example write
//! what they have counted, is not lost.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use crate::life::LEAVE_LIMIT;
use crate::sys;

/// How many may leave at a time; the values of others wait for their ends.
const MOST: u32 = 16;

/// How much longer than a child may take to leave a program that ends waits for it.
const MARGIN: Duration = Duration::from_secs(1);

static LEAVING: Mutex<u32> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();
/// Who they are children of: a `fork` copies all this, but not the children, nor the thread that would let go of the lock.
static PARENT: AtomicU32 = AtomicU32::new(0);

fn leaving() -> MutexGuard<'static, u32> {
    LEAVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Leaving(());

impl Leaving {
    /// `None` if there are too many.
    pub(crate) fn begin() -> Option<Self> {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| {
            PARENT.store(std::process::id(), Relaxed);
            sys::at_exit(wait_for_all);
        });
        let mut leaving = leaving();
        if *leaving == MOST {
            return None;
        }
        *leaving += 1;
        Some(Self(()))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        *leaving() -= 1;
        LEFT.notify_all();
    }
}

extern "C" fn wait_for_all() {
    if PARENT.load(Relaxed) == std::process::id() {
        // One that takes longer than it may is being killed, with this process at the latest.
        drop(LEFT.wait_timeout_while(leaving(), LEAVE_LIMIT + MARGIN, |leaving| *leaving > 0));
    }
}
