//! Other processes, as `/proc` tells of them.
//!
//! Every function here reads a moment: by the time it returns, a process may have ended. What ends while it is
//! looked at is left out.

use std::fmt;
use std::fs;

/// One line about a process; see `proc_pid_stat(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcInfo {
    /// The process.
    pub pid: u32,
    /// Its parent; the nearest subreaper, or init, when its own has ended.
    pub ppid: u32,
    /// `R`, `S`, `D`, `T`, `Z` (ended, not yet reaped) and so on.
    pub state: char,
    /// The name of its executable or main thread, at most 15 bytes.
    pub comm: String,
    /// Its arguments, separated by spaces; empty for a zombie.
    pub cmdline: String,
}

impl ProcInfo {
    /// Whether it has ended and waits for its parent to reap it.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }
}

impl fmt::Display for ProcInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, ppid, state, comm, cmdline } = self;
        write!(f, "process {pid} (child of {ppid}, state {state}, {comm}) {cmdline:?}")
    }
}

/// What `/proc` says about a process, or `None` when there is none with this id.
#[must_use]
pub fn info(pid: u32) -> Option<ProcInfo> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (comm, state, ppid) = parse_stat(&String::from_utf8_lossy(&stat))?;
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let cmdline = String::from_utf8_lossy(&cmdline).trim_end_matches('\0').replace('\0', " ");
    Some(ProcInfo { pid, ppid, state, comm, cmdline })
}

/// The state letter of a process, or `None` when it is gone: ended and reaped.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    info(pid).map(|process| process.state)
}

/// The name that a fork server has, and what it has just forked, until that is told what to run.
const FORK_SERVER: &str = "fork-server";

/// The children of a process, zombies included, by pid: those that a fork server has forked for it among them, the server
/// itself not.
#[must_use]
pub fn children_of(pid: u32) -> Vec<ProcInfo> {
    let all = all();
    let servers = servers_among(&all, pid);
    let is_server = |process: &ProcInfo| servers.contains(&process.pid);
    let is_child = |process: &ProcInfo| process.ppid == pid || servers.contains(&process.ppid);
    all.iter().filter(|it| is_child(it) && !is_server(it)).cloned().collect()
}

/// The fork servers of a process, zombies included, by pid.
#[must_use]
pub fn fork_servers_of(pid: u32) -> Vec<ProcInfo> {
    let all = all();
    let servers = servers_among(&all, pid);
    all.into_iter().filter(|process| servers.contains(&process.pid)).collect()
}

fn servers_among(all: &[ProcInfo], parent: u32) -> Vec<u32> {
    let is_server = |process: &&ProcInfo| process.ppid == parent && process.comm == FORK_SERVER;
    all.iter().filter(is_server).map(|process| process.pid).collect()
}

/// The processes below a process in the tree that the kernel knows, zombies and fork servers included.
#[must_use]
pub fn descendants_of(pid: u32) -> Vec<ProcInfo> {
    let mut others = all();
    let mut found: Vec<ProcInfo> = Vec::new();
    let mut parent = pid;
    for next in 0.. {
        found.extend(others.extract_if(.., |process| process.ppid == parent));
        let Some(process) = found.get(next) else { break };
        parent = process.pid;
    }
    found
}

/// Every process that can be seen, by pid.
pub(crate) fn all() -> Vec<ProcInfo> {
    numbers_in("/proc").into_iter().filter_map(info).collect()
}

/// The entries of a directory whose names are numbers, in order. The directory is closed when this returns.
pub(crate) fn numbers_in(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    numbers.sort_unstable();
    numbers
}

/// Name, state and parent out of `pid (name) state ppid ...`, where the name may hold anything.
fn parse_stat(stat: &str) -> Option<(String, char, u32)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_pid, comm) = before.split_once('(')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    Some((comm.to_owned(), state, ppid))
}

#[cfg(test)]
mod tests {
    use super::parse_stat;

    #[test]
    fn names_with_spaces_and_parentheses() {
        assert_eq!(parse_stat("7 (cat) S 1 7 7 0"), Some(("cat".to_owned(), 'S', 1)));
        assert_eq!(parse_stat("7 (a) Z 9 (b)) R 3 7 7"), Some(("a) Z 9 (b)".to_owned(), 'R', 3)));
        assert_eq!(parse_stat(""), None);
    }
}
