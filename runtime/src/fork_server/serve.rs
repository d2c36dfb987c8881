//! The server's own life: it forks when it is asked to, and tells how its children ended.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::num::NonZeroI32;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, setpgid, waitpid};

use super::preload;
use super::{Ahead, Estate, Lookout, Request, Word, receive, send};
use crate::link;
use crate::sys::{self, Fork};
use crate::wire::frame::Kind;

/// How long the server waits where the kernel has no memory for it to wait.
const SHORTAGE: Duration = Duration::from_millis(10);

/// How long a thread that was joined may still be seen.
const PARTING: Duration = Duration::from_millis(100);

/// What a server says that cannot fork, for its parent to tell it from others.
pub(super) const MORE_THREADS: &str = "the fork server has more than one thread";

/// The parent's numbers of the children that have not been reaped, by process id. Not a `HashMap`: its seed would be all
/// children's.
type Children = BTreeMap<NonZeroI32, u64>;

/// How a server has left its service.
#[derive(Debug)]
pub(crate) enum Served {
    /// Nobody will ask it for anything any more.
    Done,
    /// This process is a child that it has forked; the link is now the child's.
    Forked { ahead: Ahead },
}

/// Runs as many preloads as the parent tells, says that it serves, and serves until nobody is left to serve.
///
/// # Errors
/// Why it cannot begin to, or go on.
pub(crate) fn serve(link: &mut UnixStream, preloads: usize, requests: OwnedFd) -> Result<Served, String> {
    let _ = rustix::thread::set_name(c"fork-server");
    let before = Memory::of_now().map_err(|error| error.to_string())?;
    for _ in 0..preloads {
        preload::run(link)?;
    }
    check_that_it_is_alone()?;
    let estate = postcard::to_stdvec(&before.restore()?).map_err(|error| error.to_string())?;
    write_out();
    // What it says is gone before it forks: a child would have to free it.
    let served = loop_over(requests, move || link::send(Kind::Started, &estate));
    served.map_err(|error| format!("the fork server cannot go on: {error}"))
}

/// What the parent counts on to be as it was when the server started: a preload may change it, for itself alone.
struct Memory {
    estate: Estate,
    directory: OwnedFd,
}

impl Memory {
    fn of_now() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(".", flags, Mode::empty())?;
        Ok(Self { estate: Estate::of(&Lookout::here()?.station()?), directory })
    }

    /// Gives what was restored.
    fn restore(self) -> Result<Estate, String> {
        let now = Self::of_now().map_err(|error| error.to_string())?;
        let changed = now.estate.difference(&self.estate);
        changed.map_err(|error| error.to_string())?.apply(vec![self.directory])?;
        Ok(self.estate)
    }
}

/// A copy of a process has the thread alone that has made it, and whatever the others had locked.
fn check_that_it_is_alone() -> Result<(), String> {
    let deadline = Instant::now() + PARTING;
    loop {
        let names = names_of_threads()
            .map_err(|error| format!("cannot list the threads of the fork server: {error}"))?;
        if names.len() == 1 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{MORE_THREADS} ({}): a preload, or what runs before `main`, has started one and left it running; \
                 without them, or with `StartMethod::Spawn`, children can be started",
                names.join(", ")
            ));
        }
        std::thread::sleep(PARTING / 100);
    }
}

fn names_of_threads() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        // One that has ended meanwhile has no name.
        let name = std::fs::read_to_string(thread?.path().join("comm")).unwrap_or_default();
        names.push(name.trim_end().to_owned());
    }
    Ok(names)
}

fn loop_over(requests: OwnedFd, begin: impl FnOnce() -> io::Result<()>) -> io::Result<Served> {
    let signals = sys::keep_ends_of_children()?;
    let ends = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    be_silent()?;
    begin()?;
    let mut children = Children::new();
    loop {
        let ready = wait(&requests, &ends)?;
        if ready.ends {
            // One for all that have ended: a signal that is pending already is not counted.
            let _ = ends.read_signal();
            reap(&requests, &mut children)?;
        }
        if !ready.requests {
            continue;
        }
        match receive(&requests) {
            Ok(Some((Request::Fork { id, .. }, None))) => {
                refuse(&requests, id, &io::Error::from_raw_os_error(libc::EMFILE))?;
            }
            Ok(Some((Request::Fork { id, ahead }, Some(beside)))) => match sys::fork() {
                Ok(Fork::Parent(pid)) => {
                    // The child is the one in a hurry.
                    rustix::thread::sched_yield();
                    children.insert(pid.as_raw_nonzero(), id);
                }
                Ok(Fork::Child) => {
                    if ahead == Ahead::Everything {
                        // What `ps` shows until it is told what it is.
                        let _ = rustix::thread::set_name(c"spare");
                    }
                    drop((requests, ends));
                    // Nor is this freed: see `become_child`.
                    let _kept = ManuallyDrop::new(children);
                    become_child(beside)?;
                    return Ok(Served::Forked { ahead });
                }
                Err(error) => refuse(&requests, id, &error)?,
            },
            Ok(Some((Request::Kill { id }, _))) => kill(&children, id),
            Ok(None) => return Ok(Served::Done),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes out what is buffered, which a copy would write once more.
fn write_out() {
    // Where it cannot be written now, a child cannot write it either.
    drop(io::stdout().flush());
    sys::flush_c_streams();
}

/// Lets go of the parent's output: whoever reads it must see its end when the parent closes it.
fn be_silent() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

struct Ready {
    requests: bool,
    ends: bool,
}

fn wait(requests: &OwnedFd, ends: &SignalFd) -> io::Result<Ready> {
    let mut fds = [PollFd::new(requests, PollFlags::IN), PollFd::new(ends, PollFlags::IN)];
    match poll(&mut fds, None) {
        Ok(_) => {}
        // Nothing is ready, as far as is known. What is short may be there again soon.
        Err(Errno::INTR) => return Ok(Ready { requests: false, ends: false }),
        Err(Errno::NOMEM) => {
            std::thread::sleep(SHORTAGE);
            return Ok(Ready { requests: false, ends: false });
        }
        Err(error) => return Err(error.into()),
    }
    let [requests, ends] = fds.map(|fd| !fd.revents().is_empty());
    Ok(Ready { requests, ends })
}

fn refuse(requests: &OwnedFd, id: u64, error: &io::Error) -> io::Result<()> {
    tell(requests, &Word::NotForked { id, errno: error.raw_os_error().unwrap_or(libc::EAGAIN) })
}

/// Ends the rest of the group of each child that has ended, reaps it, and tells its end.
fn reap(requests: &OwnedFd, children: &mut Children) -> io::Result<()> {
    while let Some((pid, status)) = sys::any_ended_child() {
        let id = children.remove(&pid.as_raw_nonzero());
        if id.is_some() {
            // Until it is reaped, the group's number is its own.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = waitpid(Some(pid), WaitOptions::empty());
        // One that a preload has started is nobody's.
        if let Some(id) = id {
            tell(requests, &Word::Ended { id, status })?;
        }
    }
    Ok(())
}

/// Waits where the parent is slow to listen.
fn tell(requests: &OwnedFd, word: &Word) -> io::Result<()> {
    loop {
        match send(requests, word, &[]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(requests, PollFlags::OUT)], None);
            }
            // The parent has closed its end: nobody wants to know.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => return other,
        }
    }
}

fn kill(children: &Children, id: u64) {
    let pid = children.iter().find_map(|(pid, child)| (*child == id).then_some(pid.get()));
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // It may not lead a group yet.
        let _ = kill_process(pid, Signal::KILL);
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Makes this copy of the server a child: with its own link, lifeline and group, and no signal blocked.
fn become_child(beside: Vec<OwnedFd>) -> io::Result<()> {
    // It is not freed: to free memory is to write to it, and the first write to a page copies it.
    let mut beside = ManuallyDrop::new(beside);
    let (Some(lifeline), Some(its_link), None) = (beside.pop(), beside.pop(), beside.pop()) else {
        return Err(io::Error::other("other descriptors came with a request than its link and its lifeline"));
    };
    setpgid(None, None)?;
    link::replace(&its_link)?;
    sys::replace_lifeline(lifeline)?;
    sys::arm_lifeline()?;
    if sys::lifeline_is_cut() {
        return Err(io::Error::other("the parent is gone"));
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}
