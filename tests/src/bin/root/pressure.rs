//! Calls under pressure: what comes of them is told line by line, and then what the program still holds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::fs::File;
use std::io::stdin;
use std::iter::successors;
use std::process;
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use procession::{Cause, Failure, Passed, Pipe, Process, ProcessError, Stdio, pipe, process};
use procession_tests::{
    ProcInfo, children_of, descendants_of, eventually, fork_servers_of, open_fds, signals_groups, threads,
    wait_until_gone,
};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, wait};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[process]
async fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[process(threads = 2)]
async fn add_in_a_crowd(a: u32, b: u32) -> u32 {
    tokio::spawn(async move { a + b }).await.unwrap()
}

/// More than goes with the greeting.
#[process]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

#[process]
#[expect(clippy::exit, reason = "it is one of the ends")]
fn leaves(code: i32) {
    process::exit(code)
}

/// The first takes memory to go through, and the others use it again.
const LETTERS: usize = 3;

/// More than goes by the socket, and a handle.
#[derive(Serialize, Deserialize)]
struct Letter {
    text: ByteBuf,
    file: Passed<File>,
}

#[process]
async fn echoes(mut pipe: Pipe<Letter, Letter>) -> Result<(), Failure> {
    while let Some(letter) = pipe.recv().await? {
        pipe.send(letter).await?;
    }
    Ok(())
}

/// How long letters are that went there and came back, or what a process lacks for it.
fn correspondence() -> String {
    match correspond() {
        Ok(length) => format!("value {length}"),
        Err(error) => match error.downcast_ref::<ProcessError>() {
            Some(error) => format!("cause {:?}", error.cause()),
            None => format!("lack {}", in_words(&*error)),
        },
    }
}

/// An error and its causes.
fn in_words(error: &(dyn Error + 'static)) -> String {
    let words: Vec<_> = successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect();
    words.join(": ")
}

fn correspond() -> Result<usize, Box<dyn Error>> {
    let (mut ours, theirs) = pipe()?;
    let child = block_on(echoes(theirs).spawn())?;
    let came = (0..LETTERS).map(|_| there_and_back(&mut ours)).sum();
    drop(ours);
    // What one of them lacks looks to the other as if it were gone.
    match (came, block_on(child)?.map_err(Box::<dyn Error>::from)) {
        (Err(here), Err(there)) => Err(format!("{}; {}", in_words(&*here), in_words(&*there)).into()),
        (came, ended) => ended.and(came),
    }
}

fn there_and_back(pipe: &mut Pipe<Letter, Letter>) -> Result<usize, Box<dyn Error>> {
    let text = ByteBuf::from(vec![7; 100_000]);
    pipe.blocking_send(Letter { text, file: Passed::new(File::open("/dev/null")?)? })?;
    let letter = pipe.blocking_recv()?.ok_or("it is gone")?;
    letter.file.into_inner()?.metadata()?;
    assert!(letter.text.iter().all(|byte| *byte == 7), "another letter");
    Ok(letter.text.len())
}

#[process]
async fn waits() {
    std::future::pending::<()>().await;
}

/// A value, or the cause in words.
fn told<T: Debug>(result: Result<T, ProcessError>) -> String {
    match result {
        Ok(value) => format!("value {value:?}"),
        Err(error) => format!("cause {:?}", error.cause()),
    }
}

/// Some calls of several kinds, one after the other.
pub(crate) fn calls() {
    let outcomes = [
        told(add(1, 2).blocking()),
        told(length(vec![7; 1 << 17]).stdout(Stdio::piped()).blocking()),
        told(add_in_a_crowd(3, 4).stderr(Stdio::traced()).blocking()),
        told(add(5, 6).blocking()),
        correspondence(),
    ];
    outcomes.iter().for_each(|outcome| println!("{outcome}"));
    // Looks that may fail, if something still does, and then one that does not.
    (0..5).for_each(|_| drop(kept()));
    println!("kept {:?}", kept());
}

/// The same, once somebody lets this process go on: until then it can be traced.
pub(crate) fn stopped_calls() {
    kill_process(getpid(), Signal::STOP).unwrap();
    calls();
}

/// One call, and no words but its outcome.
pub(crate) fn first() {
    println!("{}", told(add(1, 2).blocking()));
}

/// How many there are of each kind: descriptors, threads, children, fork servers.
fn kept() -> BTreeMap<String, usize> {
    let mut kept = BTreeMap::new();
    let fds = open_fds().into_values().map(|target| format!("fd {}", kind_of(&target)));
    let threads = threads().into_values().map(|name| format!("thread {name}"));
    let children = children_of(process::id()).into_iter().map(|child| format!("child {}", child.state));
    let servers =
        fork_servers_of(process::id()).into_iter().map(|server| format!("fork server {}", server.state));
    fds.chain(threads).chain(children).chain(servers).for_each(|kind| *kept.entry(kind).or_default() += 1);
    kept
}

/// `socket:[4711]` is `socket`, `anon_inode:[eventfd]` stays.
fn kind_of(target: &str) -> &str {
    // Their names have pids in them.
    if target.starts_with("/proc/") {
        return "/proc";
    }
    match target.split_once(":[") {
        Some((kind, inode)) if inode.starts_with(|first: char| first.is_ascii_digit()) => kind,
        _ => target,
    }
}

/// A program whose other code waits for whatever child ends, a fork server too: then there is a new one.
#[tokio::main]
pub(crate) async fn thief() {
    thread::spawn(|| {
        loop {
            match wait(WaitOptions::empty()) {
                Err(Errno::CHILD) => thread::yield_now(),
                _reaped => {}
            }
        }
    });
    let mut counts = BTreeMap::<&str, u32>::new();
    for n in 0..50 {
        if n % 10 == 9 {
            fork_servers_of(process::id()).iter().for_each(end_of_server);
        }
        assert_eq!(add(n, 1).await.unwrap(), n + 1, "a value that has come is there, whoever reaps");
        let outcome = match leaves(3).await.unwrap_err().cause() {
            Cause::Exited { code: 3 } => "code",
            Cause::Reaped => "reaped",
            other => panic!("{other:?}"),
        };
        *counts.entry(outcome).or_default() += 1;
        let mut process = waits().spawn().await.unwrap();
        let outcome = match process.kill().await {
            Ok(status) => {
                assert_eq!(status.signal(), Some(9));
                "killed"
            }
            Err(error) => {
                assert_eq!(*error.cause(), Cause::Reaped);
                "kill reaped"
            }
        };
        *counts.entry(outcome).or_default() += 1;
        ends_once_more(&mut process).await;
    }
    println!("{counts:?}");
}

/// Ends a server, and leaves it to whoever comes first to reap it.
fn end_of_server(server: &ProcInfo) {
    kill_process(Pid::from_raw(server.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

/// What has ended stays so, whichever way it is asked.
async fn ends_once_more(process: &mut Process<()>) {
    assert!(!process.is_alive());
    drop(process.wait().await);
    drop(process.stop(Duration::from_secs(3600)).await);
    process.terminate().unwrap();
    assert!(matches!(
        process.join().await.unwrap_err().cause(),
        Cause::Signaled { signal: 9, .. } | Cause::Reaped
    ));
}

/// A program whose children the kernel reaps, because it was started with SIGCHLD ignored.
#[tokio::main]
pub(crate) async fn unwaited() {
    println!("{}", told(add(1, 2).await));
    println!("{}", told(leaves(3).await));
    let mut process = waits().spawn().await.unwrap();
    println!("{}", told(process.kill().await));
    println!("{}", told(process.join().await));
    println!("{}", told(waits().timeout(Duration::from_millis(10)).await));
    let mut process = has_a_program().spawn().await.unwrap();
    let program = started_by(&process);
    println!("{}", told(process.kill().await));
    // A group whose leader was reaped cannot be told else from one that has its number now: it ends with this program.
    if signals_groups() {
        wait_until_gone(program);
    }
    println!("children {}", children_of(process::id()).len());
}

/// The program that a child has started, once it runs.
fn started_by(process: &Process<()>) -> u32 {
    let mut programs = vec![];
    eventually(Duration::from_secs(30), || {
        programs = descendants_of(process.pid());
        programs.iter().any(|it| it.comm == "sleep")
    });
    programs.iter().find(|it| it.comm == "sleep").unwrap().pid
}

/// Starts a program, and waits for nothing.
#[process]
#[expect(clippy::zombie_processes, reason = "the test is about what becomes of it")]
async fn has_a_program() {
    process::Command::new("sleep").arg("1000").stdout(process::Stdio::null()).spawn().unwrap();
    std::future::pending::<()>().await;
}

/// A program that is given the orphans of its children, if it is the first process of its namespace: none of them lives
/// on. Reaping them is for whoever is that process.
#[tokio::main]
pub(crate) async fn orphans() {
    let mut process = has_a_program().spawn().await.unwrap();
    started_by(&process);
    println!("{}", told(process.kill().await));
    println!("{}", told(add(1, 2).await));
    let is_alive = |child: &ProcInfo| !child.is_zombie();
    eventually(Duration::from_secs(30), || !children_of(process::id()).iter().any(is_alive));
    let alive = descendants_of(process::id()).iter().filter(|child| is_alive(child)).count();
    println!("alive {}", alive - fork_servers_of(process::id()).len());
}

/// What this build of the program says.
#[process]
async fn has_a_child(text: String) -> String {
    format!("{text}, {}", says("the child's child".into()).await.unwrap())
}

#[process]
fn says(text: String) -> String {
    text
}

/// Starts a child for each line that it reads: it runs what this program was, whatever has become of its file.
#[tokio::main]
pub(crate) async fn generations() {
    println!("pid {}", process::id());
    for line in stdin().lines() {
        println!("{}", told(has_a_child(line.unwrap()).await));
    }
}
