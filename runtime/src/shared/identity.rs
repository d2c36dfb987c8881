//! Which process this is, and whether another lives.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::words::Identity;
use crate::sys;

/// Which process this is.
///
/// # Errors
/// If `/proc` does not say when it was started.
pub(super) fn mine() -> io::Result<Identity> {
    static MINE: Mutex<Option<(u64, Identity)>> = Mutex::new(None);
    let forks = sys::forks();
    let mut mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
    match *mine {
        Some((known, identity)) if known == forks => Ok(identity),
        _ => {
            let pid = std::process::id();
            let identity = Identity::new(pid, started(pid)?);
            *mine = Some((forks, identity));
            Ok(identity)
        }
    }
}

/// The pid namespace of this process: another has other numbers for the same processes. Zero where `/proc` does not tell.
pub(super) fn namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

/// The clock tick in which a process was started: the 22nd field of `/proc/pid/stat`, see `proc_pid_stat(5)`.
fn started(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name, in parentheses, and may have any characters.
    let behind_name = stat.rsplit_once(')').map(|(_, fields)| fields);
    let field = behind_name.and_then(|fields| fields.split_ascii_whitespace().nth(19));
    field.and_then(|ticks| ticks.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What becomes readable when a process ends; `None` if it has.
///
/// # Errors
/// If there is no descriptor left for it.
pub(super) fn follow(who: Identity) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(who.pid()).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        other => other?,
    };
    // The number may have been given to another by the time that it was opened; from then on it is not given away.
    let is_another = started(who.pid()).is_ok_and(|start| Identity::new(who.pid(), start) != who);
    Ok((!is_another && !sys::is_readable(pidfd.as_fd())).then_some(pidfd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives() {
        let me = mine().unwrap();
        assert_eq!(me.pid(), std::process::id());
        assert_eq!(mine().unwrap(), me);
        assert!(follow(me).unwrap().is_some());
    }

    #[test]
    fn another_with_its_number_is_another() {
        let start = started(std::process::id()).unwrap();
        assert!(follow(Identity::new(std::process::id(), start + 1)).unwrap().is_none());
    }

    #[test]
    fn one_that_has_ended_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let who = Identity::new(child.id(), started(child.id()).unwrap());
        child.wait().unwrap();
        assert!(follow(who).unwrap().is_none());
    }
}
