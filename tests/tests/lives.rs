//! Stopping, letting go, and belonging: conformance PR05, PR11, PR14, PR28; failures F16, F17, R3, R12.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use procession::{Cause, ProcessSet, children, current, join_children, on_exit, parent, process};
use procession_tests::{
    arrive, eventually_async, has_a_child_that_leaves, has_arrived, isolated, state, wait_until_gone,
};
use rustix::process::{Pid, Signal, getpgrp, kill_process};

const ROOT: &str = env!("CARGO_BIN_EXE_root");
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

async fn arrived(place: &Path) {
    eventually_async(SECOND * 30, || has_arrived(place)).await;
}

struct Meeting {
    _directory: tempfile::TempDir,
    place: PathBuf,
}

/// A place where a child can show that it has come.
fn meeting() -> Meeting {
    let directory = tempfile::tempdir().unwrap();
    Meeting { place: directory.path().join("place"), _directory: directory }
}

#[process]
async fn cooperates(place: PathBuf) -> String {
    let stopping = current().stopping();
    assert!(!current().is_stopping());
    arrive(&place);
    stopping.await;
    assert!(current().is_stopping());
    "in order".into()
}

#[process]
fn looks_up(place: PathBuf) -> u64 {
    assert!(!current().is_stopping());
    arrive(&place);
    let mut turns = 0;
    while !current().is_stopping() {
        turns += 1;
    }
    turns
}

#[process]
async fn sleeps(place: PathBuf) {
    arrive(&place);
    tokio::time::sleep(LONG).await;
}

#[process]
fn spins(place: PathBuf) {
    arrive(&place);
    loop {
        std::hint::spin_loop();
    }
}

#[process]
async fn deaf(place: PathBuf) {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    arrive(&place);
    loop {
        terminated.recv().await;
    }
}

#[process]
#[expect(clippy::zombie_processes, reason = "the test is about what becomes of it")]
fn starts_a_program(place: PathBuf) {
    let program = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(place.with_extension("pid"), program.id().to_string()).unwrap();
    arrive(&place);
    loop {
        std::thread::park();
    }
}

#[process]
async fn quick(n: u8) -> u8 {
    n
}

isolated! {
    /// PR11: a function that listens comes to its own end, and its value is there.
    async fn pr11_cooperative_stop() {
        let meeting = meeting();
        let mut process = cooperates(meeting.place.clone()).spawn().await.unwrap();
        arrived(&meeting.place).await;
        assert!(process.stop(LONG).await.unwrap().success());
        assert_eq!(process.join().await.unwrap(), "in order");
    }

    /// PR11: code that computes can look up.
    async fn pr11_computing_code_looks_up() {
        let meeting = meeting();
        let mut process = looks_up(meeting.place.clone()).spawn().await.unwrap();
        arrived(&meeting.place).await;
        assert!(process.stop(LONG).await.unwrap().success());
        assert!(process.join().await.is_ok());
    }

    /// The ladder: who does not listen gets SIGTERM when the grace is over, who is deaf to that SIGKILL.
    async fn the_ladder() {
        for (place, deaf_to_terminate) in [(meeting(), false), (meeting(), true)] {
            let mut process =
                if deaf_to_terminate { deaf(place.place.clone()) } else { sleeps(place.place.clone()) }.spawn().await.unwrap();
            arrived(&place.place).await;
            let status = process.stop(SECOND / 10).await.unwrap();
            assert_eq!(status.signal(), Some(if deaf_to_terminate { 9 } else { 15 }));
            assert_eq!(process.join().await.unwrap_err().signal(), status.signal());
        }
    }

    /// A process that has stopped, or ended, can be stopped again; and one that SIGSTOP holds is ended too.
    async fn stops_that_are_none() {
        let mut process = quick(1).spawn().await.unwrap();
        process.wait().await.unwrap();
        assert!(process.stop(LONG).await.unwrap().success());
        let place = meeting();
        let mut process = sleeps(place.place.clone()).spawn().await.unwrap();
        arrived(&place.place).await;
        kill_process(Pid::from_raw(process.pid().cast_signed()).unwrap(), Signal::STOP).unwrap();
        // Until it has really stopped SIGTERM can end it.
        eventually_async(SECOND * 30, || state(process.pid()) == Some('T')).await;
        assert_eq!(process.stop(Duration::ZERO).await.unwrap().signal(), Some(9));
    }

    /// A stop that nobody waits for goes on.
    async fn stopping_goes_on_unwatched() {
        let place = meeting();
        let mut process = sleeps(place.place.clone()).spawn().await.unwrap();
        arrived(&place.place).await;
        assert!(futures::poll!(Box::pin(process.stop(SECOND / 10))).is_pending());
        assert_eq!(process.wait().await.unwrap().signal(), Some(15));
    }

    /// F17: what a process has started by `std::process` goes with it, however it ends.
    async fn f17_programs_of_a_child_go_with_it() {
        for ends_by_stop in [true, false] {
            let place = meeting();
            let mut process = starts_a_program(place.place.clone()).spawn().await.unwrap();
            arrived(&place.place).await;
            let program = std::fs::read_to_string(place.place.with_extension("pid")).unwrap().parse().unwrap();
            assert!(state(program).is_some());
            if ends_by_stop {
                process.stop(Duration::ZERO).await.unwrap();
            } else {
                process.kill().await.unwrap();
            }
            wait_until_gone(program);
        }
    }

    /// R3: a dropped handle is no leak, and no trouble for the child; with `kill_on_drop` it ends it.
    async fn r03_drops() {
        let place = meeting();
        let let_go = sleeps(place.place.clone()).spawn().await.unwrap();
        let signaler = let_go.signaler();
        drop(let_go);
        arrived(&place.place).await;
        assert!(signaler.is_alive());
        signaler.kill().unwrap();
        wait_until_gone(signaler.pid());
        signaler.terminate().unwrap();

        let place = meeting();
        let held = sleeps(place.place.clone()).kill_on_drop(true).spawn().await.unwrap();
        let pid = held.pid();
        arrived(&place.place).await;
        drop(held);
        wait_until_gone(pid);
    }

    /// Drops of many, in any order with the runtime's own end.
    #[limit(120)]
    fn drops_and_runtimes_in_any_order() {
        for round in 0..10 {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let (calls, processes) = runtime.block_on(async {
                let mut calls: Vec<_> = (0..5).map(quick).collect();
                for call in &mut calls {
                    drop(futures::poll!(call));
                }
                let processes = (0..5).map(|_| sleeps("/dev/null".into()).kill_on_drop(true).spawn());
                (calls, futures::future::try_join_all(processes).await.unwrap())
            });
            match round % 3 {
                0 => drop((calls, processes, runtime)),
                1 => drop((runtime, processes, calls)),
                _ => {
                    runtime.spawn(async move {
                        tokio::time::sleep(LONG).await;
                        drop((calls, processes));
                    });
                    runtime.shutdown_background();
                }
            }
        }
    }

    /// PR14: the list of children is that of the living, in the order of their birth, and needs no `join`.
    async fn pr14_children() {
        assert!(children().is_empty());
        let mut first = sleeps("/dev/null".into()).name("first").spawn().await.unwrap();
        let second = sleeps("/dev/null".into()).name("second").daemon(true).spawn().await.unwrap();
        let listed: Vec<_> = children().into_iter().map(|child| (child.name, child.pid, child.daemon)).collect();
        assert_eq!(listed, [("first".into(), first.pid(), false), ("second".into(), second.pid(), true)]);
        first.kill().await.unwrap();
        assert_eq!(children().len(), 1);
        second.start_kill().unwrap();
        eventually_async(SECOND * 30, || children().is_empty()).await;
    }

    /// PR05: `join_children` waits for those that are not daemons, and ends those that are.
    async fn pr05_daemons() {
        let place = meeting();
        let mut daemon = sleeps("/dev/null".into()).daemon(true).spawn().await.unwrap();
        let mut worker = cooperates(place.place.clone()).spawn().await.unwrap();
        arrived(&place.place).await;
        assert!(futures::poll!(Box::pin(join_children())).is_pending());
        assert!(worker.is_alive() && daemon.is_alive());
        let ((), stopped) = tokio::join!(join_children(), worker.stop(LONG));
        assert!(stopped.unwrap().success());
        assert_eq!(daemon.wait().await.unwrap().signal(), Some(9));
        assert!(children().is_empty());
    }

    /// A set gives values as they come, errors among them, and kills what is left when it goes.
    async fn process_sets() {
        let mut set = ProcessSet::new();
        assert!(set.is_empty() && set.join_next().await.is_none());
        for n in 0..5 {
            set.spawn(quick(n)).await.unwrap();
        }
        assert_eq!(set.len(), 5);
        let mut values = vec![];
        while let Some(value) = set.join_next().await {
            values.push(value.unwrap());
        }
        values.sort_unstable();
        assert_eq!(values, [0, 1, 2, 3, 4]);

        let mut sleepers = ProcessSet::new();
        let signaler = sleepers.spawn(sleeps("/dev/null".into())).await.unwrap();
        sleepers.spawn(sleeps("/dev/null".into())).await.unwrap();
        signaler.kill().unwrap();
        assert_eq!(sleepers.join_next().await.unwrap().unwrap_err().signal(), Some(9));
        assert_eq!(sleepers.len(), 1);
        sleepers.abort_all();
        assert_eq!(sleepers.join_next().await.unwrap().unwrap_err().signal(), Some(9));
        let left = sleepers.spawn(sleeps("/dev/null".into())).await.unwrap();
        drop(sleepers);
        wait_until_gone(left.pid());

        let mut detached = ProcessSet::new();
        let free = detached.spawn(sleeps("/dev/null".into())).await.unwrap();
        detached.detach_all();
        drop(detached);
        assert!(free.is_alive());
        free.kill().unwrap();
        wait_until_gone(free.pid());

        let mut down = ProcessSet::new();
        let last = down.spawn(spins("/dev/null".into())).await.unwrap();
        down.shutdown().await;
        assert!(down.is_empty() && !last.is_alive());
    }

    /// PR28: hooks run at an orderly end, the last first: after a return, a panic, an exit. Not after a signal.
    async fn pr28_exit_hooks() {
        for (how, expected) in [("return", "21"), ("panic", "21"), ("exit", "21"), ("abort", "")] {
            let place = meeting();
            let ended = hooks(place.place.clone(), how.into()).spawn().await.unwrap().join().await;
            assert_eq!(ended.is_ok(), how == "return", "{how}");
            assert_eq!(std::fs::read_to_string(&place.place).unwrap_or_default(), expected, "{how}");
        }
    }

    /// A call that is awaited gives its value before its process has ended; that is a child until then, and is waited for.
    async fn a_value_comes_before_the_end() {
        let place = meeting();
        let path = place.place.clone();
        assert_eq!(lingers(path.clone(), SECOND).name("lingerer").await.unwrap(), 7);
        assert_eq!(children().iter().map(|child| &*child.name).collect::<Vec<_>>(), ["lingerer"]);
        assert!(!path.exists());
        join_children().await;
        assert!(children().is_empty());
        assert_eq!(std::fs::read(path).unwrap(), b"here");
    }

    /// No more than sixteen are on their way out at a time: the values of others wait for their ends.
    async fn few_leave_at_a_time() {
        let call = |n: u32| async move {
            lingers("/dev/null".into(), SECOND / 2).name(n.to_string()).await.map(|_seven| n.to_string())
        };
        let mut calls: FuturesUnordered<_> = (0..24).map(call).collect();
        let (mut given, mut most) = (BTreeSet::new(), 0);
        while let Some(name) = calls.next().await {
            given.insert(name.unwrap());
            most = most.max(children().iter().filter(|child| given.contains(&child.name)).count());
        }
        assert!((2..=16).contains(&most), "{most} were leaving at a time");
        join_children().await;
    }

    /// A program that ends lets them come to their end.
    fn the_end_of_a_program_waits_for_them() {
        let place = meeting();
        let ended = std::process::Command::new(ROOT).arg("leaving").arg(&place.place).status().unwrap();
        assert!(ended.success(), "{ended}");
        assert_eq!(std::fs::read(&place.place).unwrap(), b"here");
    }

    /// The pidfd of a process is readable when it has ended, and not before.
    async fn pidfds() {
        let process = sleeps("/dev/null".into()).spawn().await.unwrap();
        let ended = |process: &procession::Process<()>| {
            let fd = process.as_fd();
            let mut polled = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut polled, Some(&rustix::event::Timespec::default())).unwrap() == 1
        };
        assert!(!ended(&process));
        process.start_kill().unwrap();
        eventually_async(SECOND * 30, || ended(&process)).await;
    }

    /// A parent's death can be seen by a child that has left its group; nobody's parent never dies.
    async fn parents() {
        assert!(parent().is_none());
        let place = meeting();
        let mut middle = has_a_child_that_leaves(place.place.clone(), getpgrp().as_raw_nonzero().get()).spawn().await.unwrap();
        arrived(&place.place).await;
        middle.kill().await.unwrap();
        let told = place.place.with_extension("told");
        arrived(&told).await;
    }

    /// R12: an ordinary stop prints nothing.
    async fn r12_an_ordinary_stop_is_silent() {
        let place = meeting();
        let file = std::fs::File::create(place.place.with_extension("stderr")).unwrap();
        let mut process = cooperates(place.place.clone()).stderr(file).spawn().await.unwrap();
        arrived(&place.place).await;
        process.stop(LONG).await.unwrap();
        assert_eq!(std::fs::read_to_string(place.place.with_extension("stderr")).unwrap(), "");
    }

    /// F16: what has timed out or was dropped is gone within a second, whatever it does.
    async fn f16_time_limits_free_the_process() {
        let place = meeting();
        let mut process = spins(place.place.clone()).timeout(SECOND / 10).spawn().await.unwrap();
        let pid = process.pid();
        assert!(matches!(process.join().await.unwrap_err().cause(), Cause::TimedOut { .. }));
        assert_eq!(state(pid), None);
    }
}

/// Comes to the place when its value is given and it has waited.
#[process]
async fn lingers(place: PathBuf, wait: Duration) -> u8 {
    tokio::task::spawn_blocking(move || {
        std::thread::sleep(wait);
        arrive(&place);
    });
    7
}

#[process]
#[expect(clippy::exit, reason = "the test is about it")]
fn hooks(place: PathBuf, how: String) {
    for word in ["1", "2"] {
        let place = place.clone();
        on_exit(move || {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(place).unwrap();
            file.write_all(word.as_bytes()).unwrap();
        });
    }
    match how.as_str() {
        "panic" => panic!("with hooks"),
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        _ => {}
    }
}
