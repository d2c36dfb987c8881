//! How much memory a worker has.

use std::fs;
use std::time::{Duration, Instant};

use rustix::param::page_size;

/// How often it is looked at, at most.
const PAUSE: Duration = Duration::from_millis(5);

/// What weighs a worker, if it has a limit.
#[derive(Debug)]
pub(super) struct Scales {
    pid: u32,
    limit: Option<u64>,
    looked: Option<Instant>,
}

impl Scales {
    pub(super) const fn new(pid: u32, limit: Option<u64>) -> Self {
        Self { pid, limit, looked: None }
    }

    /// Whether it has been found to have more than it may.
    pub(super) fn is_too_heavy(&mut self) -> bool {
        let Some(limit) = self.limit else { return false };
        if self.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
            return false;
        }
        self.looked = Some(Instant::now());
        resident(self.pid).is_some_and(|bytes| bytes > limit)
    }
}

/// The resident memory of a process, in bytes: the second number of `/proc/.../statm`, in pages.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap() > 100_000 && resident(u32::MAX).is_none());
        assert!(Scales::new(pid, Some(1000)).is_too_heavy());
        assert!(!Scales::new(pid, Some(1 << 50)).is_too_heavy() && !Scales::new(pid, None).is_too_heavy());
    }
}
