//! The fork server's side: one thread, which waits for orders and for ends of children, and blocks for both.
//!
//! It makes no runtime itself. A child would then find half the work done, but also the socket pair by which tokio
//! tells a process of its signals: all children would have the same.
#![expect(unsafe_code, reason = "fork(2) is unsafe where there are other threads")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};
use tokio::runtime::Builder;

use super::link::{self, Answers};
use super::message::{Ended, Order, receive_order, send_ended};
use super::system::{exit, fork};

/// Serves until the parent has gone. Its socket is the standard input. Children inherit that, and the signal's
/// descriptor and mask: to take these away would be more than the least.
pub(super) fn serve() -> io::Result<()> {
    let stdin = io::stdin();
    let parent = stdin.as_fd();
    let signals = signals_of_children()?;
    let mut children = HashMap::new();
    loop {
        let (has_order, has_ended) = wait_for_either(parent, signals.as_fd())?;
        if has_ended {
            signals.read_signal()?;
            report_ends(parent, &mut children)?;
        }
        if has_order {
            let Some((order, link)) = receive_order(parent)? else { return Ok(()) };
            children.insert(start(&order, link)?, order.id);
        }
    }
}

fn signals_of_children() -> io::Result<SignalFd> {
    let children = SigSet::from(Signal::SIGCHLD);
    children.thread_block()?;
    Ok(SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn wait_for_either(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let mut both = [first, second].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    poll(&mut both, None)?;
    let [first, second] = both.map(|fd| !fd.revents().is_empty());
    Ok((first, second))
}

/// One signal can stand for several ends.
fn report_ends(parent: BorrowedFd<'_>, children: &mut HashMap<Pid, u32>) -> io::Result<()> {
    loop {
        let (pid, status) = match wait(WaitOptions::NOHANG) {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(id) = children.remove(&pid) {
            let ended = Ended { id, pid: pid.as_raw_nonzero().get(), status: status.as_raw() };
            send_ended(parent, &ended)?;
        }
    }
}

fn start(order: &Order, link: OwnedFd) -> io::Result<Pid> {
    let live = || i32::from(live(StdUnixStream::from(link), order.answers).is_err());
    // SAFETY: the server starts no threads.
    unsafe { fork(live) }
}

/// The child's part. One that lasts says first who it is. At the end, what is open is left to the system to close.
fn live(link: StdUnixStream, answers: Answers) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        let mut link = link::framed(link)?;
        if answers == Answers::Many {
            link::send(&mut link, std::process::id().into()).await?;
        }
        link::answer(&mut link, answers).await?;
        exit(0)
    })
}
