//! Who a process is, what it sees, and how many there can be. Conformance PR01, PR03, PR06, PR15, PR17, PR18, PR29 to
//! PR31, MI01.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::PathBuf;
use std::time::Duration;

use procession::{Call, StartMethod, current, parent, process};
use procession_tests::{fork_servers_of, info, isolated, open_fds};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    name: String,
    pid: u32,
    is_child: bool,
    parent: Option<(String, u32)>,
    arguments: (u8, String),
}

#[process]
async fn look_around(number: u8, text: String) -> Seen {
    Seen {
        name: current().name().to_owned(),
        pid: current().pid(),
        is_child: current().is_child(),
        parent: parent().map(|parent| (parent.name().to_owned(), parent.pid())),
        arguments: (number, text),
    }
}

#[process]
async fn sleeps() {
    tokio::time::sleep(Duration::from_secs(3600)).await;
}

#[process]
async fn descend(levels: u32) -> Vec<u32> {
    let mut below = if levels == 0 { vec![] } else { descend(levels - 1).await.unwrap() };
    below.insert(0, std::process::id());
    below
}

#[process]
fn surroundings() -> (PathBuf, Vec<(String, String)>, Vec<String>) {
    (std::env::current_dir().unwrap(), std::env::vars().collect(), std::env::args().collect())
}

#[process]
fn descriptors() -> Vec<u32> {
    let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let mut numbers: Vec<u32> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[process]
fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim().to_owned())
        .collect()
}

#[process(name = "given")]
fn named() -> String {
    current().name().to_owned()
}

const METHODS: [StartMethod; 2] = [StartMethod::ForkServer, StartMethod::Spawn];

/// By which method a child is started: one that was forked is the fork server's.
async fn method_seen(call: Call<()>) -> StartMethod {
    let mut process = call.spawn().await.unwrap();
    let parent = info(process.pid()).unwrap().ppid;
    process.kill().await.unwrap();
    if parent == std::process::id() {
        return StartMethod::Spawn;
    }
    assert!(fork_servers_of(std::process::id()).iter().any(|server| server.pid == parent));
    StartMethod::ForkServer
}

/// By which method a child starts its own, by default or if it chooses one.
#[process]
async fn method_below(chosen: Option<StartMethod>) -> StartMethod {
    match chosen {
        Some(method) => method_seen(sleeps().start_method(method)).await,
        None => method_seen(sleeps()).await,
    }
}

isolated! {
    /// PR01: a process through its life, seen from both sides.
    async fn pr01_lifecycle() {
        let call = look_around(1, "two".into()).name("SomeProcess");
        assert_eq!(format!("{call:?}"), r#"Call("SomeProcess", not started)"#);
        let mut process = call.spawn().await.unwrap();
        let pid = process.pid();
        assert_eq!(process.name(), "SomeProcess");
        let seen = process.join().await.unwrap();
        let expected = Seen {
            name: "SomeProcess".into(),
            pid,
            is_child: true,
            parent: Some((current().name().to_owned(), std::process::id())),
            arguments: (1, "two".into()),
        };
        assert_eq!(seen, expected);
        assert_eq!((process.exit_code(), process.is_alive()), (Some(0), false));
        assert_eq!(format!("{process:?}"), format!(r#"Process("SomeProcess", pid {pid}, exited with code 0)"#));
    }

    /// PR01: what it shows while it lives, and after a signal.
    async fn pr01_debug_through_a_life() {
        let mut process = sleeps().name("sieve").spawn().await.unwrap();
        let pid = process.pid();
        assert!(process.is_alive() && process.exit_code().is_none());
        assert_eq!(format!("{process:?}"), format!(r#"Process("sieve", pid {pid}, running)"#));
        process.terminate().unwrap();
        process.wait().await.unwrap();
        assert_eq!(format!("{process:?}"), format!(r#"Process("sieve", pid {pid}, killed by SIGTERM)"#));
    }

    /// PR03, PR06: the root is nobody's child.
    #[once]
    fn pr03_the_root() {
        assert!(!current().is_child() && parent().is_none());
        assert_eq!(current().pid(), std::process::id());
        assert!(current().name().starts_with("identity-"), "{}", current().name());
    }

    /// Names: given to the call, to the function, or made of the function's and a number.
    async fn names() {
        assert_eq!(named().name("other").await.unwrap(), "other");
        let (first, second) = (named().await.unwrap(), named().await.unwrap());
        assert!(first.starts_with("given-") && second.starts_with("given-") && first != second);
        let long = "a name of more than fifteen bytes, with \0 in it";
        assert_eq!(named().name(long).await.unwrap(), long);
        assert_eq!(thread_names().name("shown by ps").await.unwrap(), ["shown by ps"]);
    }

    /// PR15: children of children of children.
    async fn pr15_recursion() {
        let pids = descend(4).await.unwrap();
        assert_eq!(pids.len(), 5);
        assert_eq!(pids.iter().collect::<std::collections::HashSet<_>>().len(), 5);
    }

    /// PR17: what a process takes is given back when its handle goes.
    async fn pr17_handles_give_back() {
        let before = open_fds();
        let processes: Vec<_> = futures::future::try_join_all((0..10).map(|_| sleeps().spawn())).await.unwrap();
        assert!(open_fds().len() >= before.len() + 10);
        for mut process in processes {
            process.kill().await.unwrap();
        }
        assert_eq!(open_fds().len(), before.len());
    }

    /// PR18: many that end by themselves, and many that are ended just after their start.
    #[limit(120)]
    async fn pr18_many_processes() {
        let ends = futures::future::join_all((0..40).map(async |_| {
            let mut process = surroundings().spawn().await.unwrap();
            process.wait().await.unwrap().exit_code()
        }));
        assert!(ends.await.iter().all(|code| *code == 0));
        let ends = futures::future::join_all((0..40).map(async |_| {
            let mut process = sleeps().spawn().await.unwrap();
            process.terminate().unwrap();
            process.wait().await.unwrap().exit_code()
        }));
        assert!(ends.await.iter().all(|code| *code == -15));
    }

    /// PR29, PR30: directory, environment and arguments are the parent's.
    async fn pr29_surroundings() {
        let (directory, environment, arguments) = surroundings().await.unwrap();
        assert_eq!(directory, std::env::current_dir().unwrap());
        assert_eq!(environment, std::env::vars().collect::<Vec<_>>());
        assert_eq!(arguments, std::env::args().collect::<Vec<_>>());
    }

    /// A child has no descriptor of its parent's but input, output and errors.
    async fn no_foreign_descriptors() {
        let file = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        // The link, the lifeline, and what lists the directory.
        assert_eq!(descriptors().await.unwrap(), [0, 1, 2, 3, 4, 5]);
        drop(file);
    }

    /// MI01: the way to start is chosen for each call. Both mix in one process.
    #[once]
    async fn mi01_start_methods() {
        assert_eq!(StartMethod::default(), StartMethod::ForkServer);
        for method in [METHODS, METHODS].concat() {
            assert_eq!(named().name("n").start_method(method).await.unwrap(), "n");
            assert_eq!(method_seen(sleeps().start_method(method)).await, method);
        }
        let mixed = METHODS.into_iter().cycle().take(10).map(|method| named().name("n").start_method(method));
        assert_eq!(futures::future::try_join_all(mixed).await.unwrap(), ["n"; 10]);
    }

    /// MI01: and set for all calls that do not choose, here and below; what a call chooses holds for that call alone.
    #[once]
    async fn mi01_the_default() {
        assert_eq!(method_seen(sleeps()).await, StartMethod::default());
        for method in METHODS {
            assert_eq!(method_below(None).start_method(method).await.unwrap(), StartMethod::default());
            assert_eq!(method_below(Some(method)).await.unwrap(), method);
        }
        for method in METHODS {
            method.set_default();
            assert_eq!(method_seen(sleeps()).await, method);
            for chosen in METHODS {
                assert_eq!(method_below(None).start_method(chosen).await.unwrap(), method);
                assert_eq!(method_below(Some(chosen)).await.unwrap(), chosen);
            }
        }
    }

    /// PR31: the harness's own `main` has not run in a child: its threads would be there.
    async fn pr31_main_does_not_run_in_a_child() {
        assert_eq!(thread_names().name("alone").await.unwrap(), ["alone"]);
    }
}
