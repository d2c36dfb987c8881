//! What a process has in memory.

use std::fmt;
use std::io;
use std::thread::sleep;
use std::time::Duration;

/// How long a process must not have changed to be taken for settled.
const STILL: Duration = Duration::from_millis(100);

/// Memory of a process, in KiB. See `proc_pid_smaps(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Its share of everything that is mapped: a page that three processes map counts as a third for each.
    pub proportional: u64,
    /// What is its own alone.
    pub private: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB, {} KiB of it private", self.proportional, self.private)
    }
}

/// The memory of a process, once it has not changed for a while.
///
/// # Errors
/// Those of reading from `/proc`.
pub fn settled_memory_of(pid: u32) -> io::Result<Memory> {
    let mut last = memory_of(pid)?;
    loop {
        sleep(STILL);
        let now = memory_of(pid)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

fn memory_of(pid: u32) -> io::Result<Memory> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let sum = |prefix: &str| {
        let lines = rollup.lines().filter_map(|line| line.strip_prefix(prefix));
        lines.filter_map(|rest| rest.split_whitespace().rev().nth(1)?.parse::<u64>().ok()).sum()
    };
    Ok(Memory { proportional: sum("Pss:"), private: sum("Private_") })
}
