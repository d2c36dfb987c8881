//! What a fork server does once for all its children: preloads, and what is done in each child after the fork.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use nix::libc;
use procession::{
    Cause, Failure, ProcessError, Stage, StartMethod, Stdio, on_exit, on_fork, preload, process, warm,
};
use procession_tests::{
    descendants_of, eventually, eventually_async, fork_servers_of, isolated, wait_until_gone,
};
use rustix::fs::Mode;
use rustix::process::{Pid, Signal, getpid, kill_process, umask};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::io::AsyncReadExt;

const SECOND: Duration = Duration::from_secs(1);

/// The fork servers of this process, zombies left out.
fn servers() -> Vec<u32> {
    let servers = fork_servers_of(std::process::id()).into_iter();
    servers.filter(|it| !it.is_zombie()).map(|it| it.pid).collect()
}

/// Kills the fork server, and waits until it is gone.
fn kill_server() {
    // One that has been followed by another may still be on its way out.
    eventually(Duration::from_secs(30), || servers().len() == 1);
    let server = servers()[0];
    kill_process(Pid::from_raw(server.cast_signed()).unwrap(), Signal::KILL).unwrap();
    wait_until_gone(server);
}

fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A directory that goes with this, and a path in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("place");
    (directory, place)
}

static TABLE: OnceLock<Vec<u64>> = OnceLock::new();

/// Makes a table of 32 MiB, and notes that it did.
#[process]
fn makes_a_table(runs: PathBuf) -> Result<(), Failure> {
    append(&runs, "x");
    TABLE.get_or_init(|| (0..4 << 20).collect());
    Ok(())
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    address: usize,
    sum: u64,
    /// What of its mapping is this process's own, in KiB.
    own: u64,
}

#[process]
fn sees_the_table() -> Option<Seen> {
    let table = TABLE.get()?;
    let address = (&raw const table[0]).addr();
    Some(Seen { sum: table.iter().sum(), address, own: private_dirty(address) })
}

/// How much of the mapping around an address is shared with nobody, in KiB.
fn private_dirty(address: usize) -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let (first, rest) = line.split_once(' ').unwrap();
        match first.split_once('-') {
            Some((start, end)) => {
                let [start, end] = [start, end].map(|it| usize::from_str_radix(it, 16).unwrap());
                inside = (start..end).contains(&address);
            }
            None if inside && first == "Private_Dirty:" => {
                return rest.trim().trim_end_matches(" kB").parse().unwrap();
            }
            None => {}
        }
    }
    panic!("no mapping has {address:x}")
}

#[process]
async fn quick(n: u64) -> u64 {
    n
}

/// A value that cannot be read back.
#[derive(Debug, Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("nobody can read this"))
    }
}

#[process]
fn takes(_: Unreadable) -> Result<(), Failure> {
    Ok(())
}

#[process]
#[expect(clippy::exit, reason = "it is one of the ways")]
fn goes_wrong(how: String) -> Result<(), Failure> {
    match how.as_str() {
        "error" => return Err(Failure::new("there is no such table")),
        "panic" => panic!("as it was told to"),
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "signal" => kill_process(getpid(), Signal::SEGV).unwrap(),
        "overflow" => assert_ne!(deeper(1), 7),
        "thread" => drop(std::thread::Builder::new().name("left-behind".into()).spawn(forever).unwrap()),
        _ => forever(),
    }
    Ok(())
}

fn forever() {
    loop {
        std::thread::park();
    }
}

#[expect(unconditional_recursion, reason = "it is to have no end")]
fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 1000]);
    deeper(n + 1) + room[n as usize % 1000]
}

#[process]
async fn is_async() -> Result<(), Failure> {
    Ok(())
}

/// Why a preload has not succeeded.
#[track_caller]
fn reason<T: std::fmt::Debug>(outcome: Result<T, ProcessError>) -> String {
    match outcome.unwrap_err().cause() {
        Cause::Start { stage: Stage::Preload, reason, .. } => reason.clone(),
        other => panic!("{other:?}"),
    }
}

isolated! {
    /// A table stands once in memory, at one address, for all children, and not in the parent.
    #[once]
    async fn a_table_is_shared() {
        let (_directory, runs) = place();
        preload(makes_a_table(runs.clone())).await.unwrap();
        let seen: Vec<Seen> =
            join_all((0..5).map(|_| sees_the_table())).await.into_iter().map(|it| it.unwrap().unwrap()).collect();
        assert_eq!(seen[0].sum, (0..4 << 20).sum::<u64>());
        for one in &seen {
            assert_eq!((one.address, one.sum), (seen[0].address, seen[0].sum));
            assert!(one.own <= 64, "{} KiB of it are a child's own", one.own);
        }
        assert!(TABLE.get().is_none());
        assert_eq!(sees_the_table().start_method(StartMethod::Spawn).await.unwrap(), None);
        assert_eq!(fs::read_to_string(runs).unwrap(), "x");
    }

    /// Whatever goes wrong in one is told where it was asked for, and calls work without it.
    #[once]
    async fn what_goes_wrong_is_told() {
        for (how, words) in [
            ("error", "failed: there is no such table"),
            ("panic", "as it was told to"),
            ("exit", "exited with code 3"),
            ("abort", "killed by SIGABRT"),
            ("signal", "killed by SIGSEGV"),
        ] {
            let told = reason(preload(goes_wrong(how.into()).name("the first")).await);
            assert!(told.contains("the preload `the first`") && told.contains(words), "{told}");
            assert_eq!(quick(1).await.unwrap(), 1);
        }
        let told = reason(preload(takes(Unreadable)).await);
        assert!(told.contains("`takes`") && told.contains("cannot be read back"), "{told}");
        assert_eq!(quick(1).await.unwrap(), 1);
        // It is no part of the next server either.
        kill_server();
        assert_eq!(quick(1).await.unwrap(), 1);
    }

    /// One that overflows the stack is told as a preload that does.
    #[once]
    async fn an_overflow_is_told() {
        let told = reason(preload(goes_wrong("overflow".into())).await);
        assert!(told.contains("overflowed its stack"), "{told}");
        assert_eq!(quick(1).await.unwrap(), 1);
    }

    /// One that does not end is ended by its time limit, and leaves no server behind.
    #[once]
    async fn an_endless_one_has_its_time() {
        let error = preload(goes_wrong("never".into()).timeout(SECOND / 5)).await.unwrap_err();
        assert_eq!(*error.cause(), Cause::TimedOut { after: SECOND / 5 });
        assert_eq!(quick(1).await.unwrap(), 1);
        eventually(SECOND * 30, || servers().len() == 1);
    }

    /// A thread that is left running cannot be copied: its name is told.
    #[once]
    async fn a_thread_is_told_by_its_name() {
        let told = reason(preload(goes_wrong("thread".into())).await);
        assert!(told.contains("left-behind"), "{told}");
        assert_eq!(quick(1).await.unwrap(), 1);
    }

    /// One that starts a child has a control thread from then on, as every program has that does: it is told.
    #[once]
    async fn it_cannot_start_children() {
        let told = reason(preload(starts_a_child()).await);
        assert!(told.contains("procession"), "{told}");
        assert_eq!(quick(1).await.unwrap(), 1);
    }

    /// What is to be done at an exit is done by each child, and not by the server, however that ends.
    #[once]
    async fn exit_hooks_are_the_childrens() {
        let (_directory, place) = place();
        preload(has_an_exit_hook(place.clone())).await.unwrap();
        for _ in 0..2 {
            quick(1).await.unwrap();
        }
        let former = servers()[0];
        preload(notes("nothing".into())).await.unwrap();
        wait_until_gone(former);
        assert_eq!(fs::read_to_string(&place).unwrap_or_default(), "xx");
    }

    /// Threads that have ended are no threads, however short ago that was.
    #[once]
    async fn threads_that_were_joined() {
        for round in 0..20 {
            let outcome = preload(computes_with_threads(round % 2 == 0)).await;
            assert!(outcome.is_ok(), "round {round}: {outcome:?}");
        }
        assert_eq!(quick(1).await.unwrap(), 1);
    }

    /// What needs a runtime, which has more than one life, is refused before anything happens.
    #[once]
    async fn an_async_one_is_refused() {
        let before = servers();
        let told = reason(preload(is_async()).await);
        assert!(told.contains("`async fn`"), "{told}");
        assert_eq!(servers(), before);
    }

    /// Children that are there go on as they are; the new ones see what is new; their server leaves when they have.
    #[once]
    async fn children_from_before_go_on() {
        let (_directory, runs) = place();
        let release = runs.with_extension("release");
        let mut old = sees_the_table_later(release.clone()).spawn().await.unwrap();
        preload(makes_a_table(runs)).await.unwrap();
        assert!(sees_the_table().await.unwrap().is_some());
        assert_eq!(servers().len(), 2);
        assert!(old.is_alive());
        fs::write(release, "").unwrap();
        assert!(!old.join().await.unwrap());
        eventually(SECOND * 30, || servers().len() == 1);
    }

    /// Calls that come while one runs wait for it, and see it.
    #[once]
    async fn calls_meanwhile_see_it() {
        let (_directory, runs) = place();
        let waiting = preload(makes_a_table(runs));
        let early = join_all((0..20).map(quick));
        let (early, loaded) = tokio::join!(early, waiting);
        assert!(early.iter().all(Result::is_ok), "{early:?}");
        loaded.unwrap();
        assert!(sees_the_table().await.unwrap().is_some());
    }

    /// Several run in the order in which they were asked for, also in the servers that come later.
    #[once]
    async fn in_order() {
        for word in ["first", "second"] {
            preload(notes(word.into())).await.unwrap();
        }
        assert_eq!(noted().await.unwrap(), ["first", "second"]);
        kill_server();
        assert_eq!(noted().await.unwrap(), ["first", "second"]);
        assert_eq!(*NOTES.lock().unwrap(), [""; 0]);
    }

    /// The server's death does not end a preload: it runs again. If it fails then, starts do, and no longer than it does.
    #[once]
    async fn it_outlives_its_server() {
        let (_directory, source) = place();
        fs::write(&source, "from the file").unwrap();
        preload(notes_what_stands_in(source.clone())).await.unwrap();
        kill_server();
        assert_eq!(noted().await.unwrap(), ["from the file"]);
        fs::remove_file(&source).unwrap();
        assert_eq!(noted().await.unwrap(), ["from the file"]);
        kill_server();
        for _ in 0..3 {
            let told = reason(noted().await);
            assert!(told.contains("notes_what_stands_in") && told.contains("No such file"), "{told}");
        }
        assert_eq!(noted().start_method(StartMethod::Spawn).await.unwrap(), [""; 0]);
        fs::write(&source, "anew").unwrap();
        assert_eq!(noted().await.unwrap(), ["anew"]);
    }

    /// A call that was given up while it waited for a server never runs.
    #[once]
    async fn what_was_given_up_does_not_run() {
        let ((_directory, runs), (_other, begun)) = (place(), place());
        let loading = preload(takes_its_time(begun.clone(), Duration::from_secs(2)));
        let calls = async {
            eventually_async(Duration::from_secs(30), || begun.exists()).await;
            let calls: Vec<_> = (0..10).map(|_| leaves_a_mark(runs.clone())).collect();
            assert!(tokio::time::timeout(Duration::from_millis(100), join_all(calls)).await.is_err());
        };
        let (loaded, ()) = futures::join!(loading, calls);
        loaded.unwrap();
        join_all((0..10).map(quick)).await.into_iter().for_each(|value| assert!(value.is_ok(), "{value:?}"));
        procession::join_children().await;
        assert!(!runs.exists(), "{:?}", fs::read_to_string(&runs));
    }

    /// Where no server can start, many calls fail together, and not one after the other.
    #[once]
    async fn a_failure_is_everybodys() {
        let (_directory, source) = place();
        fs::write(&source, "from the file").unwrap();
        preload(notes_what_stands_in(source.clone())).await.unwrap();
        fs::remove_file(&source).unwrap();
        kill_server();
        let began = tokio::time::Instant::now();
        for outcome in join_all((0..100).map(|_| noted())).await {
            let told = reason(outcome);
            assert!(told.contains("No such file"), "{told}");
        }
        // One after the other they would take a second each.
        assert!(began.elapsed() < Duration::from_secs(50));
        fs::write(&source, "anew").unwrap();
        assert_eq!(noted().await.unwrap(), ["anew"]);
    }

    /// It goes on when nobody waits for it any more, and holds.
    #[once]
    async fn it_goes_on_unwatched() {
        let (_directory, runs) = place();
        assert!(futures::poll!(Box::pin(preload(makes_a_table(runs.clone())))).is_pending());
        eventually_async(SECOND * 30, || runs.exists()).await;
        assert!(sees_the_table().await.unwrap().is_some());
    }

    /// What it has printed, and what still stands in a buffer, is printed once.
    #[once]
    async fn what_it_prints_is_printed_once() {
        let mut process = has_a_preload_that_prints().stdout(Stdio::piped()).spawn().await.unwrap();
        let mut output = String::new();
        process.stdout().unwrap().read_to_string(&mut output).await.unwrap();
        process.join().await.unwrap();
        assert_eq!(output, "[preload][child][child][child]");
    }

    /// So is what stands in a buffer of the C library, a preload's and a child's.
    #[once]
    async fn what_it_prints_in_c_is_printed_once() {
        let mut process = has_a_preload_that_prints_in_c().stdout(Stdio::piped()).spawn().await.unwrap();
        let mut output = String::new();
        process.stdout().unwrap().read_to_string(&mut output).await.unwrap();
        process.join().await.unwrap();
        assert_eq!(output, "[preload][child][child][child]");
    }

    /// It begins where the parent is, and where it goes is its own affair: a child is where its parent is.
    #[once]
    async fn its_surroundings_are_its_own() {
        let (directory, place) = place();
        let here = directory.path().canonicalize().unwrap();
        std::env::set_current_dir(&here).unwrap();
        let mask = umask(Mode::from_raw_mode(0o27));
        preload(moves(place.clone())).await.unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), format!("{} 0027", here.display()));
        assert_eq!(where_it_is().await.unwrap(), (here, "0027".into()));
        umask(mask);
        std::env::set_current_dir("/").unwrap();
    }

    /// A program that it leaves running ends with its server: there are never two of them.
    #[once]
    async fn programs_that_it_leaves() {
        preload(leaves_a_program()).await.unwrap();
        let programs = || -> Vec<u32> {
            let keeper = rustix::process::getppid().unwrap().as_raw_pid().unsigned_abs();
            let all = descendants_of(keeper).into_iter().filter(|it| it.comm == "sleep" && !it.is_zombie());
            all.map(|it| it.pid).collect()
        };
        eventually(SECOND * 30, || programs().len() == 1);
        kill_server();
        assert_eq!(quick(1).await.unwrap(), 1);
        eventually(SECOND * 10, || programs().len() == 1);
        // Nothing is to be left, and the server stays.
        kill_process(Pid::from_raw(programs()[0].cast_signed()).unwrap(), Signal::KILL).unwrap();
    }
}

#[process]
fn sees_the_table_later(release: PathBuf) -> bool {
    eventually(SECOND * 60, || release.exists());
    TABLE.get().is_some()
}

#[process]
fn starts_a_child() -> Result<(), Failure> {
    quick(1).blocking()?;
    Ok(())
}

#[process]
fn has_an_exit_hook(place: PathBuf) -> Result<(), Failure> {
    on_exit(move || append(&place, "x"));
    Ok(())
}

#[process]
fn computes_with_threads(scoped: bool) -> Result<(), Failure> {
    let compute = || std::hint::black_box((0..1000_u64).sum::<u64>());
    if scoped {
        std::thread::scope(|scope| (0..32).for_each(|_| drop(scope.spawn(compute))));
    } else {
        let threads: Vec<_> = (0..32).map(|_| std::thread::spawn(compute)).collect();
        threads.into_iter().for_each(|thread| assert!(thread.join().is_ok()));
    }
    Ok(())
}

static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(word: impl Into<String>) {
    NOTES.lock().unwrap().push(word.into());
}

#[process]
fn notes(word: String) -> Result<(), Failure> {
    note(word);
    Ok(())
}

#[process]
fn takes_its_time(begun: PathBuf, time: Duration) -> Result<(), Failure> {
    append(&begun, "x");
    std::thread::sleep(time);
    Ok(())
}

#[process]
fn leaves_a_mark(runs: PathBuf) {
    append(&runs, "x");
}

#[process]
fn notes_what_stands_in(source: PathBuf) -> Result<(), Failure> {
    note(fs::read_to_string(source)?);
    Ok(())
}

#[process]
fn noted() -> Vec<String> {
    NOTES.lock().unwrap().clone()
}

#[process]
#[expect(clippy::print_stdout, reason = "the test is about it")]
fn prints(what: String) -> Result<(), Failure> {
    print!("{what}");
    Ok(())
}

#[process]
async fn has_a_preload_that_prints() {
    preload(prints("[preload]".into())).await.unwrap();
    for _ in 0..3 {
        prints("[child]".into()).await.unwrap().unwrap();
    }
}

/// As C does it: what is no line goes nowhere before the process exits.
#[process]
#[expect(unsafe_code, reason = "the test is about it")]
fn prints_in_c(what: CString) -> Result<(), Failure> {
    // SAFETY: both strings end with a null, and the one has no words for arguments but the other.
    let written = unsafe { libc::printf(c"%s".as_ptr(), what.as_ptr()) };
    assert_eq!(usize::try_from(written)?, what.count_bytes());
    Ok(())
}

#[process]
async fn has_a_preload_that_prints_in_c() {
    preload(prints_in_c(c"[preload]".into())).await.unwrap();
    for start_method in [None, None, Some(StartMethod::Spawn)] {
        let call = prints_in_c(c"[child]".into());
        let call = start_method.into_iter().fold(call, |call, method| call.start_method(method));
        let mut process = call.spawn().await.unwrap();
        process.join().await.unwrap().unwrap();
    }
}

fn station() -> (PathBuf, String) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim().to_owned();
    (std::env::current_dir().unwrap(), mask)
}

#[process]
fn where_it_is() -> (PathBuf, String) {
    station()
}

#[process]
fn moves(place: PathBuf) -> Result<(), Failure> {
    let (directory, mask) = station();
    append(&place, &format!("{} {mask}", directory.display()));
    std::env::set_current_dir("/")?;
    umask(Mode::from_raw_mode(0o77));
    Ok(())
}

#[process]
fn leaves_a_program() -> Result<(), Failure> {
    Command::new("sleep").arg("1000").spawn()?;
    Ok(())
}

isolated! {
    /// What was asked for by `on_fork` is done in every child, by itself, in order, before its function.
    #[once]
    async fn hooks_run_in_every_child() {
        preload(has_hooks()).await.unwrap();
        for _ in 0..3 {
            let mut process = noted().spawn().await.unwrap();
            let expected = [format!("first in {}", process.pid()), format!("second in {}", process.pid())];
            assert_eq!(process.join().await.unwrap(), expected);
        }
        warm(2).await.unwrap();
        let mut process = noted().spawn().await.unwrap();
        let expected = [format!("first in {}", process.pid()), format!("second in {}", process.pid())];
        assert_eq!(process.join().await.unwrap(), expected);
        warm(0).await.unwrap();
    }

    /// A hook of this process, which no server copies, is never called.
    #[once]
    async fn hooks_of_a_parent_are_never_called() {
        on_fork(|| note("called"));
        for method in [StartMethod::ForkServer, StartMethod::Spawn] {
            assert_eq!(noted().start_method(method).await.unwrap(), [""; 0]);
        }
        assert_eq!(*NOTES.lock().unwrap(), [""; 0]);
    }

    /// A hook that panics ends its child, with that panic; also one that is started ahead.
    #[once]
    async fn a_hook_that_panics_is_told() {
        preload(has_a_bad_hook()).await.unwrap();
        for spares in [0, 2] {
            warm(spares).await.unwrap();
            for _ in 0..3 {
                let error = quick(1).await.unwrap_err();
                let Cause::Panicked { message, .. } = error.cause() else { panic!("{error:?}") };
                assert_eq!(message, "no luck");
            }
        }
        warm(0).await.unwrap();
    }

    /// What is random in a child is its own, as long as no preload has drawn it: then it is everybody's, unless a hook
    /// draws it anew.
    #[once]
    async fn random_seeds() {
        let differ = |seeds: &[u64]| seeds.iter().enumerate().all(|(n, seed)| !seeds[..n].contains(seed));
        let seeds = async || -> Vec<u64> {
            join_all((0..4).map(|_| seed())).await.into_iter().map(Result::unwrap).collect()
        };
        assert!(differ(&seeds().await));
        preload(notes("no map at all".into())).await.unwrap();
        assert!(differ(&seeds().await));
        preload(makes_a_map()).await.unwrap();
        let same = seeds().await;
        assert!(same.iter().all(|seed| *seed == same[0]), "{same:?}");

        preload(has_a_generator(false)).await.unwrap();
        assert_eq!(draws().await.unwrap(), draws().await.unwrap());
        preload(has_a_generator(true)).await.unwrap();
        assert_ne!(draws().await.unwrap(), draws().await.unwrap());
    }
}

#[process]
fn has_hooks() -> Result<(), Failure> {
    for word in ["first", "second"] {
        on_fork(move || note(format!("{word} in {}", std::process::id())));
    }
    Ok(())
}

#[process]
fn has_a_bad_hook() -> Result<(), Failure> {
    on_fork(|| panic!("no luck"));
    Ok(())
}

#[process]
fn makes_a_map() -> Result<(), Failure> {
    assert_eq!(HashMap::from([(1, 2)])[&1], 2);
    Ok(())
}

/// What a `HashMap` that is made now would begin with.
#[process]
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

static GENERATOR: Mutex<u64> = Mutex::new(0);

#[process]
fn has_a_generator(seeds_anew: bool) -> Result<(), Failure> {
    *GENERATOR.lock().unwrap() = 4711;
    if seeds_anew {
        on_fork(|| *GENERATOR.lock().unwrap() = u64::from(std::process::id()));
    }
    Ok(())
}

#[process]
fn draws() -> u64 {
    let mut state = GENERATOR.lock().unwrap();
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
    *state
}
