//! The process between outer and inner: what init is to a machine, it is to a test.

use std::fs;
use std::process;
use std::thread;

use rustix::process::{WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};

use crate::family::{ends_within, kill_descendants, pid_of};
use crate::isolated::Isolated;
use crate::marker::{Marker, Role};
use crate::outcome::Verdict;

/// Runs the inner processes of a test, reaps whatever becomes an orphan, and ends the process.
///
/// # Panics
/// If the kernel refuses what it needs for that.
#[expect(clippy::exit, reason = "what follows in the test function is for the outer process alone")]
pub(crate) fn keep(test: &Isolated, marker: &Marker) -> ! {
    end_with_outer(marker.parent);
    set_child_subreaper(Some(getpid())).expect("prctl(PR_SET_CHILD_SUBREAPER)");
    let reference = test.cold.then(|| run_inner(test, marker, Role::Reference));
    let failed = reference.filter(|status| status.exit_status() != Some(0));
    let (role, status) = match failed {
        Some(status) => (Role::Reference, status),
        None => (Role::Body, run_inner(test, marker, Role::Body)),
    };
    kill_and_reap();
    if let Some(verdict) = verdict(role, status, Verdict::read(&marker.directory)) {
        verdict.write(&marker.directory).expect("the test's own directory is writable");
    }
    if !marker.parent_lives() {
        // Then this is for nobody else to do, and nobody is there to be told that it failed.
        let _kept = fs::remove_dir_all(&marker.directory);
    }
    process::exit(0);
}

/// Ends the test when the outer process is gone, as when someone interrupts it or its runner kills it.
///
/// The kernel could kill the keeper then, but that would leave what the keeper has adopted.
fn end_with_outer(outer: u32) {
    let follow = move || {
        // An error means that it has ended already.
        let _ended = ends_within(outer, None);
        kill_descendants(process::id());
    };
    thread::Builder::new().name("follower".to_owned()).spawn(follow).expect("a thread for the keeper");
}

/// Ends whatever the inner process has left, so that nothing of a test outlives it.
fn kill_and_reap() {
    // A process that ends hands its own children, dead or alive, to this one, and so becomes a child itself.
    while kill_descendants(process::id()) && wait(WaitOptions::empty()).is_ok() {}
}

/// What the inner process could not say itself, because it ended too early or in another way than it said.
fn verdict(role: Role, status: WaitStatus, written: Option<Verdict>) -> Option<Verdict> {
    match written {
        None => Some(Verdict::Died(format!("the process ({role:?}) {} before it was done", ended(status)))),
        Some(Verdict::Passed) if status.exit_status() != Some(0) => {
            Some(Verdict::Died(format!("the process {} after the body had passed", ended(status))))
        }
        Some(_true) => None,
    }
}

fn ended(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended ({status:?})"),
    }
}

/// Starts one inner process and reaps until it has ended.
///
/// The status comes from waiting for whichever child ends next, since that may be an orphan.
#[expect(clippy::zombie_processes, reason = "reaped below, with all others")]
fn run_inner(test: &Isolated, marker: &Marker, role: Role) -> WaitStatus {
    let child = test.command(role, &marker.directory).spawn().expect("the test binary starts again");
    let inner = pid_of(child.id());
    loop {
        let ended = wait(WaitOptions::empty()).expect("there is a child, and no signal handler");
        match ended {
            Some((pid, status)) if Some(pid) == inner => return status,
            _orphan => {}
        }
    }
}
