//! The workers of a pool: conformance PO24, PO28, PO29, CF10, CF15; failures F9, F15, F20; requirement 8.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use procession::pipe::{Receiver, Sender};
use procession::pool::{self, WorkerState};
use procession::{Cause, Failure, Passed, Pool, Stage, process, simplex};
use procession_tests::{children_of, eventually_async, in_time, info, isolated, patience};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

struct Model(Vec<String>);

#[process]
fn load(words: String) -> Result<(), Failure> {
    if words.is_empty() {
        return Err(Failure::new("there is no model"));
    }
    pool::keep(Model(words.split(' ').map(str::to_owned).collect()));
    Ok(())
}

#[process]
async fn word(n: usize) -> Option<String> {
    pool::kept::<Model>()?.0.get(n).cloned()
}

#[process]
fn count() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Relaxed) + 1
}

#[process]
fn panics() {
    panic!("at the beginning");
}

#[process]
fn never_begins() {
    std::thread::sleep(Duration::from_secs(3600));
}

#[process]
fn pid() -> u32 {
    std::process::id()
}

#[process]
async fn pid_after(pause: Duration) -> u32 {
    sleep(pause).await;
    std::process::id()
}

#[process]
fn square(n: u64) -> u64 {
    n * n
}

/// Fills memory and keeps it.
#[process]
fn leaks(bytes: usize) -> u32 {
    Vec::leak(vec![1_u8; bytes]);
    std::process::id()
}

#[process]
async fn until_told(mut started: Sender<u32>, mut told: Receiver<()>) -> Result<u32, Failure> {
    started.send(std::process::id()).await?;
    told.recv().await?;
    Ok(std::process::id())
}

#[process]
fn blocks_until_told(mut started: Sender<u32>, mut told: Receiver<()>) -> Result<(), Failure> {
    started.blocking_send(std::process::id())?;
    started.blocking_flush()?;
    told.blocking_recv()?;
    Ok(())
}

/// Waits for ever, and lets others go on meanwhile.
#[process]
async fn waits(mut started: Sender<u32>, _held: Passed<OwnedFd>) -> Result<(), Failure> {
    started.send(std::process::id()).await?;
    std::future::pending().await
}

#[process]
async fn nested(depth: u32, n: u64) -> Result<u64, Failure> {
    if depth == 0 {
        return Ok(n);
    }
    let pool = Pool::new(2).await?;
    let values = pool.map(|n| nested(depth - 1, n), [n, n + 1]).await?;
    pool.close().await?;
    let values: Result<Vec<u64>, Failure> = values.into_iter().collect();
    Ok(values?.into_iter().sum())
}

/// Has its work done by the workers of its parent.
#[process]
async fn delegates(pool: Pool, count: u64) -> Result<(u64, BTreeSet<u32>), Failure> {
    let values = pool.map(square, 0..count).await?;
    let mut pids = BTreeSet::new();
    for _ in 0..4 {
        pids.insert(pool.run(pid()).await?);
    }
    let error = pool.run(panics()).await.unwrap_err();
    assert!(error.is_panic() && error.pid().is_some_and(|pid| pids.contains(&pid)), "{error}");
    let (sender, mut started) = simplex()?;
    let (mut tell, told) = simplex()?;
    let task = pool.submit(until_told(sender, told)).await?;
    pids.insert(started.recv().await?.expect("a word"));
    tell.send(()).await?;
    pids.insert(task.await??);
    pool.close().await?;
    Ok((values.into_iter().sum(), pids))
}

/// Has something running in its parent's pool, and dies.
#[process]
async fn delegates_and_dies(pool: Pool, started: Sender<u32>, held: Passed<OwnedFd>) -> Result<(), Failure> {
    let _task = pool.submit(waits(started, held)).await?;
    std::future::pending().await
}

/// Tells what becomes of a task when the pool is gone.
#[process]
async fn outlives(
    pool: Pool,
    mut started: Sender<()>,
    mut told: Receiver<()>,
) -> Result<Vec<String>, Failure> {
    let long = pool.submit(pid_after(Duration::from_secs(3600))).await?;
    pool.run(pid()).await?;
    started.send(()).await?;
    told.recv().await?;
    let (first, second) = (long.await.unwrap_err(), pool.run(pid()).await.unwrap_err());
    Ok(vec![first.to_string(), second.to_string()])
}

isolated! {
    async fn a_child_has_its_work_done_by_a_pool_of_its_parent() {
        let pool = Pool::new(2).await.unwrap();
        let ours: BTreeSet<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
        for count in [10, 5000] {
            let (sum, pids) = in_time(delegates(pool.clone(), count)).await.unwrap().unwrap();
            assert_eq!(sum, (0..count).map(|n| n * n).sum::<u64>());
            assert!(pids.is_subset(&ours) && !pids.is_empty(), "{pids:?} are not of {ours:?}");
        }
        // In one of its own workers, too.
        let (sum, _) = in_time(pool.run(delegates(pool.clone(), 10))).await.unwrap().unwrap();
        assert_eq!(sum, 285);
        in_time(pool.close()).await.unwrap();
    }

    async fn what_a_dead_child_has_asked_for_is_given_up() {
        let pool = Pool::new(1).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let held = Passed::new(writer.into()).unwrap();
        let mut child = in_time(delegates_and_dies(pool.clone(), sender, held).spawn()).await.unwrap();
        in_time(started.recv()).await.unwrap().unwrap();
        in_time(child.kill()).await.unwrap();
        let read = tokio::task::spawn_blocking(move || std::io::Read::read(&mut reader, &mut [0]));
        assert_eq!(in_time(read).await.unwrap().unwrap(), 0);
        assert_eq!(in_time(pool.run(square(5))).await.unwrap(), 25);
        in_time(pool.close()).await.unwrap();
    }

    async fn a_child_hears_of_the_end_of_a_pool() {
        let pool = Pool::new(2).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut tell, told) = simplex().unwrap();
        let mut child = in_time(outlives(pool.clone(), sender, told).spawn()).await.unwrap();
        in_time(started.recv()).await.unwrap().unwrap();
        in_time(pool.kill()).await;
        tell.send(()).await.unwrap();
        let words = in_time(child.join()).await.unwrap().unwrap();
        assert!(words[0].contains("was cancelled") && words[1].contains("is closed"), "{words:?}");
    }

    async fn workers_begin_with_init() {
        let pool = Pool::builder().workers(2).init(load("one two three".into())).build().await.unwrap();
        let words = in_time(try_join_all((0..20).map(|n| pool.run(word(n % 4))))).await.unwrap();
        for (n, found) in words.into_iter().enumerate() {
            assert_eq!(found.as_deref(), ["one", "two", "three"].get(n % 4).copied());
        }
        // Those that take the places of others, too.
        for _ in 0..4 {
            send(in_time(pool.run(pid())).await.unwrap(), Signal::KILL);
            assert_eq!(in_time(pool.run(word(1))).await.unwrap().as_deref(), Some("two"));
        }
        in_time(pool.close()).await.unwrap();
        let made = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&made);
        let init = move || {
            counter.fetch_add(1, Relaxed);
            load("four five".into())
        };
        let pool = Pool::builder().workers(3).init(init).build().await.unwrap();
        assert_eq!(in_time(pool.run(word(0))).await.unwrap().as_deref(), Some("four"));
        assert_eq!(made.load(Relaxed), 3);
        in_time(pool.close()).await.unwrap();
    }

    async fn an_init_that_fails_is_the_error_of_build() {
        let before = children_of(std::process::id()).len();
        let made = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&made);
        let init = move || {
            counter.fetch_add(1, Relaxed);
            load(String::new())
        };
        let error = in_time(Pool::builder().workers(3).init(init).build()).await.unwrap_err();
        let Cause::Start { stage: Stage::Init, reason, .. } = error.cause() else { panic!("{error}") };
        assert_eq!(reason, "there is no model");
        assert!(made.load(Relaxed) <= 3);
        assert_eq!(children_of(std::process::id()).len(), before);
        let error = in_time(Pool::builder().workers(2).init(panics()).build()).await.unwrap_err();
        assert!(error.is_panic(), "{error}");
        let limit = Duration::from_millis(50);
        let error = in_time(Pool::builder().workers(2).init(never_begins().timeout(limit)).build()).await;
        assert!(error.unwrap_err().is_timeout());
        // One that nobody waits for.
        let build = Pool::builder().workers(2).init(never_begins()).build();
        assert!(timeout(limit, build).await.is_err());
        eventually_async(10 * SECOND, || children_of(std::process::id()).len() == before).await;
    }

    async fn ranges_grow_and_shrink() {
        let builder = Pool::builder().workers(0..=3).idle_timeout(Duration::from_millis(100));
        let pool = builder.build().await.unwrap();
        assert_eq!(pool.stats().workers.len(), 0);
        // One after the other they need one worker.
        let first = in_time(pool.run(pid())).await.unwrap();
        for _ in 0..5 {
            assert_eq!(in_time(pool.run(pid())).await.unwrap(), first);
        }
        assert_eq!(pool.stats().workers.len(), 1);
        let pids = in_time(try_join_all((0..30).map(|_| pool.run(pid_after(Duration::from_millis(20)))))).await;
        let pids: BTreeSet<u32> = pids.unwrap().into_iter().collect();
        assert!(pids.len() == 3 && pids.contains(&first), "{pids:?}");
        eventually_async(10 * SECOND, || pool.stats().workers.is_empty()).await;
        assert!(!pids.iter().any(|pid| info(*pid).is_some()));
        assert_eq!(pool.stats().ended.get("was not needed any more"), Some(&3));
        assert_eq!(in_time(pool.run(square(7))).await.unwrap(), 49);
        in_time(pool.close()).await.unwrap();
    }

    async fn a_worker_that_is_too_large_is_replaced() {
        let pool = Pool::builder().workers(1).max_rss(100 << 20).build().await.unwrap();
        let worker = in_time(pool.run(pid())).await.unwrap();
        assert_eq!(in_time(pool.run(leaks(1 << 20))).await.unwrap(), worker);
        assert_eq!(in_time(pool.run(leaks(150 << 20))).await.unwrap(), worker);
        eventually_async(10 * SECOND, || info(worker).is_none()).await;
        assert_ne!(in_time(pool.run(pid())).await.unwrap(), worker);
        assert_eq!(pool.stats().ended.get("had more memory than it may"), Some(&1));
        in_time(pool.close()).await.unwrap();
    }

    /// Also in the middle of a list, of which the rest goes to the next one.
    async fn a_worker_that_is_too_large_is_replaced_between_items() {
        let pool = Pool::builder().workers(1).max_rss(150 << 20).build().await.unwrap();
        let items = 24;
        let pids = in_time(pool.map(|_| leaks(50 << 20), 0..items).chunk(items)).await.unwrap();
        let workers: BTreeSet<_> = pids.iter().collect();
        assert!(pids.len() == items && workers.len() > 1, "{pids:?}");
        eventually_async(10 * SECOND, || {
            pool.stats().ended.get("had more memory than it may").is_some_and(|ended| *ended > 0)
        })
        .await;
        in_time(pool.close()).await.unwrap();
    }

    /// One that is too large before it has done anything does something all the same: the next would be as large.
    async fn a_worker_that_is_too_large_from_the_beginning_works() {
        let pool = Pool::builder().workers(1).max_rss(1).build().await.unwrap();
        let call = |_| pid_after(Duration::from_millis(10));
        let mut pids = in_time(pool.map(call, 0..10).chunk(1).in_flight(1)).await.unwrap();
        pids.dedup();
        assert!(pids.len() > 1, "{pids:?}");
        in_time(pool.close()).await.unwrap();
    }

    /// A range need have no end; more workers than that to begin with are refused.
    async fn as_many_as_there_can_be() {
        let pool = Pool::builder().workers(0..=usize::MAX).concurrency(2).build().await.unwrap();
        assert_eq!(in_time(pool.map(|_| pid_after(Duration::from_millis(1)), 0..20)).await.unwrap().len(), 20);
        in_time(pool.close()).await.unwrap();
        let too_many = [Pool::builder().workers(usize::MAX), Pool::builder().workers(1).warm(usize::MAX)];
        for builder in too_many {
            let error = in_time(builder.build()).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Start { .. }), "{error}");
        }
    }

    /// Also where each of them is replaced after every task: one that is in its last has its place until that is done.
    async fn there_are_no_more_workers_than_asked_for() {
        let both = [Pool::builder().workers(2), Pool::builder().workers(2).warm(1)];
        for (builder, spares) in both.into_iter().zip(0..) {
            let pool = builder.max_tasks(1).build().await.unwrap();
            let mut pids = BTreeSet::new();
            let mut tasks: FuturesUnordered<_> =
                (0..40).map(|_| pool.run(pid_after(Duration::from_millis(30)))).collect();
            while let Some(pid) = in_time(tasks.next()).await {
                pids.insert(pid.unwrap());
                let stats = pool.stats();
                let in_place = stats.workers.iter().filter(|worker| worker.state != WorkerState::Leaving).count();
                assert!(stats.unfinished <= 2 && in_place + stats.starting <= 2 + spares, "{stats}");
            }
            assert_eq!(pids.len(), 40);
            in_time(pool.close()).await.unwrap();
        }
    }

    async fn several_tasks_share_a_worker() {
        let pool = Pool::builder().workers(1).concurrency(8).build().await.unwrap();
        let begun = Instant::now();
        let pids = in_time(join_all((0..8).map(|_| pool.run(pid_after(SECOND))))).await;
        let pids: BTreeSet<u32> = pids.into_iter().map(Result::unwrap).collect();
        assert_eq!(pids.len(), 1);
        assert!(begun.elapsed() < patience(6 * SECOND), "{:?}", begun.elapsed());
        // All values, whichever is done first.
        let values = in_time(pool.map(square, 0..1000)).await.unwrap();
        assert_eq!(values, (0..1000).map(|n| n * n).collect::<Vec<_>>());
        in_time(pool.close()).await.unwrap();
    }

    /// A plain function has its worker for itself: others of a range are started for what waits behind it, and no more than it has.
    async fn plain_functions_have_as_many_workers_as_there_are() {
        for (most, given) in [(4, 4), (2, 5)] {
            let pool = Pool::builder().workers(0..=most).concurrency(4).build().await.unwrap();
            let (mut tells, mut tasks, mut starts) = (Vec::new(), Vec::new(), FuturesUnordered::new());
            for _ in 0..given {
                let (sender, mut started) = simplex().unwrap();
                let (tell, told) = simplex::<()>().unwrap();
                tells.push(tell);
                tasks.push(in_time(pool.submit(blocks_until_told(sender, told))).await.unwrap());
                starts.push(async move { started.recv().await });
            }
            let mut pids = BTreeSet::new();
            for _ in 0..most {
                pids.insert(in_time(starts.next()).await.unwrap().unwrap().unwrap());
            }
            let stats = pool.stats();
            assert!(pids.len() == most && stats.workers.len() == most && stats.starting == 0, "{stats}");
            for mut tell in tells {
                tell.send(()).await.unwrap();
            }
            in_time(join_all(tasks)).await.into_iter().for_each(|task| task.unwrap().unwrap());
            in_time(pool.close()).await.unwrap();
        }
    }

    async fn a_task_beside_others_ends_alone() {
        let pool = Pool::builder().workers(1).concurrency(4).build().await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let waiting = in_time(pool.submit(waits(sender, Passed::new(writer.into()).unwrap()))).await.unwrap();
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut tell, told) = simplex().unwrap();
        let beside = in_time(pool.submit(until_told(sender, told))).await.unwrap();
        assert_eq!(in_time(started.recv()).await.unwrap(), Some(worker));
        waiting.abort();
        assert_eq!(*in_time(waiting).await.unwrap_err().cause(), Cause::Cancelled);
        // What it had is dropped.
        let read = tokio::task::spawn_blocking(move || std::io::Read::read(&mut reader, &mut [0]));
        assert_eq!(in_time(read).await.unwrap().unwrap(), 0);
        tell.send(()).await.unwrap();
        assert_eq!(in_time(beside).await.unwrap().unwrap(), worker);
        in_time(pool.close()).await.unwrap();
    }

    async fn a_death_costs_all_that_were_started_beside_it() {
        let pool = Pool::builder().workers(1).concurrency(3).build().await.unwrap();
        let (mut pids, mut tells, mut tasks) = (BTreeSet::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let (sender, mut started) = simplex().unwrap();
            let (tell, told) = simplex::<()>().unwrap();
            tells.push(tell);
            tasks.push(in_time(pool.submit(until_told(sender, told))).await.unwrap());
            pids.insert(in_time(started.recv()).await.unwrap().unwrap());
        }
        let behind = in_time(pool.submit(square(9))).await.unwrap();
        assert_eq!(pids.len(), 1);
        pids.into_iter().for_each(|pid| send(pid, Signal::KILL));
        for task in tasks {
            assert_eq!(in_time(task).await.unwrap_err().signal(), Some(9));
        }
        assert_eq!(in_time(behind).await.unwrap(), 81);
        in_time(pool.close()).await.unwrap();
    }

    #[limit(120)]
    async fn pools_nest() {
        let pool = Pool::new(2).await.unwrap();
        let value = timeout(patience(60 * SECOND), pool.run(nested(3, 0))).await.unwrap().unwrap().unwrap();
        assert_eq!(value, 12);
        in_time(pool.close()).await.unwrap();
    }

    async fn statistics_tell_what_was_done() {
        let pool = Pool::builder().workers(2).name("crew").init(load("a b".into())).build().await.unwrap();
        let stats = pool.stats();
        assert_eq!((stats.workers.len(), stats.done, stats.queued, stats.unfinished), (2, 0, 0, 0));
        assert!(stats.workers.iter().all(|worker| worker.state == WorkerState::Idle && worker.memory.unwrap() > 0));
        in_time(pool.map(square, 0..1000)).await.unwrap();
        in_time(pool.run(pid_after(Duration::from_millis(30)))).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (tell, told) = simplex::<()>().unwrap();
        let task = in_time(pool.submit(until_told(sender, told))).await.unwrap();
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.done, stats.unfinished, stats.starting), (1001, 1, 0));
        let busy = stats.workers.iter().find(|busy| busy.pid == worker).unwrap();
        assert!(busy.state == WorkerState::Busy && busy.name.starts_with("crew-") && busy.start > Duration::ZERO);
        let slow = &stats.slowest[0];
        assert!(slow.name == "pid_after" && slow.took >= Duration::from_millis(30), "{slow:?}");
        send(worker, Signal::KILL);
        drop(tell);
        in_time(task).await.unwrap_err();
        let stats = pool.stats();
        assert_eq!(stats.ended.get("was killed by SIGKILL"), Some(&1), "{stats}");
        let read: pool::Stats = serde_json::from_str(&serde_json::to_string(&stats).unwrap()).unwrap();
        assert_eq!(read, stats);
        assert!(stats.to_string().contains("1001 done"), "{stats}");
        in_time(pool.close()).await.unwrap();
    }

    #[limit(120)]
    async fn stopped_workers_lose_nothing() {
        let pool = Pool::new(2).await.unwrap();
        let pids = in_time(try_join_all((0..20).map(|_| pool.run(pid_after(Duration::from_millis(2)))))).await;
        let worker = pids.unwrap()[0];
        for _ in 0..3 {
            send(worker, Signal::STOP);
            let mut map = pool.map(square, 0..5000);
            let early = timeout(Duration::from_millis(300), &mut map).await;
            send(worker, Signal::CONT);
            let values = match early {
                Ok(values) => values,
                Err(_elapsed) => in_time(map).await,
            };
            assert_eq!(values.unwrap(), (0..5000).map(|n| n * n).collect::<Vec<_>>());
        }
        assert!(info(worker).is_some(), "it was there all the time");
        in_time(pool.close()).await.unwrap();
    }

    async fn what_wants_the_impossible_is_refused() {
        for concurrency in [0, 100_000] {
            let error = Pool::builder().concurrency(concurrency).build().await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Start { stage: Stage::Setup, .. }), "{error}");
        }
        assert!(Pool::builder().max_tasks(0).build().now_or_never().unwrap().is_err());
        let error = in_time(Pool::builder().workers(1).init(square_nothing().env("A", "b")).build()).await;
        assert!(matches!(error.unwrap_err().cause(), Cause::Start { stage: Stage::Setup, .. }));
        assert_eq!(in_time(count()).await.unwrap(), 1);
    }
}

#[process]
fn square_nothing() {}
