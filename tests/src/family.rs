//! The processes of a test: waiting for their end, and ending what is left of them, and nothing else.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::proc::{ProcInfo, descendants_of, info};
use crate::wait::holds_within;

/// How long to go on killing: a process in uninterruptible sleep takes its time, and some fork meanwhile.
const LIMIT: Duration = Duration::from_secs(5);

/// Kills every descendant of the keeper, until none is left alive; says whether that worked.
///
/// None escapes by losing its parent, since the keeper adopts it. Zombies stay: reaping is for their parents.
pub(crate) fn kill_descendants(keeper: u32) -> bool {
    holds_within(LIMIT, || {
        let victims = descendants_of(keeper).into_iter().filter(|it| !it.is_zombie());
        victims.map(|victim| kill(&victim)).count() == 0
    })
}

/// Sends SIGKILL to this very process: a pid that has passed to another process meanwhile is not hit.
fn kill(victim: &ProcInfo) {
    let Some(pid) = pid_of(victim.pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // Looked at only now: had the pid passed on before the pidfd was opened, its parent would be another one.
    if info(victim.pid).is_some_and(|now| now.ppid == victim.ppid) {
        // It has ended by itself if this fails.
        let _ended = pidfd_send_signal(pidfd, Signal::KILL);
    }
}

/// Waits for the end of a process, without reaping it; says whether it came before the limit.
pub(crate) fn ends_within(pid: u32, limit: Option<Duration>) -> io::Result<bool> {
    let pid = pid_of(pid).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The id as rustix has it.
pub(crate) fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.try_into().ok()?)
}
