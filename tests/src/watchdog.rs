//! Ends a test that does not end, and says who waited for what.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use rustix::process::{PTracer, Signal, getpid, kill_process, set_ptracer};

use crate::outcome::Verdict;
use crate::own::threads;
use crate::proc::{ProcInfo, descendants_of, info, numbers_in};
use crate::wait::patience;

/// How long the debugger may take, as `timeout(1)` reads it. It stops this process, so that nothing in here
/// could end it.
const DEBUGGER_LIMIT: &str = "20";

/// Starts the thread that ends this process after the limit. It lives as long as the process.
pub(crate) fn start(limit: Duration, keeper: u32, directory: PathBuf) {
    let limit = patience(limit);
    let bark = move || {
        thread::sleep(limit);
        let report = format!("not done after {limit:?}\n{}", who_waits_for_what(keeper));
        show_stacks();
        // Nothing can be done if it fails but to go on: the keeper then reports the signal.
        let _unwritten = Verdict::Stuck(report).write(&directory);
        // Not `exit`: its handlers may be what hangs. The keeper ends the others.
        let _unreachable = kill_process(getpid(), Signal::KILL);
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(bark).expect("a thread for the watchdog");
}

/// One line per thread of this process and per process that the test has started.
fn who_waits_for_what(keeper: u32) -> String {
    let mut report = String::new();
    for (tid, name) in threads() {
        let state = info(tid).map_or('?', |it| it.state);
        line(&mut report, &format!("thread {tid} {name:?}: state {state}{}", waits_for(process::id(), tid)));
    }
    for other in descendants_of(keeper).into_iter().filter(|it| it.pid != process::id()) {
        line(&mut report, &format!("{other}{}{}", waits_for(other.pid, other.pid), threads_of(&other)));
    }
    report
}

fn line(report: &mut String, text: &str) {
    writeln!(report, "  {text}").expect("writing to a string");
}

/// The kernel function and the system call that a thread sleeps in, as far as the kernel tells.
fn waits_for(pid: u32, tid: u32) -> String {
    let read = |file: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/{file}")).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() || text == "0" { String::new() } else { format!(", {file} {text}") }
    };
    read("wchan") + &read("syscall")
}

fn threads_of(process: &ProcInfo) -> String {
    let directory = format!("/proc/{}/task", process.pid);
    let name = |tid| fs::read_to_string(format!("{directory}/{tid}/comm")).ok();
    let names: Vec<String> = numbers_in(&directory).into_iter().filter_map(name).collect();
    if names.len() < 2 {
        return String::new();
    }
    let names: Vec<&str> = names.iter().map(|name| name.trim_end()).collect();
    format!(", threads {}", names.join(", "))
}

/// Writes the stacks of all threads to the output of the test, if there is a debugger.
fn show_stacks() {
    if !is_on_path("gdb") || !is_on_path("timeout") {
        return;
    }
    // Where the Yama security module is active, a child may not trace its parent without this.
    let _no_yama = set_ptracer(PTracer::Any);
    let mut gdb = Command::new("timeout");
    gdb.args(["--kill-after=1", DEBUGGER_LIMIT, "gdb", "-nx", "-batch"]);
    gdb.args(["-ex", "set debuginfod enabled off", "-ex", "thread apply all bt -frame-arguments none"]);
    // The report is complete without the stacks.
    let _no_stacks = gdb.args(["-p", &process::id().to_string()]).status();
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}
