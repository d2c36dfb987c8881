//! The fork server: what it is, what its children are, and what its death does to them, at every point.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "libtest shows it where a test fails")]

#[path = "../src/bin/root/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio as Streams};
use std::time::{Duration, Instant};

use futures::future::join_all;
use procession::{Cause, Process, ProcessError, Stage, StartMethod, Stdio, parent, preload, process, warm};
use procession_tests::{
    arrive, children_of, descendants_of, eventually, eventually_async, fork_servers_of,
    has_a_child_that_leaves, has_arrived, isolated, open_fds, remembers_ends, signals_groups, state, threads,
    wait_until_gone,
};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpgrp, getpid, getppid, getrlimit, kill_process, prlimit,
    set_child_subreaper, setrlimit,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use random::Random;

const SECOND: Duration = Duration::from_secs(1);

/// The fork servers that a process has, zombies left out.
fn servers_of(pid: u32) -> Vec<u32> {
    let servers = fork_servers_of(pid).into_iter().filter(|it| !it.is_zombie());
    servers.map(|it| it.pid).collect()
}

/// The one of this process.
#[track_caller]
fn server() -> u32 {
    let servers = servers_of(std::process::id());
    assert_eq!(servers.len(), 1, "{servers:?}");
    servers[0]
}

/// The same, which is stopped now.
#[track_caller]
fn stopped_server() -> u32 {
    let server = server();
    send(Signal::STOP, server);
    eventually(SECOND * 30, || state(server) == Some('T'));
    server
}

fn send(signal: Signal, pid: u32) {
    // An error means that it has ended, and was reaped.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}

/// What each descriptor of a process refers to, without the numbers of inodes.
fn descriptors_of(process: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let mut kinds: Vec<String> = targets
        .map(|target| target.to_str().unwrap().split(":[").next().unwrap().to_owned())
        .filter(|target| !target.ends_with("/fd"))
        .collect();
    kinds.sort_unstable();
    kinds
}

fn status_of(process: &str, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

fn signals(field: &str) -> u64 {
    u64::from_str_radix(&status_of("self", field), 16).unwrap() & 0x7fff_ffff
}

/// Whether an error tells of the fork server's end.
fn is_of_the_server(error: &ProcessError) -> bool {
    matches!(error.cause(), Cause::Start { stage: Stage::Server, .. })
        && error.to_string().contains("fork server")
}

#[process]
fn leaves_a_mark(path: PathBuf) {
    fs::write(path, "here").unwrap();
}

#[process]
async fn quick(n: u64) -> u64 {
    n
}

#[process]
async fn waits() {
    std::future::pending::<()>().await;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nature {
    parent_by_kernel: u32,
    parent: u32,
    leads_its_group: bool,
    blocked: u64,
    ignored: u64,
    caught: u64,
    threads: Vec<String>,
    descriptors: Vec<String>,
}

fn nature() -> Nature {
    Nature {
        parent_by_kernel: getppid().unwrap().as_raw_pid().cast_unsigned(),
        parent: parent().unwrap().pid(),
        leads_its_group: getpgrp() == getpid(),
        blocked: signals("SigBlk"),
        ignored: signals("SigIgn"),
        caught: signals("SigCgt"),
        threads: threads().into_values().collect(),
        descriptors: descriptors_of("self"),
    }
}

#[process]
async fn looks_at_itself() -> Nature {
    nature()
}

#[process]
fn looks_at_itself_plainly() -> Nature {
    nature()
}

const fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// Starts a child, lets go of its own output, and goes on.
#[process]
async fn closes_its_output() {
    quick(1).await.unwrap();
    let null = fs::File::options().write(true).open("/dev/null").unwrap();
    rustix::stdio::dup2_stdout(&null).unwrap();
    rustix::stdio::dup2_stderr(&null).unwrap();
    std::future::pending::<()>().await;
}

isolated! {
    /// A program that starts no child by it has no server.
    #[cold]
    #[once]
    async fn it_comes_with_the_first_call() {
        assert_eq!(fork_servers_of(std::process::id()), []);
        drop(quick(1));
        quick(1).start_method(StartMethod::Spawn).await.unwrap();
        assert_eq!(fork_servers_of(std::process::id()), []);
        quick(1).start_method(StartMethod::ForkServer).await.unwrap();
        let first = server();
        quick(1).await.unwrap();
        assert_eq!(server(), first);
    }

    /// One thread, no runtime, and nothing open but what it serves with; also after many children.
    #[once]
    async fn it_is_small() {
        let server = server();
        for round in 0..2 {
            eventually(SECOND * 30, || children_of(server).is_empty());
            assert_eq!(fs::read_dir(format!("/proc/{server}/task")).unwrap().count(), 1, "round {round}");
            // Link, its reader and the requests are sockets, the lifeline is a pipe.
            let expected =
                ["/dev/null", "/dev/null", "/dev/null", "anon_inode:[signalfd]", "pipe", "socket", "socket", "socket"];
            let found = descriptors_of(&server.to_string());
            let expected = expected.map(|it| it.split(":[").next().unwrap());
            assert_eq!(found, expected);
            join_all((0..40).map(quick)).await.into_iter().for_each(|value| assert!(value.is_ok()));
        }
    }

    /// Whoever reads what a process prints sees the end when it lets go of its output: its server does not hold it.
    #[once]
    async fn it_does_not_hold_its_parents_output() {
        for piped_errors in [false, true] {
            let call = closes_its_output();
            let call = if piped_errors { call.stderr(Stdio::piped()) } else { call.stdout(Stdio::piped()) };
            let mut process = call.spawn().await.unwrap();
            let mut output = if piped_errors { process.stderr() } else { process.stdout() }.unwrap();
            assert_eq!(output.read_to_end(&mut Vec::new()).await.unwrap(), 0);
            assert!(process.is_alive());
            assert_eq!(servers_of(process.pid()).len(), 1);
            process.kill().await.unwrap();
        }
    }

    /// A child is the server's for the kernel and its parent's for everybody else, and has no more than one that was
    /// started by exec.
    #[once]
    async fn children_are_like_others() {
        for plain in [false, true] {
            let look = || if plain { looks_at_itself_plainly() } else { looks_at_itself() }.name("a rather long name");
            let forked = look().start_method(StartMethod::ForkServer).await.unwrap();
            let fresh = look().start_method(StartMethod::Spawn).await.unwrap();
            assert_eq!(forked.parent_by_kernel, server());
            assert_eq!(forked.parent, std::process::id());
            assert!(forked.leads_its_group);
            assert_eq!((forked.blocked, forked.ignored), (0, bit(Signal::PIPE)));
            assert_eq!(forked.caught, bit(Signal::SEGV) | bit(Signal::BUS));
            assert_eq!(forked.threads[0], "a rather long n");
            let us = std::process::id();
            assert_eq!(Nature { parent_by_kernel: us, ..forked }, fresh);
        }
    }

    /// What is open in the parent when its server is started, and free to be passed on, goes neither to it nor on.
    #[once]
    async fn descriptors_stay_at_home() {
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/zero").unwrap()).collect();
        for file in &files {
            rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty()).unwrap();
        }
        send(Signal::KILL, server());
        let found = looks_at_itself_plainly().await.unwrap().descriptors;
        assert!(!found.iter().any(|it| it == "/dev/zero") && found.len() == 5, "{found:?}");
        assert!(!descriptors_of(&server().to_string()).iter().any(|it| it == "/dev/zero"));
    }

    /// One that has left its group sees the death of its parent, which is not that of the server.
    #[once]
    async fn the_parents_death_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("place");
        let group = getpgrp().as_raw_nonzero().get();
        let mut middle = has_a_child_that_leaves(place.clone(), group).spawn().await.unwrap();
        eventually_async(SECOND * 30, || has_arrived(&place)).await;
        let its_server = servers_of(middle.pid())[0];
        send(Signal::KILL, its_server);
        eventually_async(SECOND * 30, || servers_of(middle.pid()).is_empty()).await;
        assert!(!place.with_extension("told").exists());
        middle.kill().await.unwrap();
        eventually_async(SECOND * 30, || has_arrived(&place.with_extension("told"))).await;
    }
}

/// Starts a child with so many descriptors free, and says why if it could not; all children are gone then.
#[process]
async fn starts_with_room_for(number: usize) -> Option<ProcessError> {
    quick(1).await.unwrap();
    procession::join_children().await;
    let server = server();
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limits }).unwrap();
    let mut others: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    others.truncate(others.len() - number);
    let call = waits().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = call.spawn().await;
    setrlimit(Resource::Nofile, limits).unwrap();
    drop(others);
    let refused = match started {
        Ok(mut process) => {
            process.kill().await.unwrap();
            None
        }
        Err(error) => Some(error),
    };
    eventually_async(SECOND * 30, || children_of(server).is_empty()).await;
    assert_eq!(self::server(), server);
    refused
}

/// The descriptors of a process, by number.
fn numbers_of_descriptors(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

fn is_of_descriptors(error: &ProcessError) -> bool {
    let lack = Some(rustix::io::Errno::MFILE.raw_os_error());
    matches!(error.cause(), Cause::Start { stage: Stage::Spawn, errno, .. } if *errno == lack)
}

isolated! {
    /// A server that can have no more descriptors refuses, and says why; it serves again when it can.
    #[once]
    async fn it_has_no_descriptors() {
        let server = server();
        let pid = Pid::from_raw(server.cast_signed()).unwrap();
        let open = numbers_of_descriptors(server);
        // Two come with each request.
        for room in 0..2 {
            let limit = (0..).filter(|number| !open.contains(number)).nth(room);
            let usual = getrlimit(Resource::Nofile);
            prlimit(Some(pid), Resource::Nofile, Rlimit { current: limit, ..usual }).unwrap();
            for outcome in join_all((0..5).map(quick)).await {
                let error = outcome.unwrap_err();
                assert!(is_of_descriptors(&error), "room for {room}: {error:?}");
            }
            prlimit(Some(pid), Resource::Nofile, usual).unwrap();
            assert_eq!(quick(1).await.unwrap(), 1);
            eventually(SECOND * 30, || children_of(server).is_empty());
            assert_eq!((self::server(), numbers_of_descriptors(server)), (server, open.clone()));
        }
    }

    /// A child whose hello its parent has no descriptor for is ended by the server: it has been told what to run by then, and
    /// would run on with nobody who knows it.
    #[once]
    async fn a_hello_that_cannot_be_taken() {
        let mut reasons = Vec::new();
        for number in 0..12 {
            if let Some(error) = starts_with_room_for(number).start_method(StartMethod::Spawn).await.unwrap() {
                assert!(is_of_descriptors(&error), "room for {number}: {error:?}");
                reasons.push(error.to_string());
            }
        }
        assert!(reasons.len() < 12 && reasons.iter().any(|it| it.contains("fork: ")), "{reasons:#?}");
    }

    /// A child that dies before it says hello is told of at once, and its server goes on.
    #[once]
    async fn dead_before_its_hello() {
        let former = server();
        preload(has_children_die()).await.unwrap();
        wait_until_gone(former);
        let server = server();
        let error = quick(1).start_method(StartMethod::ForkServer).await.unwrap_err();
        assert_eq!(error.signal(), Some(9), "{error:?}");
        assert_eq!(self::server(), server, "it was given up");
    }
}

/// Whatever this process forks ends before it comes to anything.
#[process]
#[expect(unsafe_code, reason = "that is what is for such ends")]
fn has_children_die() -> Result<(), procession::Failure> {
    extern "C" fn die() {
        send(Signal::KILL, std::process::id());
    }
    // SAFETY: the handler sends a signal to its own process, which may be done anywhere.
    assert_eq!(unsafe { nix::libc::pthread_atfork(None, None, Some(die)) }, 0);
    Ok(())
}

/// The ways in which a child ends, once a file is there.
const ENDS: [&str; 6] = ["value", "panic", "exit", "abort", "signal", "stop"];

#[process]
#[expect(clippy::exit, reason = "it is one of the ends")]
async fn ends(how: String, released: PathBuf) -> u32 {
    eventually_async(SECOND * 60, || released.exists()).await;
    match how.as_str() {
        "value" => 7,
        "panic" => panic!("as it was told to"),
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "signal" => {
            send(Signal::TERM, std::process::id());
            std::future::pending().await
        }
        _ => std::future::pending().await,
    }
}

/// Starts children, has the server die, and gives what came of them, in words.
async fn survivors(count: usize) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let released = directory.path().join("released");
    let ways: Vec<&str> = ENDS.into_iter().cycle().take(count).collect();
    let started = ways.iter().map(|how| ends((*how).to_owned(), released.clone()).spawn());
    let mut children: Vec<Process<u32>> = join_all(started).await.into_iter().map(Result::unwrap).collect();
    let server = server();
    send(Signal::KILL, server);
    wait_until_gone(server);
    // The next server is there before any of them ends.
    assert_eq!(quick(1).await.unwrap(), 1);
    let living = children.iter().filter(|it| it.is_alive()).count();
    assert_eq!(living, count, "children that live on without their server");
    arrive(&released);
    let mut ends = Vec::new();
    for (child, how) in children.iter_mut().zip(ways) {
        if how == "stop" {
            drop(child.stop(Duration::ZERO).await);
        }
        let status = match child.wait().await {
            Ok(status) => status.exit_code().to_string(),
            Err(error) => in_words(&error),
        };
        ends.push(match child.join().await {
            Ok(value) => format!("{how}: value {value}, {status}"),
            Err(error) if error.is_panic() => format!("{how}: panic, {status}"),
            Err(error) => format!("{how}: {}, {status}", in_words(&error)),
        });
    }
    ends
}

fn in_words(error: &ProcessError) -> String {
    match error.cause() {
        Cause::StatusLost { .. } => "lost".into(),
        Cause::Exited { code } => format!("exit {code}"),
        Cause::Signaled { signal, .. } => format!("signal {signal}"),
        other => panic!("{other:?}"),
    }
}

/// A kernel that does not remember how processes have ended leaves what they have said themselves.
fn assert_true_ends(ends: &[String], are_remembered: bool) {
    let expected = if are_remembered {
        [
            "value: value 7, 0",
            "panic: panic, 101",
            "exit: exit 3, 3",
            "abort: signal 6, -6",
            "signal: signal 15, -15",
            "stop: signal 15, -15",
        ]
    } else {
        [
            "value: value 7, lost",
            "panic: panic, lost",
            "exit: lost, lost",
            "abort: lost, lost",
            "signal: lost, lost",
            "stop: lost, lost",
        ]
    };
    for (end, expected) in ends.iter().zip(expected.into_iter().cycle()) {
        assert_eq!(end, expected);
    }
}

/// What is left of the children of a process that is given all orphans below it.
#[process]
async fn is_given_orphans() -> (Vec<String>, usize) {
    set_child_subreaper(Some(getpid())).unwrap();
    let ends = survivors(6).await;
    let zombies = children_of(std::process::id()).into_iter().filter(|it| it.is_zombie()).count();
    (ends, zombies)
}

#[process]
#[expect(clippy::zombie_processes, reason = "the test is about what becomes of it")]
fn starts_a_program(place: PathBuf) {
    let program = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(place.with_extension("pid"), program.id().to_string()).unwrap();
    arrive(&place);
    loop {
        std::thread::park();
    }
}

/// Has a child without a server, which has started a program, and ends it; gives the program's process id.
#[process]
async fn ends_an_orphan(place: PathBuf) -> u32 {
    let mut orphan = starts_a_program(place.clone()).spawn().await.unwrap();
    eventually_async(SECOND * 30, || has_arrived(&place)).await;
    let server = server();
    send(Signal::KILL, server);
    wait_until_gone(server);
    let program = fs::read_to_string(place.with_extension("pid")).unwrap().parse().unwrap();
    assert!(state(program).is_some());
    drop(orphan.kill().await);
    if signals_groups() {
        wait_until_gone(program);
    }
    program
}

isolated! {
    /// The programs of a child whose server is gone end with it; where the kernel cannot be told so (before 6.9), with its
    /// parent.
    #[once]
    async fn programs_of_orphans() {
        let directory = tempfile::tempdir().unwrap();
        let program = ends_an_orphan(directory.path().join("place")).await.unwrap();
        wait_until_gone(program);
    }

    /// Killed while it has nothing to do, and then, or at the same moment, a call comes.
    #[once]
    async fn killed_while_idle() {
        for round in 0..8 {
            let former = server();
            send(Signal::KILL, former);
            if round % 2 == 0 {
                wait_until_gone(former);
            }
            assert_eq!(quick(round).await.unwrap(), round);
            assert_ne!(server(), former);
        }
    }

    /// Its children go on without it, and their ends are told for what they are.
    #[once]
    async fn killed_with_twenty_children() {
        assert_true_ends(&survivors(20).await, remembers_ends());
    }

    /// So are they where orphans come back to their parent, as to the first process of a container.
    #[once]
    async fn killed_where_orphans_come_back() {
        let (ends, zombies) = is_given_orphans().await.unwrap();
        assert_true_ends(&ends, true);
        assert_eq!(zombies, 0);
    }

    /// Killed at any moment while many starts are under way: each gives its value or says that it was the server.
    /// `PROCESSION_KILLS` says how often, `PROCESSION_SEED` repeats a run.
    #[limit(120 + 3 * kills())]
    #[once]
    async fn killed_while_many_start() {
        let seed = from_environment("PROCESSION_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        println!("PROCESSION_SEED={seed} PROCESSION_KILLS={}", kills());
        let mut random = Random(seed);
        let (mut values, mut refused) = (0, 0);
        for round in 0..kills() {
            let moments: Vec<_> = (0..=random.below(3)).map(|_| random.below(20_000)).collect();
            let killer = async {
                for moment in moments {
                    tokio::time::sleep(Duration::from_micros(moment)).await;
                    servers_of(std::process::id()).into_iter().for_each(|pid| send(Signal::KILL, pid));
                }
            };
            let (outcomes, ()) = tokio::join!(join_all((0..64).map(quick)), killer);
            for (n, outcome) in (0..).zip(outcomes) {
                match outcome {
                    Ok(value) => {
                        assert_eq!(value, n);
                        values += 1;
                    }
                    Err(error) => {
                        assert!(is_of_the_server(&error), "round {round}: {error:?}");
                        refused += 1;
                    }
                }
            }
            assert_eq!(quick(round).await.unwrap(), round);
        }
        println!("{values} values, {refused} refused");
        assert!(values > refused, "{values} values, {refused} refused");
    }

    /// Stopped in the middle of a start, it goes on where it was.
    #[once]
    async fn stopped_and_continued() {
        let server = stopped_server();
        let mut calls = Box::pin(join_all((0..10).map(quick)));
        let waited = tokio::time::timeout(SECOND / 5, &mut calls).await;
        assert!(waited.is_err(), "who would have started them?");
        send(Signal::CONT, server);
        let values: Vec<u64> = calls.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(values, (0..10).collect::<Vec<_>>());
    }

    /// There is room for so many requests, and the others wait for it.
    #[once]
    async fn more_requests_than_it_has_room_for() {
        let server = stopped_server();
        let mut calls = Box::pin(join_all((0..400).map(quick)));
        assert!(tokio::time::timeout(SECOND / 2, &mut calls).await.is_err());
        send(Signal::CONT, server);
        let values: Vec<u64> = calls.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(values, (0..400).collect::<Vec<_>>());
    }

    /// Stopped in the middle of a start, and then killed: another takes over.
    #[once]
    async fn stopped_and_killed() {
        let server = stopped_server();
        let mut calls = Box::pin(join_all((0..10).map(quick)));
        assert!(tokio::time::timeout(SECOND / 5, &mut calls).await.is_err());
        send(Signal::KILL, server);
        for (n, outcome) in (0..).zip(calls.await) {
            assert_eq!(outcome.unwrap(), n);
        }
    }

    /// Stopped for longer than any start may take, it is ended, and another takes over.
    #[ignore = "takes half a minute"]
    #[limit(120)]
    #[once]
    async fn stopped_for_too_long() {
        let server = stopped_server();
        for (n, outcome) in (0..).zip(join_all((0..3).map(quick)).await) {
            match outcome {
                Ok(value) => assert_eq!(value, n),
                Err(error) => assert!(is_of_the_server(&error), "{error:?}"),
            }
        }
        wait_until_gone(server);
        assert_eq!(quick(7).await.unwrap(), 7);
    }

    /// A call that is given up while the server is stopped leaves no child, and does not run.
    #[once]
    async fn stopped_and_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let server = stopped_server();
        let open = open_fds().len();
        let calls = || join_all((0..10).map(|_| leaves_a_mark(mark.clone())));
        assert!(tokio::time::timeout(SECOND / 5, calls()).await.is_err());
        eventually(SECOND * 30, || open_fds().len() == open);
        send(Signal::CONT, server);
        assert_eq!(quick(1).await.unwrap(), 1);
        eventually(SECOND * 30, || children_of(server).is_empty());
        assert!(!mark.exists());
        leaves_a_mark(mark.clone()).await.unwrap();
        assert!(mark.exists());
    }

    /// Killed as soon as it is there: there are few of them, and calls are answered all the same.
    #[threads(2)]
    #[once]
    async fn killed_again_and_again() {
        let us = std::process::id();
        let killer = tokio::task::spawn_blocking(move || {
            let (begin, mut killed) = (Instant::now(), BTreeSet::new());
            while begin.elapsed() < SECOND * 5 {
                for pid in servers_of(us) {
                    send(Signal::KILL, pid);
                    killed.insert(pid);
                }
                std::thread::sleep(SECOND / 1000);
            }
            killed
        });
        let mut answers = 0;
        while !killer.is_finished() {
            match quick(answers).await {
                Ok(value) => assert_eq!(value, answers),
                Err(error) => assert!(is_of_the_server(&error), "{error:?}"),
            }
            answers += 1;
        }
        let killed = killer.await.unwrap();
        let servers = killed.len();
        println!("{servers} servers, {answers} answers");
        // Ten milliseconds between the first two, and then twice as long each time: one a second in the end.
        assert!((3..20).contains(&servers) && answers > 3, "{servers} servers, {answers} answers");
        // Else a child of a server that is dying could still answer, and no server be left.
        killed.into_iter().for_each(wait_until_gone);
        assert_eq!(quick(7).await.unwrap(), 7);
    }

    /// SIGKILL of a parent ends its servers, those that are not used any more too, their children, and spares.
    #[once]
    async fn the_parents_death_ends_all() {
        for stopped in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let place = directory.path().join("place");
            let mut process = has_all(place.clone()).spawn().await.unwrap();
            eventually_async(SECOND * 30, || has_arrived(&place)).await;
            let below = descendants_of(process.pid());
            // Two servers, three children of each, two spares.
            assert_eq!((servers_of(process.pid()).len(), below.len()), (2, 10), "{below:?}");
            if stopped {
                servers_of(process.pid()).into_iter().for_each(|pid| send(Signal::STOP, pid));
            }
            process.kill().await.unwrap();
            below.iter().for_each(|it| wait_until_gone(it.pid));
        }
    }

    /// Many starts leave nothing behind; `PROCESSION_STARTS` says how many.
    #[limit(120 + starts() / 10)]
    #[once]
    fn many_starts() {
        let number = starts().to_string();
        let mut root = Command::new(env!("CARGO_BIN_EXE_root"));
        let status = root.args(["starts", &number]).stdin(Streams::null()).status().unwrap();
        assert!(status.success(), "{status}");
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn kills() -> u64 {
    from_environment("PROCESSION_KILLS").unwrap_or(15)
}

fn starts() -> u64 {
    from_environment("PROCESSION_STARTS").unwrap_or(1000)
}

#[process]
fn prepares() -> Result<(), procession::Failure> {
    Ok(())
}

/// Has children of a server that has been, and of the one there is, and spares.
#[process]
async fn has_all(place: PathBuf) {
    let first = join_all((0..3).map(|_| waits().spawn())).await;
    preload(prepares()).await.unwrap();
    let second = join_all((0..3).map(|_| waits().spawn())).await;
    warm(2).await.unwrap();
    arrive(&place);
    std::future::pending::<()>().await;
    drop((first, second));
}
