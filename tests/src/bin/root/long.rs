//! Long runs: what the program holds after them is what it held before.

use std::fs;
use std::process;
use std::time::{Duration, Instant};

use futures::StreamExt;
use procession::{Cause, children, join_children, process};
use procession_tests::{children_of, eventually, fork_servers_of, open_fds, threads};
use tokio::runtime::Builder;

/// How much memory many starts may add, in KiB.
const GROWTH: u64 = 5 << 10;

#[process]
async fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[process]
#[expect(clippy::exit, reason = "it is one of the ends")]
fn leaves(code: i32) {
    process::exit(code)
}

#[process]
async fn waits() {
    std::future::pending::<()>().await;
}

/// What this process holds: descriptors, threads, children, fork servers, and memory in KiB.
#[derive(Debug)]
struct Held {
    fds: usize,
    threads: usize,
    children: usize,
    servers: usize,
    memory: u64,
    memory_of_servers: u64,
}

impl Held {
    fn now() -> Self {
        let (fds, threads) = (open_fds().len(), threads().len());
        let (children, servers) = (children_of(process::id()).len(), fork_servers_of(process::id()));
        let memory_of_servers = servers.iter().map(|server| resident(server.pid)).sum();
        let memory = resident(process::id());
        Self { fds, threads, children, servers: servers.len(), memory, memory_of_servers }
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Starts and joins so many children, after a tenth of them as a warm-up.
#[tokio::main]
pub(crate) async fn starts(number: u64) {
    some_starts(number / 10).await;
    let (before, began) = (Held::now(), Instant::now());
    some_starts(number).await;
    let seconds = began.elapsed().as_secs_f64();
    let after = Held::now();
    println!("{number} starts in {seconds:.1} s; before {before:?}, after {after:?}");
    assert_eq!((after.fds, after.threads), (before.fds, before.threads), "descriptors and threads");
    assert_eq!((after.children, after.servers), (0, before.servers), "children and fork servers");
    assert!(after.memory <= before.memory + GROWTH, "memory has grown by more than {GROWTH} KiB");
    let of_servers = (before.memory_of_servers, after.memory_of_servers);
    assert!(
        of_servers.1 <= of_servers.0 + GROWTH,
        "the fork server's memory has grown by more than {GROWTH} KiB"
    );
}

/// Most give a value; some leave, or are killed.
async fn some_starts(number: u64) {
    let one = async |n: u64| match n % 10 {
        0 => assert_eq!(*leaves(3).await.unwrap_err().cause(), Cause::Exited { code: 3 }),
        1 => assert_eq!(waits().spawn().await.unwrap().kill().await.unwrap().signal(), Some(9)),
        _ => assert_eq!(add(n, 1).await.unwrap(), n + 1),
    };
    futures::stream::iter(0..number).for_each_concurrent(4, one).await;
    join_children().await;
}

/// Ends a runtime that has a hundred living children, so many times, in every order.
pub(crate) fn shutdowns(times: u64) {
    let limit = Duration::from_secs(30);
    warm_up();
    let (before, began) = (Held::now(), Instant::now());
    for time in 0..times {
        shutdown(time);
        eventually(limit, || children_of(process::id()).is_empty());
        eventually(limit, || (open_fds().len(), threads().len()) == (before.fds, before.threads));
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{times} shutdowns with 100 children in {seconds:.1} s; before {before:?}, after {:?}",
        Held::now()
    );
}

/// Leaves what every program keeps, and nothing else. A child's end is told when nothing of it is open; the kernel has no
/// child any more some time before that.
fn warm_up() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let added = runtime.block_on(async { add(1, 2).spawn().await.unwrap().join().await });
    assert_eq!(added.unwrap(), 3);
    drop(runtime);
    // This one, and the control thread; one that was joined may still be seen.
    eventually(Duration::from_secs(30), || threads().len() == 2);
}

/// Half of the children are awaited by tasks, half are held.
fn shutdown(time: u64) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let held = runtime.block_on(async {
        (0..50).for_each(|_| drop(tokio::spawn(waits())));
        let held: Vec<_> = (0..50).map(|_| waits().kill_on_drop(true).spawn()).collect();
        let held = futures::future::try_join_all(held).await.unwrap();
        while children().len() < 100 {
            tokio::task::yield_now().await;
        }
        held
    });
    match time % 3 {
        0 => drop((held, runtime)),
        1 => drop((runtime, held)),
        _ => {
            drop(runtime.spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            }));
            runtime.shutdown_background();
        }
    }
}
