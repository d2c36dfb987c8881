//! Spares: children that were started ahead, and serve the next calls as if they had not been.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "libtest shows it where a test fails")]

#[path = "../src/bin/root/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use procession::{Cause, Process, Resource, StartMethod, Stdio, current, preload, process, warm};
use procession_tests::{
    children_of, descendants_of, eventually, eventually_async, fork_servers_of, isolated, open_fds, state,
    wait_until_gone,
};
use rustix::fs::Mode;
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper, umask};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use random::Random;

const SECOND: Duration = Duration::from_secs(1);

/// The fork server that a process has.
#[track_caller]
fn server_of(pid: u32) -> u32 {
    let servers = fork_servers_of(pid).into_iter();
    let servers: Vec<u32> = servers.filter(|it| !it.is_zombie()).map(|it| it.pid).collect();
    assert_eq!(servers.len(), 1, "{servers:?}");
    servers[0]
}

fn server() -> u32 {
    let us = std::process::id();
    // One that was followed by another may still be on its way out.
    eventually(SECOND * 30, || fork_servers_of(us).iter().filter(|it| !it.is_zombie()).count() == 1);
    server_of(us)
}

/// The children of a server that live.
fn children_of_server(server: u32) -> Vec<u32> {
    children_of(server).into_iter().filter(|it| !it.is_zombie()).map(|it| it.pid).collect()
}

/// The spares of this process, which must have no other children.
fn spares() -> Vec<u32> {
    children_of_server(server())
}

async fn eventually_spares(count: usize) {
    eventually_async(SECOND * 30, || spares().len() == count).await;
}

fn send(signal: Signal, pid: u32) {
    // An error means that it has ended, and was reaped.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}

fn kill_and_wait(pid: u32) {
    send(Signal::KILL, pid);
    wait_until_gone(pid);
}

/// Gives the spares up once nobody sees to it any more that there are enough.
async fn cool(count: usize) {
    eventually_spares(count).await;
    warm(0).await.unwrap();
    eventually_spares(0).await;
}

#[process]
fn pid() -> u32 {
    std::process::id()
}

#[process]
async fn async_pid() -> u32 {
    std::process::id()
}

#[process(threads = 2)]
async fn pid_in_a_crowd() -> u32 {
    tokio::spawn(async { std::process::id() }).await.unwrap()
}

#[process]
async fn waits() {
    std::future::pending::<()>().await;
}

#[process]
fn spins() {
    loop {
        std::hint::spin_loop();
    }
}

#[process]
async fn stops_when_asked() -> u32 {
    current().stopping().await;
    std::process::id()
}

#[process]
fn echoes(bytes: ByteBuf) -> ByteBuf {
    bytes
}

#[process]
#[expect(clippy::exit, reason = "it is one of the ends")]
fn ends(how: String) -> u32 {
    match how.as_str() {
        "panic" => panic!("as it was told to"),
        "exit" => std::process::exit(3),
        _ => std::process::abort(),
    }
}

isolated! {
    /// They are there when `warm` returns, serve calls of every kind, and others come after them.
    #[once]
    async fn they_serve_the_next_calls() {
        warm(3).await.unwrap();
        for kind in 0..3 {
            eventually_spares(3).await;
            let before = spares();
            let served = match kind {
                0 => pid().await.unwrap(),
                1 => async_pid().await.unwrap(),
                _ => pid_in_a_crowd().await.unwrap(),
            };
            assert!(before.contains(&served), "{kind}: {served} {before:?}");
        }
        // One that is started by exec is none of them.
        let before = spares();
        assert!(!before.contains(&pid().start_method(StartMethod::Spawn).await.unwrap()));
        cool(3).await;
    }

    /// They wait without using a processor, and are no children that anybody hears of.
    #[once]
    async fn they_are_not_seen() {
        warm(3).await.unwrap();
        assert!(procession::children().is_empty());
        procession::join_children().await;
        assert_eq!(spares().len(), 3);
        eventually_async(SECOND * 30, || spares().into_iter().all(|it| state(it) == Some('S'))).await;
        cool(3).await;
    }

    /// One that has died is never handed out; if all have, calls start their children themselves.
    #[once]
    async fn dead_ones_are_not_used() {
        warm(3).await.unwrap();
        let victim = spares()[1];
        kill_and_wait(victim);
        for _ in 0..3 {
            assert_ne!(pid().await.unwrap(), victim);
        }
        eventually_spares(3).await;
        kill_and_wait(spares()[1]);
        warm(3).await.unwrap();
        assert_eq!(spares().len(), 3);
        let victims = spares();
        victims.iter().for_each(|it| kill_and_wait(*it));
        let served = pid().await.unwrap();
        assert!(!victims.contains(&served));
        cool(3).await;
    }

    /// A call that is served by one that somebody has stopped waits for it, and can be given up.
    #[once]
    async fn a_stopped_one_can_be_given_up() {
        warm(1).await.unwrap();
        let spare = spares()[0];
        send(Signal::STOP, spare);
        eventually(SECOND * 30, || state(spare) == Some('T'));
        let waited = tokio::time::timeout(SECOND / 5, pid()).await;
        assert!(waited.is_err(), "{waited:?}");
        wait_until_gone(spare);
        assert_ne!(pid().await.unwrap(), spare);
        cool(1).await;
    }

    /// Nobody, fewer, more: as many as it says last.
    #[once]
    async fn as_many_as_it_says() {
        for count in [5, 2, 0, 3, 1, 0] {
            warm(count).await.unwrap();
            eventually_spares(count).await;
        }
    }

    /// Those that are on their way when the number changes count, too.
    #[once]
    async fn the_last_word_counts_while_they_come() {
        for _ in 0..5 {
            warm(3).await.unwrap();
            let (served, ended) = tokio::join!(pid(), warm(0));
            served.unwrap();
            ended.unwrap();
            // What is to come has come by then.
            tokio::time::sleep(SECOND / 5).await;
            assert_eq!(spares(), [0; 0]);
        }
    }

    /// The last word counts also where the one before it has not been carried out.
    #[once]
    async fn the_last_word_counts() {
        let (many, few) = tokio::join!(warm(5), warm(2));
        many.and(few).unwrap();
        tokio::time::sleep(SECOND / 5).await;
        assert_eq!(spares().len(), 2);
        cool(2).await;
    }

    /// More calls at once than there are spares, and again.
    #[threads(2)]
    #[once]
    async fn more_calls_than_spares() {
        warm(4).await.unwrap();
        for _ in 0..5 {
            let before = spares();
            let mut served: Vec<u32> = join_all((0..64).map(|_| pid())).await.into_iter().map(Result::unwrap).collect();
            assert!(served.iter().filter(|it| before.contains(it)).count() >= before.len().min(1));
            served.sort_unstable();
            served.dedup();
            assert_eq!(served.len(), 64, "each process serves once");
        }
        eventually_spares(4).await;
        cool(4).await;
    }

    /// A call in a spare has its time limit, can be given up, stopped and killed, and its end is told for what it is.
    #[once]
    async fn their_calls_end_as_others_do() {
        warm(2).await.unwrap();
        for call in [waits(), spins()] {
            let error = call.timeout(SECOND / 10).await.unwrap_err();
            assert!(error.is_timeout(), "{error:?}");
            eventually_spares(2).await;
        }
        let before = spares();
        assert!(tokio::time::timeout(SECOND / 10, waits()).await.is_err());
        eventually_async(SECOND * 30, || before.iter().filter(|it| state(**it).is_none()).count() == 1).await;

        eventually_spares(2).await;
        let before = spares();
        let mut process: Process<u32> = stops_when_asked().spawn().await.unwrap();
        assert!(before.contains(&process.pid()));
        assert!(process.stop(SECOND * 3600).await.unwrap().success());
        assert_eq!(process.join().await.unwrap(), process.pid());
        let mut process = waits().spawn().await.unwrap();
        assert_eq!(process.kill().await.unwrap().signal(), Some(9));

        assert!(ends("panic".into()).await.unwrap_err().is_panic());
        assert_eq!(ends("exit".into()).await.unwrap_err().exit_code(), Some(3));
        assert_eq!(ends("abort".into()).await.unwrap_err().signal(), Some(6));
        cool(2).await;
    }

    /// A call that is awaited is a child from its first poll on, another spare comes in its place while it runs, and it hears of
    /// an end that nobody has asked for.
    #[once]
    async fn awaited_calls_are_seen() {
        warm(1).await.unwrap();
        for signal in [Signal::KILL, Signal::TERM] {
            eventually_spares(1).await;
            let spare = spares()[0];
            let mut call = std::pin::pin!(waits());
            assert!(futures::poll!(&mut call).is_pending());
            let children = procession::children();
            assert_eq!(children.iter().map(|it| it.pid).collect::<Vec<_>>(), [spare], "{children:?}");
            eventually_async(SECOND * 30, || spares().iter().filter(|it| **it != spare).count() == 1).await;
            send(signal, spare);
            assert_eq!(call.await.unwrap_err().signal(), Some(signal.as_raw()));
            assert!(procession::children().is_empty());
        }
        cool(1).await;
    }

    /// Values of any size go there and back.
    #[once]
    async fn values_of_any_size() {
        warm(2).await.unwrap();
        for size in [0, 1, 16 << 10, 300 << 10, 5 << 20] {
            let bytes = ByteBuf::from(vec![7; size]);
            assert_eq!(echoes(bytes.clone()).await.unwrap(), bytes);
        }
        cool(2).await;
    }

    /// Servers and spares that are killed at any moment, while calls come: each has its value, or tells of that.
    /// `PROCESSION_SEED` repeats a run.
    #[limit(180)]
    #[threads(2)]
    #[once]
    async fn killed_at_any_moment() {
        let seed = std::env::var("PROCESSION_SEED").map_or_else(|_| u64::from(std::process::id()), |it| it.parse().unwrap());
        println!("PROCESSION_SEED={seed}");
        let mut random = Random(seed);
        warm(4).await.unwrap();
        for _ in 0..20 {
            let calls = tokio::spawn(join_all((0..32).map(|_| pid())));
            let mut killed = Vec::new();
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_micros(random.below(5_000))).await;
                let all = descendants_of(std::process::id());
                let Some(victim) = all.get(usize::try_from(random.below(64)).unwrap() % all.len().max(1)) else { continue };
                send(Signal::KILL, victim.pid);
                killed.push(victim.pid);
            }
            for outcome in calls.await.unwrap() {
                let Err(error) = outcome else { continue };
                match error.cause() {
                    Cause::Start { stage: procession::Stage::Server, .. } => {}
                    // The victim itself, which may have been at work by then, and may not have said who it is.
                    Cause::Signaled { signal: 9, .. } if error.pid().is_none_or(|pid| killed.contains(&pid)) => {}
                    other => panic!("{other:?}, killed {killed:?}"),
                }
            }
            // One that has got its signal, but has not ended yet, may still be handed out.
            killed.into_iter().for_each(wait_until_gone);
            pid().await.unwrap();
        }
        cool(4).await;
    }

    /// To want none starts nothing.
    #[cold]
    #[once]
    async fn none_is_none() {
        warm(0).await.unwrap();
        assert_eq!(fork_servers_of(std::process::id()), []);
    }

    /// Servers and spares of a program that starts nothing else end with it.
    #[once]
    async fn they_end_with_their_parent() {
        let mut process = has_spares(false).spawn().await.unwrap();
        eventually_async(SECOND * 30, || !fork_servers_of(process.pid()).is_empty()).await;
        let server = server_of(process.pid());
        eventually_async(SECOND * 30, || children_of_server(server).len() == 3).await;
        let spares = children_of_server(server);
        process.kill().await.unwrap();
        spares.into_iter().chain([server]).for_each(wait_until_gone);
    }

    /// They go with their server, and others come with the next.
    #[once]
    async fn they_go_with_their_server() {
        warm(3).await.unwrap();
        let (former, before) = (server(), spares());
        kill_and_wait(former);
        before.iter().for_each(|it| wait_until_gone(*it));
        assert!(!before.contains(&pid().await.unwrap()));
        assert_ne!(server(), former);
        cool(3).await;
    }

    /// A server that is gone is forgotten: nothing of it stays open for its spares' sake.
    #[once]
    async fn a_former_server_is_forgotten() {
        warm(2).await.unwrap();
        let before = open_fds().len();
        kill_and_wait(server());
        pid().await.unwrap();
        eventually_spares(2).await;
        eventually_async(SECOND * 4, || open_fds().len() == before).await;
        cool(2).await;
    }

    /// Where orphans come back to their parent, spares whose server has died do not stay as zombies.
    #[once]
    async fn they_leave_no_zombies() {
        assert_eq!(has_spares(true).await.unwrap(), 0);
    }

    /// A preload is seen by those that come after it, and there are as many as before.
    #[once]
    async fn preloads_are_seen() {
        warm(2).await.unwrap();
        let before = spares();
        preload(marks()).await.unwrap();
        before.iter().for_each(|it| wait_until_gone(*it));
        eventually_spares(2).await;
        let now = spares();
        let (served, marked) = is_marked().await.unwrap();
        assert!(marked && now.contains(&served), "{served} {now:?}");
        cool(2).await;
    }

    /// Why there are none is told, and calls that can be started are started.
    #[once]
    async fn why_there_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("place");
        fs::write(&place, "").unwrap();
        preload(needs(place.clone())).await.unwrap();
        fs::remove_file(&place).unwrap();
        kill_and_wait(server());
        let error = warm(2).await.unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
        assert!(pid().await.is_err());
        assert!(pid().start_method(StartMethod::Spawn).await.is_ok());
        fs::write(&place, "").unwrap();
        pid().await.unwrap();
        cool(2).await;
    }
}

/// Has spares; if so told, it also has their server die, and gives how many zombies there are when they have ended.
#[process]
async fn has_spares(is_given_orphans: bool) -> usize {
    if is_given_orphans {
        set_child_subreaper(Some(getpid())).unwrap();
    }
    warm(3).await.unwrap();
    if !is_given_orphans {
        std::future::pending::<()>().await;
    }
    let us = std::process::id();
    let server = server_of(us);
    let spares = children_of_server(server);
    kill_and_wait(server);
    let living = |pid: &u32| state(*pid).is_some_and(|state| state != 'Z');
    eventually_async(SECOND * 30, || !spares.iter().any(living)).await;
    warm(0).await.unwrap();
    let zombies = || children_of(us).into_iter().filter(|it| it.is_zombie()).count();
    let begin = std::time::Instant::now();
    while zombies() > 0 && begin.elapsed() < SECOND * 3 {
        tokio::time::sleep(SECOND / 50).await;
    }
    zombies()
}

static MARKED: std::sync::OnceLock<()> = std::sync::OnceLock::new();

#[process]
fn marks() -> Result<(), procession::Failure> {
    MARKED.get_or_init(|| ());
    Ok(())
}

#[process]
fn is_marked() -> (u32, bool) {
    (std::process::id(), MARKED.get().is_some())
}

#[process]
fn needs(place: PathBuf) -> Result<(), procession::Failure> {
    fs::read(place)?;
    Ok(())
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    directory: PathBuf,
    umask: String,
    nice: i32,
    limits: String,
    variable: Option<String>,
    variables: usize,
    /// Without their numbers, which those of a runtime that was made ahead do not share.
    descriptors: BTreeSet<String>,
    name: (String, String),
}

#[process]
async fn looks_around() -> Found {
    print!("said");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim().to_owned();
    let descriptors = open_fds().into_values().map(|it| it.split(":[").next().unwrap().to_owned());
    Found {
        directory: std::env::current_dir().unwrap(),
        umask: mask,
        nice: rustix::process::getpriority_process(None).unwrap(),
        limits: fs::read_to_string("/proc/self/limits").unwrap(),
        variable: std::env::var("PROCESSION_TEST_WORD").ok(),
        variables: std::env::vars_os().count(),
        descriptors: descriptors.collect::<BTreeSet<_>>(),
        name: (current().name().to_owned(), fs::read_to_string("/proc/self/comm").unwrap()),
    }
}

/// What a call in a spare finds, and what one finds that was started by exec.
async fn both(call: impl Fn() -> procession::Call<Found>) -> (Found, Found) {
    eventually_spares(1).await;
    let before = spares();
    let mut process = call().start_method(StartMethod::ForkServer).spawn().await.unwrap();
    assert!(before.contains(&process.pid()));
    let found = process.join().await.unwrap();
    (found, call().start_method(StartMethod::Spawn).await.unwrap())
}

fn written(path: &Path) -> fs::File {
    let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(b"|").unwrap();
    file
}

isolated! {
    /// What has changed since it was started, and what a call says, holds in a spare.
    #[once]
    async fn surroundings_are_those_of_the_call() {
        warm(1).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        std::env::set_current_dir(&path).unwrap();
        let mask = umask(Mode::from_raw_mode(0o31));
        let output = path.join("output");
        let (found, fresh) = both(|| looks_around().name("one").stdout(written(&output))).await;
        assert_eq!((&found.directory, found.umask.as_str()), (&path, "0031"));
        assert_eq!(found.name, ("one".into(), "one\n".into()));
        assert_eq!(found, fresh);
        let call = || {
            let call = looks_around().current_dir("/proc").umask(0o22).nice(2).stdin(Stdio::inherit()).name("two");
            let call = call.rlimit(Resource::OpenFiles, 30, 40).rlimit(Resource::Core, 0, 0);
            call.env_clear().env("PROCESSION_TEST_WORD", "said").stdout(written(&output)).stderr(Stdio::null())
        };
        let (found, fresh) = both(call).await;
        assert_eq!((found.directory.to_str(), found.umask.as_str(), found.nice), (Some("/proc"), "0022", fresh.nice));
        assert_eq!((found.variable.as_deref(), found.variables), (Some("said"), 1));
        assert_eq!(found, fresh);
        // What is not ended by a newline is written at the end.
        procession::join_children().await;
        assert_eq!(fs::read_to_string(&output).unwrap(), "|said|said|said|said");
        umask(mask);
        std::env::set_current_dir("/").unwrap();
        cool(1).await;
    }

    /// What cannot be had is told as it is elsewhere.
    #[once]
    async fn impossible_surroundings() {
        warm(1).await.unwrap();
        let error = pid().current_dir("/no/such/directory").await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Start { stage: procession::Stage::Boot, .. }), "{error:?}");
        cool(1).await;
    }
}
