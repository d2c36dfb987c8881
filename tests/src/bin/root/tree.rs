//! Trees of processes: what a root starts, and what a test ends.
//!
//! Each process says on its standard output that it is there, by its kind and its id, and holds it open for as long as
//! it lives: whoever reads the other end sees when the last of them is gone.

use std::io::{Write, stdout};

use futures::future::join_all;
use procession::{Call, Process, process};
use rustix::process::{Signal, getpid, kill_process};

/// Says that a process is there.
fn arrive(kind: &str, pid: u32) {
    let line = format!("{kind} {pid}\n");
    // One write, which those of others cannot come between.
    stdout().write_all(line.as_bytes()).unwrap();
}

fn arrive_myself(kind: &str) {
    arrive(kind, std::process::id());
}

/// One of each kind.
pub(crate) async fn start(kinds: &[String]) -> Vec<Process<()>> {
    join_all(kinds.iter().map(|kind| call(kind).spawn())).await.into_iter().map(Result::unwrap).collect()
}

/// The call of that kind.
pub(crate) fn call(kind: &str) -> Call<()> {
    match kind {
        "spins" => spins(),
        "stopped" => stopped(),
        "deaf" => deaf(),
        "idle" => idle(),
        "program" => program(),
        "deep" => deep(2),
        other => panic!("what is {other:?}?"),
    }
}

/// Computes, and never looks up.
#[process]
fn spins() {
    arrive_myself("spins");
    loop {
        std::hint::spin_loop();
    }
}

/// Is stopped, as Ctrl-Z does it.
#[process]
fn stopped() {
    arrive_myself("stopped");
    loop {
        kill_process(getpid(), Signal::STOP).unwrap();
    }
}

/// Handles SIGTERM, by doing nothing about it.
#[process]
async fn deaf() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    arrive_myself("deaf");
    loop {
        terminated.recv().await;
    }
}

/// Waits for nothing.
#[process]
async fn idle() {
    arrive_myself("idle");
    std::future::pending::<()>().await;
}

/// Has started a program in its group.
#[process]
#[expect(clippy::zombie_processes, reason = "the test is about what becomes of it")]
fn program() {
    let sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    arrive("sleep", sleep.id());
    arrive_myself("program");
    loop {
        std::thread::park();
    }
}

/// Has that many generations below it, of which the last computes.
#[process]
async fn deep(below: u32) {
    arrive_myself("deep");
    let ended = match below {
        0 => spins().await,
        below => deep(below - 1).await,
    };
    // Neither ends but by being killed, which may be what a test does.
    drop(ended);
}
