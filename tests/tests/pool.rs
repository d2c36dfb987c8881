//! Single tasks in a pool: conformance PO01, PO04, PO06, PO09, PO14 to PO17, PO22 to PO25, PO29, CF01 to CF05, CF10, CF11, CF13;
//! failures F1, F2, F7 to F9, F15, F16, F24, F29; requirements 4 and 7.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use futures::future::{join_all, select_all, try_join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use procession::pipe::{Receiver, Sender};
use procession::pool::Task;
use procession::{Cause, Failure, Pool, ProcessError, Stage, StartMethod, process, simplex};
use procession_tests::{eventually_async, in_time, info, isolated, patience, repetitions};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

async fn gone(pid: u32) {
    eventually_async(10 * SECOND, || info(pid).is_none()).await;
}

#[process]
async fn square(n: u64) -> u64 {
    n * n
}

#[process]
fn plainly(n: u64) -> u64 {
    n + 1
}

#[process(threads = 2)]
async fn on_threads(n: u64) -> u64 {
    tokio::task::block_in_place(|| n * 2)
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

/// Says that it has started, and never ends.
#[process]
fn forever(mut started: Sender<u32>) -> Result<(), Failure> {
    started.blocking_send(std::process::id())?;
    started.blocking_flush()?;
    loop {
        std::hint::spin_loop();
    }
}

/// Says that it has started, and ends when it is told to.
#[process]
async fn until_told(mut started: Sender<u32>, mut told: Receiver<()>) -> Result<u32, Failure> {
    started.send(std::process::id()).await?;
    told.recv().await?;
    Ok(std::process::id())
}

#[expect(clippy::exit, reason = "it is what is tested")]
#[process]
fn end_by(how: String) {
    match &*how {
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "panic" => panic!("no luck"),
        "overflow" => {
            fn deeper(n: u64) -> u64 {
                if n == u64::MAX { n } else { deeper(std::hint::black_box(n + 1)) + 1 }
            }
            std::hint::black_box(deeper(0));
        }
        "segv" => kill_self(Signal::SEGV),
        _ => kill_self(Signal::KILL),
    }
}

fn kill_self(signal: Signal) {
    kill_process(rustix::process::getpid(), signal).unwrap();
}

/// Is not encoded, or not decoded, as it says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Odd {
    Even,
    NotWritten,
    NotRead,
    Dies,
}

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::NotWritten => Err(serde::ser::Error::custom("never written")),
            other => (*other as u8).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self::Even),
            3 => {
                if procession::current().is_child() {
                    std::process::exit(9);
                }
                Ok(Self::Dies)
            }
            _ => Err(serde::de::Error::custom("never read")),
        }
    }
}

#[process]
async fn takes(_odd: Odd) -> u32 {
    std::process::id()
}

#[process]
async fn gives(n: u8) -> Odd {
    [Odd::Even, Odd::NotWritten, Odd::NotRead][usize::from(n)]
}

#[process]
async fn fails() -> Result<u32, Failure> {
    Err(Failure::new("as it says"))
}

isolated! {
    async fn tasks_give_their_values() {
        let pool = Pool::new(2).await.unwrap();
        assert_eq!(in_time(pool.run(square(5))).await.unwrap(), 25);
        assert_eq!(in_time(pool.run(plainly(5))).await.unwrap(), 6);
        assert_eq!(in_time(pool.run(on_threads(5))).await.unwrap(), 10);
        let values = in_time(join_all((0..100).map(|n| pool.run(square(n))))).await;
        let values: Vec<u64> = values.into_iter().map(Result::unwrap).collect();
        assert_eq!(values, (0..100).map(|n| n * n).collect::<Vec<_>>());
        in_time(pool.close()).await.unwrap();
        let closed = in_time(pool.run(square(5))).await.unwrap_err();
        assert_eq!(*closed.cause(), Cause::Closed);
        let closed = in_time(pool.submit(square(5))).await.unwrap_err();
        assert_eq!(*closed.cause(), Cause::Closed);
        in_time(pool.close()).await.unwrap();
    }

    async fn workers_are_used_again() {
        let pool = Pool::new(3).await.unwrap();
        let pids = in_time(try_join_all((0..60).map(|_| pool.run(pid_after(Duration::from_millis(2)))))).await;
        let pids: BTreeSet<u32> = pids.unwrap().into_iter().collect();
        assert_eq!(pids.len(), 3);
        in_time(pool.kill()).await;
    }

    async fn a_task_goes_on_when_it_is_dropped() {
        let pool = Pool::new(1).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut tell, told) = simplex().unwrap();
        let task = in_time(pool.submit(until_told(sender, told))).await.unwrap();
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        assert_eq!((task.pid(), task.is_finished()), (Some(worker), false));
        assert_eq!(format!("{task:?}"), "Task(\"until_told\", 0, not finished)");
        drop(task);
        tell.send(()).await.unwrap();
        // It has ended by itself: its worker is there for the next one.
        assert_eq!(in_time(pool.run(pid())).await.unwrap(), worker);
        in_time(pool.close()).await.unwrap();
    }

    async fn a_run_that_is_dropped_is_cancelled() {
        let pool = Pool::new(1).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let mut run = pool.run(forever(sender));
        assert!((&mut run).now_or_never().is_none());
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        // These wait behind it, and never start.
        let (sender, mut never_started) = simplex::<u32>().unwrap();
        let mut behind = pool.run(forever(sender));
        assert!((&mut behind).now_or_never().is_none());
        drop(behind);
        let begun = Instant::now();
        drop(run);
        assert_ne!(in_time(pool.run(pid())).await.unwrap(), worker);
        gone(worker).await;
        assert!(begun.elapsed() < patience(10 * SECOND));
        assert_eq!(in_time(never_started.recv()).await.unwrap(), None);
        in_time(pool.close()).await.unwrap();
    }

    async fn a_task_that_is_aborted_frees_its_worker() {
        let pool = Pool::new(1).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let running = in_time(pool.submit(forever(sender))).await.unwrap();
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        let waiting: Task<u64> = in_time(pool.submit(square(3))).await.unwrap();
        let behind = in_time(pool.submit(square(4))).await.unwrap();
        waiting.abort();
        assert_eq!(*in_time(waiting).await.unwrap_err().cause(), Cause::Cancelled);
        running.abort();
        let aborted = in_time(running).await.unwrap_err();
        assert_eq!((aborted.cause(), aborted.name()), (&Cause::Cancelled, "forever"));
        assert_eq!(in_time(behind).await.unwrap(), 16);
        gone(worker).await;
        in_time(pool.close()).await.unwrap();
    }

    async fn a_task_that_takes_too_long_is_killed() {
        let pool = Pool::new(1).await.unwrap();
        let limit = Duration::from_millis(100);
        // What waits does not count, nor what another has taken.
        let slow = pool.run(pid_after(4 * limit));
        let (sender, _started) = simplex().unwrap();
        let endless = pool.run(forever(sender).timeout(limit));
        let behind = pool.run(square(7).timeout(limit));
        let (slow, endless, behind) = in_time(async { tokio::join!(slow, endless, behind) }).await;
        let worker = slow.unwrap();
        let error = endless.unwrap_err();
        assert_eq!((error.cause(), error.pid()), (&Cause::TimedOut { after: limit }, Some(worker)));
        assert_eq!(behind.unwrap(), 49);
        gone(worker).await;
        in_time(pool.close()).await.unwrap();
    }

    async fn a_death_costs_the_task_that_it_was_in() {
        let pool = Pool::new(2).await.unwrap();
        let causes = [
            ("exit", Cause::Exited { code: 3 }),
            ("overflow", Cause::StackOverflow),
            ("kill", Cause::Signaled { signal: 9, core_dumped: false }),
        ];
        for (how, cause) in causes {
            let before: Vec<_> = (0..20).map(|n| pool.run(square(n))).collect();
            let dies = pool.run(end_by(how.into()));
            let after: Vec<_> = (0..20).map(|n| pool.run(square(n))).collect();
            let (before, died, after) = in_time(async {
                tokio::join!(try_join_all(before), dies, try_join_all(after))
            })
            .await;
            assert_eq!(*died.unwrap_err().cause(), cause, "{how}");
            assert_eq!(before.unwrap(), after.unwrap());
        }
        let aborted = in_time(pool.run(end_by("abort".into()))).await.unwrap_err();
        assert_eq!(aborted.signal(), Some(6));
        let crashed = in_time(pool.run(end_by("segv".into()))).await.unwrap_err();
        assert_eq!(crashed.signal(), Some(11));
        in_time(pool.close()).await.unwrap();
    }

    async fn a_panic_costs_no_worker() {
        let pool = Pool::new(1).await.unwrap();
        let worker = in_time(pool.run(pid())).await.unwrap();
        let error = in_time(pool.run(end_by("panic".into()))).await.unwrap_err();
        assert_eq!((error.name(), error.pid()), ("end_by", Some(worker)));
        let Cause::Panicked { message, location: Some(location), .. } = error.cause() else {
            panic!("{error:?}")
        };
        assert!(message == "no luck" && location.contains("pool.rs"), "{error}");
        assert_eq!(in_time(pool.run(pid())).await.unwrap(), worker);
        assert_eq!(in_time(pool.run(fails())).await.unwrap().unwrap_err().to_string(), "as it says");
        in_time(pool.close()).await.unwrap();
    }

    async fn what_cannot_be_sent_costs_one_task() {
        let pool = Pool::new(1).await.unwrap();
        let worker = in_time(pool.run(takes(Odd::Even))).await.unwrap();
        for _ in 0..20 {
            let error = in_time(pool.run(takes(Odd::NotWritten))).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Encode(_)) && error.pid().is_none(), "{error}");
            let error = in_time(pool.run(takes(Odd::NotRead))).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Decode(_)), "{error}");
            let error = in_time(pool.run(gives(1))).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Encode(_)) && error.pid() == Some(worker), "{error}");
            let error = in_time(pool.run(gives(2))).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Decode(_)), "{error}");
        }
        assert_eq!(in_time(pool.run(takes(Odd::Even))).await.unwrap(), worker);
        let error = in_time(pool.run(takes(Odd::Dies))).await.unwrap_err();
        assert_eq!(error.exit_code(), Some(9));
        assert_ne!(in_time(pool.run(takes(Odd::Even))).await.unwrap(), worker);
        in_time(pool.close()).await.unwrap();
    }

    async fn what_is_too_large_is_refused() {
        let pool = Pool::new(1).await.unwrap();
        let refused = in_time(pool.run(square(1).max_message(0))).await.unwrap_err();
        assert!(matches!(refused.cause(), Cause::TooLarge { size: 1, limit: 0 }), "{refused}");
        in_time(pool.close()).await.unwrap();
    }

    /// What only a process can have is not ignored.
    async fn what_a_task_cannot_have_is_refused() {
        let pool = Pool::new(1).await.unwrap();
        let calls = [
            square(1).env("A", "b"),
            square(1).start_method(StartMethod::Spawn),
            square(1).daemon(true),
            square(1).kill_on_drop(true),
        ];
        for call in calls {
            let refused = in_time(pool.run(call)).await.unwrap_err();
            assert!(matches!(refused.cause(), Cause::Start { stage: Stage::Setup, .. }), "{refused}");
        }
        in_time(pool.close()).await.unwrap();
    }

    #[limit(120)]
    async fn a_worker_that_dies_idle_is_replaced() {
        let pool = Pool::new(2).await.unwrap();
        for n in 0..50 {
            let worker = in_time(pool.run(pid())).await.unwrap();
            kill(worker);
            assert_eq!(in_time(pool.run(square(n))).await.unwrap(), n * n);
        }
        in_time(pool.close()).await.unwrap();
    }

    #[limit(1800)]
    async fn all_workers_die_at_once() {
        let pool = Pool::new(3).await.unwrap();
        for n in 0..10 * repetitions() {
            let pids = in_time(try_join_all((0..3).map(|_| pool.run(pid_after(Duration::from_millis(5)))))).await;
            pids.unwrap().into_iter().collect::<BTreeSet<u32>>().into_iter().for_each(kill);
            let begun = Instant::now();
            let values = in_time(try_join_all((0..10).map(|_| pool.run(square(n))))).await.unwrap();
            assert_eq!(values, [n * n; 10]);
            assert!(begun.elapsed() < patience(10 * SECOND));
        }
        in_time(pool.close()).await.unwrap();
    }

    async fn workers_retire() {
        let pool = Pool::builder().workers(2).max_tasks(10).build().await.unwrap();
        let pids = in_time(try_join_all((0..100).map(|_| pool.run(pid())))).await.unwrap();
        let different: BTreeSet<u32> = pids.iter().copied().collect();
        assert!(different.len() >= 10, "{different:?}");
        assert!(different.iter().all(|pid| pids.iter().filter(|other| *other == pid).count() <= 10));
        eventually_async(10 * SECOND, || pool.stats().ended.get("had done as many tasks as it may") >= Some(&8)).await;
        assert_eq!(pool.stats().ended.len(), 1, "{}", pool.stats());
        in_time(pool.close()).await.unwrap();
    }

    #[limit(180)]
    async fn workers_that_retire_after_each_task_do_all() {
        let pool = Pool::builder().workers(2).max_tasks(1).build().await.unwrap();
        let tasks: Vec<_> = in_time(try_join_all((0..1000).map(|n| pool.submit(square(n))))).await.unwrap();
        // Closed while they are pending.
        let (closed, values) = timeout(patience(100 * SECOND), async {
            tokio::join!(pool.close(), try_join_all(tasks))
        })
        .await
        .unwrap();
        closed.unwrap();
        assert_eq!(values.unwrap(), (0..1000).map(|n| n * n).collect::<Vec<_>>());
    }

    async fn a_close_does_what_is_queued() {
        let pool = Pool::new(1).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut tell, told) = simplex().unwrap();
        let first = in_time(pool.submit(until_told(sender, told))).await.unwrap();
        let next: Vec<_> = in_time(try_join_all((0..9).map(|n| pool.submit(square(n))))).await.unwrap();
        in_time(started.recv()).await.unwrap();
        let mut close = pool.close();
        assert!((&mut close).now_or_never().is_none());
        assert_eq!(*in_time(pool.run(square(1))).await.unwrap_err().cause(), Cause::Closed);
        tell.send(()).await.unwrap();
        in_time(first).await.unwrap().unwrap();
        assert_eq!(in_time(try_join_all(next)).await.unwrap(), (0..9).map(|n| n * n).collect::<Vec<_>>());
        in_time(close).await.unwrap();
    }

    async fn a_close_can_cancel_what_has_not_started() {
        let pool = Pool::new(1).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut tell, told) = simplex().unwrap();
        let first = in_time(pool.submit(until_told(sender, told))).await.unwrap();
        in_time(started.recv()).await.unwrap();
        let next: Vec<_> = in_time(try_join_all((0..9).map(|n| pool.submit(square(n))))).await.unwrap();
        let mut close = pool.close().cancel_pending();
        assert!((&mut close).now_or_never().is_none());
        for task in next {
            assert_eq!(*in_time(task).await.unwrap_err().cause(), Cause::Cancelled);
        }
        tell.send(()).await.unwrap();
        in_time(first).await.unwrap().unwrap();
        in_time(close).await.unwrap();
    }

    async fn a_kill_ends_all_at_once() {
        let pool = Pool::new(2).await.unwrap();
        let hour = Duration::from_secs(3600);
        let mut tasks: FuturesUnordered<_> = (0..10_000).map(|_| pool.run(pid_after(hour))).collect();
        assert!(tasks.next().now_or_never().is_none());
        let begun = Instant::now();
        in_time(pool.kill()).await;
        assert!(begun.elapsed() < patience(10 * SECOND), "{:?}", begun.elapsed());
        while let Some(ended) = tasks.next().await {
            let cause = ended.unwrap_err().cause().clone();
            assert!(matches!(cause, Cause::Cancelled | Cause::Closed), "{cause}");
        }
        in_time(pool.close()).await.unwrap();
    }

    async fn a_pool_that_is_dropped_ends_its_tasks() {
        let pool = Pool::new(2).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let task = in_time(pool.submit(forever(sender))).await.unwrap();
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        let other = pool.clone();
        drop(pool);
        assert_eq!(in_time(other.run(square(2))).await.unwrap(), 4);
        drop(other);
        assert_eq!(*in_time(task).await.unwrap_err().cause(), Cause::Cancelled);
        gone(worker).await;
    }

    async fn a_close_while_a_worker_dies_ends() {
        for _ in 0..10 {
            let pool = Pool::new(2).await.unwrap();
            let (sender, mut started) = simplex().unwrap();
            let task = in_time(pool.submit(forever(sender))).await.unwrap();
            let worker = in_time(started.recv()).await.unwrap().unwrap();
            let mut close = pool.close();
            assert!((&mut close).now_or_never().is_none());
            kill(worker);
            in_time(close).await.unwrap();
            assert_eq!(in_time(task).await.unwrap_err().signal(), Some(9));
        }
    }

    async fn handles_go_to_workers() {
        let pool = Pool::new(2).await.unwrap();
        let (sender, mut numbers) = simplex().unwrap();
        let (tell, told) = simplex().unwrap();
        let run = pool.run(until_told(sender, told));
        let hear = async {
            let worker = in_time(numbers.recv()).await.unwrap();
            drop(tell);
            worker.unwrap()
        };
        let (done, worker) = in_time(async { tokio::join!(run, hear) }).await;
        assert_eq!(done.unwrap().unwrap(), worker);
        // Nobody has the other end any more.
        assert_eq!(in_time(numbers.recv()).await.unwrap(), None);
        in_time(pool.close()).await.unwrap();
    }

    async fn numbers_of_workers_that_cannot_be() {
        for workers in [0..=0, RangeInclusive::new(3, 2)] {
            let error = Pool::builder().workers(workers).build().await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Start { stage: Stage::Setup, .. }), "{error}");
        }
        let error: ProcessError = Pool::new(0).await.unwrap_err();
        assert_eq!(error.name(), "pool");
    }

    /// What waits behind a task that never ends goes to the worker that is free.
    async fn nothing_waits_behind_a_long_task() {
        let pool = Pool::new(2).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let endless = in_time(pool.submit(forever(sender))).await.unwrap();
        in_time(started.recv()).await.unwrap();
        for _ in 0..20 {
            let values = in_time(try_join_all((0..40).map(|n| pool.run(square(n))))).await.unwrap();
            assert_eq!(values.len(), 40);
        }
        endless.abort();
        in_time(pool.close()).await.unwrap();
    }

    async fn tasks_are_futures_like_others() {
        let pool = Pool::new(2).await.unwrap();
        let mut tasks = in_time(try_join_all((0..4).map(|n| pool.submit(square(n))))).await.unwrap();
        let mut values = BTreeSet::new();
        while !tasks.is_empty() {
            let (value, _, rest) = in_time(select_all(tasks)).await;
            values.insert(value.unwrap());
            tasks = rest;
        }
        assert_eq!(values, BTreeSet::from([0, 1, 4, 9]));
        in_time(pool.close()).await.unwrap();
    }
}
