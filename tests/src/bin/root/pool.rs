//! A pool under random kills, stops and continues: each item has one result, in its place, and nothing is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use procession::{Cause, Pool, ProcessError, process};
use procession_tests::{children_of, eventually, eventually_async, open_fds, patience, state};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use crate::random::Random;

const WORKERS: usize = 4;
/// How long to wait for the next result.
const LIMIT: Duration = Duration::from_secs(20);
/// How long it is until the next kill at most, in microseconds.
const PAUSE: u64 = 8000;

/// How many results are awaited between two kills, for a while: an item that is tried again with each new worker, and has done nothing
/// yet each time that one is killed, is soon poisoned.
const RESULTS: u64 = 30;

/// Some give much, some take a while, some of those lie idle meanwhile.
#[process]
async fn work(n: u64) -> (u64, Bytes) {
    match n % 50 {
        7 => sleep(Duration::from_millis(1)).await,
        13 => std::thread::sleep(Duration::from_micros(300)),
        _ => {}
    }
    (n, Bytes::from(vec![n as u8; length(n)]))
}

const fn length(n: u64) -> usize {
    match n % 64 {
        5 => 6000,
        21 => 100_000,
        rest => rest as usize,
    }
}

/// What a map has given.
#[derive(Debug, Default)]
struct Told {
    items: u64,
    lost: u64,
    poisoned: u64,
}

impl Told {
    fn take(&mut self, result: Result<(u64, Bytes), ProcessError>) -> Option<u64> {
        self.items += 1;
        match result {
            Ok((n, bytes)) => {
                assert!(bytes == vec![n as u8; length(n)], "{n} has another's result");
                return Some(n);
            }
            Err(error) if matches!(error.cause(), Cause::Poisoned { deaths: 3, .. }) => self.poisoned += 1,
            Err(error) => {
                assert_eq!(error.signal(), Some(9), "{error}");
                self.lost += 1;
            }
        }
        None
    }
}

type Results<'a> = std::pin::Pin<Box<dyn Stream<Item = Result<(u64, Bytes), ProcessError>> + Send + 'a>>;

async fn next(results: &mut Results<'_>, pool: &Pool) -> Option<Result<(u64, Bytes), ProcessError>> {
    let next = timeout(patience(LIMIT), results.next()).await;
    next.unwrap_or_else(|_elapsed| panic!("nothing comes any more:\n{}", pool.stats()))
}

/// Takes what comes in the order of the items.
async fn in_order(mut results: Results<'_>, pool: &Pool) -> Told {
    let (mut told, mut expected) = (Told::default(), 0);
    while let Some(result) = next(&mut results, pool).await {
        assert!(told.take(result).is_none_or(|n| n == expected), "{expected} is not in its place");
        expected += 1;
    }
    told
}

/// Takes what comes as it comes.
async fn as_it_comes(mut results: Results<'_>, pool: &Pool) -> Told {
    let (mut told, mut seen) = (Told::default(), Vec::new());
    while let Some(result) = next(&mut results, pool).await {
        if let Some(n) = told.take(result) {
            let n = n as usize;
            seen.resize(seen.len().max(n + 1), false);
            assert!(!std::mem::replace(&mut seen[n], true), "{n} came twice");
        }
    }
    told
}

fn send(pid: u32, signal: Signal) -> bool {
    // It may have ended since it was looked at, or be about to be reaped.
    state(pid).is_some_and(|state| state != 'Z')
        && kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).is_ok()
}

/// Kills, stops and continues workers at random; half of what is stopped is never continued. Gives how many were stopped.
async fn kills(pool: &Pool, kills: u64, mut random: Random) -> u64 {
    let (mut killed, mut stops, mut stopped) = (0, 0, Vec::new());
    while killed < kills {
        let before = pool.stats().done;
        sleep(Duration::from_micros(random.below(PAUSE))).await;
        // Those that are stopped give none.
        for _ in 0..20 {
            if pool.stats().done >= before + RESULTS {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        let pids: Vec<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
        if pids.is_empty() {
            continue;
        }
        let victim = pids[random.below(pids.len() as u64) as usize];
        match random.below(8) {
            0 | 1 => {
                stops += u64::from(send(victim, Signal::STOP));
                stopped.push(victim);
            }
            2 | 3 if !stopped.is_empty() => {
                let at = random.below(stopped.len() as u64) as usize;
                let pid = stopped.swap_remove(at);
                if pids.contains(&pid) {
                    send(pid, Signal::CONT);
                }
            }
            // All of them at once.
            4 if random.below(8) == 0 => {
                killed += pids.iter().map(|pid| u64::from(send(*pid, Signal::KILL))).sum::<u64>()
            }
            _ => killed += u64::from(send(victim, Signal::KILL)),
        }
    }
    let pids: Vec<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
    stopped.iter().filter(|pid| pids.contains(pid)).for_each(|pid| _ = send(*pid, Signal::CONT));
    stops
}

/// Maps while workers are killed: in order and as it comes, with another try and without.
async fn run(pool: &Pool, count: u64, seed: u64, concurrency: usize) {
    let over = Arc::new(AtomicBool::new(false));
    let killed = AtomicU64::new(0);
    let items = |over: &Arc<AtomicBool>| {
        let over = Arc::clone(over);
        (0..).take_while(move |_| !over.load(Relaxed))
    };
    let ordered: Results<'_> = Box::pin(pool.map(work, items(&over)).retry(100).ordered());
    let unordered: Results<'_> = Box::pin(pool.map(work, items(&over)).chunk(20).retry(100).unordered());
    let once: Results<'_> = Box::pin(pool.map(work, items(&over)).in_flight(64).ordered());
    let chaos = async {
        let stops = kills(pool, count, Random(seed)).await;
        over.store(true, Relaxed);
        killed.store(count + WORKERS as u64, Relaxed);
        stops
    };
    let (ordered, unordered, once, stops) =
        futures::join!(in_order(ordered, pool), as_it_comes(unordered, pool), in_order(once, pool), chaos);
    println!("{stops} stops; in order {ordered:?}; as it came {unordered:?}; without another try {once:?}");
    assert_eq!((ordered.lost, unordered.lost), (0, 0), "what is tried again is not lost");
    let poisoned = ordered.poisoned + unordered.poisoned;
    assert!(poisoned <= concurrency as u64 * (2 + count / 50), "{poisoned} items are poisoned by bad luck");
    let started = killed.into_inner() * concurrency as u64;
    assert!(once.lost <= started && once.poisoned == 0, "more are lost than were killed");
    assert!(ordered.items > count && unordered.items > count, "hardly anything was done");
    eventually_async(LIMIT, || pool.stats().workers.len() == WORKERS).await;
}

fn held() -> (usize, usize) {
    (children_of(std::process::id()).len(), open_fds().len())
}

/// Kills so many workers of a pool while it maps, stops others, and lets some of those go on.
pub(crate) fn pool(kills: u64, seed: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { Pool::new(1).await.unwrap().close().await.unwrap() });
    let before = held();
    runtime.block_on(async {
        // With one task in each worker, and with several.
        for (concurrency, kills) in [(1, kills - kills / 4), (3, kills / 4)] {
            let pool = Pool::builder().workers(WORKERS).concurrency(concurrency).build().await.unwrap();
            run(&pool, kills, seed, concurrency).await;
            println!("{}", pool.stats());
            timeout(patience(LIMIT), pool.close()).await.expect("it closes").unwrap();
        }
    });
    eventually(LIMIT, || held() == before);
}
