//! How pools begin and end, and what they cost meanwhile: conformance PO09, PO21, PO29, CF15; failures F9, F16, F18, F29; limits
//! on restarts.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use procession::pipe::Sender;
use procession::pool::{Close, Task};
use procession::{Cause, Failure, Limits, Pool, ProcessError, process, simplex};
use procession_tests::{
    children_of, eventually, eventually_async, in_time, info, isolated, open_fds, patience,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde::{Deserialize, Serialize, Serializer};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use tracing_subscriber::layer::SubscriberExt;

const SECOND: Duration = Duration::from_secs(1);

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

fn children() -> usize {
    children_of(std::process::id()).len()
}

#[process]
async fn square(n: u64) -> u64 {
    n * n
}

#[process]
fn plainly(n: u64) -> u64 {
    n + 1
}

#[process]
fn pid() -> u32 {
    std::process::id()
}

#[process]
async fn after(pause: Duration) -> u32 {
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

#[process]
fn begins(well: bool) -> Result<(), Failure> {
    if well { Ok(()) } else { Err(Failure::new("not this time")) }
}

#[process]
async fn begins_for_ever(for_ever: bool) {
    if for_ever {
        std::future::pending().await
    }
}

#[process]
fn begins_slowly() {
    std::thread::sleep(Duration::from_millis(700));
}

#[process]
fn measures(bytes: Bytes) -> u64 {
    bytes.len() as u64
}

#[process]
fn fills(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}

#[process]
fn panics(length: usize) {
    panic!("{}", "?".repeat(length));
}

/// The first of a list says that it has started, and waits until it is told: by directories, since a list has no handles.
#[process]
fn first_waits(n: u64, place: PathBuf) -> u64 {
    if n == 0 {
        std::fs::create_dir(place.join("started")).unwrap();
        while !place.join("told").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    n
}

/// A place for [`first_waits`].
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let place = std::env::temp_dir().join(format!("procession-ends-{}", std::process::id()));
        std::fs::create_dir(&place).unwrap();
        Self(place)
    }

    fn has_started(&self) -> bool {
        self.0.join("started").exists()
    }

    fn tell(&self) {
        std::fs::create_dir(self.0.join("told")).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Maps a list of which the first waits, closes the pool meanwhile, and tells the first: gives what is wrong about what has come.
async fn closes_over_a_list(pool: Pool) -> Option<String> {
    let place = Place::new();
    let path = &place.0;
    let mut values = pool.map(|n| first_waits(n, path.clone()), 0..8).chunk(8).in_flight(8).ordered();
    assert!(values.next().now_or_never().is_none());
    eventually_async(20 * SECOND, || place.has_started()).await;
    let queued = pool.submit(square(3)).await.unwrap();
    let mut close = pool.close().cancel_pending();
    assert!((&mut close).now_or_never().is_none(), "the first is under way");
    assert_eq!(*in_time(queued).await.unwrap_err().cause(), Cause::Cancelled);
    place.tell();
    let values: Vec<_> = in_time(values.collect()).await;
    in_time(close).await.unwrap();
    let is_right = |(n, value): (usize, &Result<u64, ProcessError>)| match value {
        Ok(value) => n == 0 && *value == 0,
        Err(error) => n > 0 && *error.cause() == Cause::Cancelled,
    };
    (values.len() != 8 || !values.iter().enumerate().all(is_right)).then(|| format!("{values:?}"))
}

#[process]
async fn closes_over_a_list_elsewhere(pool: Pool) -> Option<String> {
    closes_over_a_list(pool).await
}

/// What cannot be written, for a long reason.
#[derive(Debug, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never written, ".repeat(200_000)))
    }
}

#[process]
fn gives_nothing() -> Unwritable {
    Unwritable
}

/// Asks a pool of its parent's for more than that takes, and then for what it does.
#[process]
async fn delegates(pool: Pool, length: usize) -> Result<(String, u64), Failure> {
    let refused = pool.run(measures(vec![7; length].into()).max_message(64 << 20)).await.unwrap_err();
    Ok((format!("{:?}", refused.cause()), pool.run(square(3)).await?))
}

/// A waker that looks at a pool when it is dropped or woken.
struct Looks(Pool);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        drop(self.0.stats());
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        drop(self.0.stats());
    }
}

/// Counts warnings of ours.
struct Warnings(Arc<AtomicU32>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let is_ours = event.metadata().target().starts_with("procession::pool");
        let is_warning = *event.metadata().level() == tracing::Level::WARN;
        self.0.fetch_add(u32::from(is_ours && is_warning), Relaxed);
    }
}

/// A task that never ends, and its worker.
async fn endless(pool: &Pool) -> (Task<Result<(), Failure>>, u32) {
    let (sender, mut started) = simplex().unwrap();
    let task = in_time(pool.submit(forever(sender))).await.unwrap();
    (task, in_time(started.recv()).await.unwrap().unwrap())
}

/// A recipe that fails from the second to some other time; and how often it was asked.
fn failing(
    to: u32,
) -> (impl FnMut() -> procession::Call<Result<(), Failure>> + Send + 'static, Arc<AtomicU32>) {
    let made = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&made);
    let recipe = move || {
        let number = counter.fetch_add(1, Relaxed) + 1;
        begins(!(2..=to).contains(&number))
    };
    (recipe, made)
}

/// What may happen to a pool, in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    Drop,
    Shutdown,
}

fn orders(rest: &[End]) -> Vec<Vec<End>> {
    if rest.is_empty() {
        return vec![Vec::new()];
    }
    let first = rest.iter().enumerate().flat_map(|(at, end)| {
        let others = [&rest[..at], &rest[at + 1..]].concat();
        orders(&others).into_iter().map(move |others| [vec![*end], others].concat())
    });
    first.collect()
}

/// Ends a busy pool in this order. Where it is closed or killed, that is awaited once its tasks are gone.
fn end_in_order(order: &[End], runtime: Runtime) {
    let (mut runtime, mut closes) = (Some(runtime), Vec::<Close>::new());
    let ours = runtime.as_ref().unwrap();
    let mut pool = Some(ours.block_on(Pool::new(2)).unwrap());
    let busy = pool.as_ref().unwrap();
    let tasks = ours.block_on(async { [endless(busy).await, endless(busy).await] });
    let queued = ours.block_on(in_time(busy.submit(square(3)))).unwrap();
    let watched = ours.spawn(busy.run(square(4)));
    let mut is_killed = false;
    for end in order {
        let _inside = runtime.as_ref().map(Runtime::enter);
        match (end, &pool) {
            (End::Close, Some(pool)) => {
                let mut close = pool.close();
                if let Some(closed) = (&mut close).now_or_never() {
                    assert!(is_killed && closed.is_ok());
                } else {
                    closes.push(close);
                }
            }
            (End::Kill, Some(pool)) => {
                // With no runtime, or a runtime that goes on without it.
                block_on(pool.kill());
                is_killed = true;
            }
            (End::Drop, Some(_)) => pool = None,
            (End::Shutdown, _) => {
                drop(_inside);
                runtime.take().unwrap().shutdown_background();
            }
            _ => {}
        }
    }
    for (task, worker) in tasks {
        assert_eq!(*block_on(task).unwrap_err().cause(), Cause::Cancelled, "{order:?}");
        eventually(10 * SECOND, || info(worker).is_none());
    }
    assert_eq!(*block_on(queued).unwrap_err().cause(), Cause::Cancelled, "{order:?}");
    for close in closes {
        block_on(close).unwrap();
    }
    drop(watched);
}

isolated! {
    /// PO21: who drops a pool with tasks in it is told; who closes or kills it first, or has nothing in it, is not.
    async fn a_drop_is_told_if_tasks_run() {
        let warnings = Arc::new(AtomicU32::new(0));
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Warnings(Arc::clone(&warnings)))).unwrap();
        let pool = Pool::new(1).await.unwrap();
        in_time(pool.run(square(3))).await.unwrap();
        drop(pool);
        let pool = Pool::new(1).await.unwrap();
        let (task, _) = endless(&pool).await;
        in_time(pool.kill()).await;
        drop((pool, task));
        let pool = Pool::new(1).await.unwrap();
        in_time(pool.close()).await.unwrap();
        drop(pool);
        assert_eq!(warnings.load(Relaxed), 0);
        let pool = Pool::new(1).await.unwrap();
        let (task, worker) = endless(&pool).await;
        drop(pool.clone());
        assert_eq!(warnings.load(Relaxed), 0);
        drop(pool);
        assert_eq!(warnings.load(Relaxed), 1);
        assert_eq!(*in_time(task).await.unwrap_err().cause(), Cause::Cancelled);
        eventually_async(10 * SECOND, || info(worker).is_none()).await;
    }

    /// Closed, killed, dropped, and its runtime shut down, in each order.
    #[limit(120)]
    fn ends_in_every_order() {
        let before = children();
        for order in orders(&[End::Close, End::Kill, End::Drop, End::Shutdown]) {
            for threads in [0, 1] {
                let mut builder = if threads == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
                let runtime = builder.worker_threads(threads.max(1)).enable_all().build().unwrap();
                end_in_order(&order, runtime);
                eventually(10 * SECOND, || children() == before);
            }
        }
    }

    /// A pool that is killed while workers are on their way has none when that is done.
    #[limit(120)]
    async fn a_kill_waits_for_workers_that_were_on_their_way() {
        let before = children();
        for round in 0..40 {
            let pool = Pool::builder().workers(0..=3).build().await.unwrap();
            let tasks: Vec<_> = (0..3).map(|_| pool.run(after(3600 * SECOND))).collect();
            let mut tasks = futures::future::join_all(tasks);
            assert!((&mut tasks).now_or_never().is_none());
            sleep(Duration::from_micros(round * 250)).await;
            in_time(pool.kill()).await;
            assert_eq!(children(), before, "in round {round}");
            assert!(in_time(tasks).await.iter().all(Result::is_err));
        }
    }

    /// What was killed and is then closed tells each outcome once.
    async fn a_kill_and_a_close_tell_once() {
        for _ in 0..5 {
            let pool = Pool::new(1).await.unwrap();
            let mut values = pool.map(after, [3600 * SECOND; 4]).in_flight(4).unordered();
            assert!(values.next().now_or_never().is_none());
            in_time(async { while pool.stats().unfinished < 2 { sleep(Duration::from_millis(1)).await } }).await;
            let (mut kill, mut close) = (Box::pin(pool.kill()), pool.close().cancel_pending());
            let (killed, closed) = ((&mut kill).now_or_never(), (&mut close).now_or_never());
            let told: Vec<_> = in_time(values.by_ref().collect()).await;
            assert_eq!(told.len(), 4);
            assert!(told.iter().all(|told| *told.as_ref().unwrap_err().cause() == Cause::Cancelled));
            if killed.is_none() {
                in_time(kill).await;
            }
            if closed.is_none() {
                in_time(close).await.unwrap();
            }
        }
    }

    /// What has started when a pool is closed is done, and no item that has not; in threads, too, and by a handle in another process, which
    /// closes itself alone.
    async fn a_close_cancels_what_is_pending_in_lists() {
        let pool = Pool::new(1).await.unwrap();
        assert_eq!(in_time(closes_over_a_list_elsewhere(pool.clone())).await.unwrap(), None);
        assert_eq!(in_time(pool.run(square(3))).await.unwrap(), 9);
        assert_eq!(closes_over_a_list(pool).await, None);
        assert_eq!(closes_over_a_list(Pool::builder().workers(1).concurrency(2).build().await.unwrap()).await, None);
        assert_eq!(closes_over_a_list(Pool::builder().workers(1).local().build().await.unwrap()).await, None);
    }

    /// What is lost while a pool drains without what waits has had its last try, however many were left.
    async fn lost_after_what_waits_was_cancelled() {
        for chunk in [1, 8] {
            let (pool, place) = (Pool::new(1).await.unwrap(), Place::new());
            let path = &place.0;
            let call = |n| first_waits(n, path.clone());
            let mut values = pool.map(call, 0..8).chunk(chunk).in_flight(8).retry(5).ordered();
            assert!(values.next().now_or_never().is_none());
            eventually_async(20 * SECOND, || place.has_started()).await;
            let worker = pool.stats().workers[0].pid;
            let mut close = pool.close().cancel_pending();
            assert!((&mut close).now_or_never().is_none(), "the first is under way");
            kill(worker);
            let values: Vec<_> = in_time(values.collect::<Vec<_>>()).await;
            in_time(close).await.unwrap();
            let causes: Vec<_> = values.into_iter().map(|value| value.unwrap_err()).collect();
            assert_eq!((causes.len(), causes[0].signal()), (8, Some(9)), "{causes:?}");
            assert!(causes[1..].iter().all(|error| *error.cause() == Cause::Cancelled), "{causes:?}");
        }
    }

    /// Workers that were told to leave before they had done anything have not failed, however many they are.
    async fn unused_workers_leave_well() {
        let pool = Pool::new(9).await.unwrap();
        in_time(pool.close()).await.unwrap();
        let pool = Pool::new(9).await.unwrap();
        in_time(pool.kill()).await;
        in_time(pool.close()).await.unwrap();
        assert_eq!(*in_time(pool.map(square, 0..3)).await.unwrap_err().cause(), Cause::Closed);
        assert_eq!(children(), 0);
    }

    /// Nor is it a storm of restarts when all end at once that have never been restarted.
    async fn unused_workers_are_replaced() {
        let pool = Pool::new(9).await.unwrap();
        let workers: Vec<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
        workers.iter().for_each(|worker| kill(*worker));
        eventually_async(20 * SECOND, || workers.iter().all(|worker| info(*worker).is_none())).await;
        assert_eq!(in_time(pool.run(square(7))).await.unwrap(), 49);
        eventually_async(20 * SECOND, || pool.stats().workers.len() == 9).await;
        in_time(pool.close()).await.unwrap();
    }

    /// A worker that is being started when nobody needs it any more is not waited for.
    async fn close_does_not_wait_for_starts() {
        let begun = Arc::new(AtomicU32::new(0));
        let first_begins = |first: u32| {
            begun.store(0, Relaxed);
            let begun = Arc::clone(&begun);
            move || begins_for_ever(begun.fetch_add(1, Relaxed) >= first)
        };
        let spare = Pool::builder().workers(1).warm(1).init(first_begins(1)).build().await.unwrap();
        eventually_async(20 * SECOND, || begun.load(Relaxed) == 2).await;
        assert_eq!(in_time(spare.run(square(3))).await.unwrap(), 9);
        in_time(spare.close()).await.unwrap();
        for cancels in [false, true] {
            let pool = Pool::builder().workers(0..=1).init(first_begins(0)).build().await.unwrap();
            let mut run = pool.run(square(3));
            assert!((&mut run).now_or_never().is_none());
            eventually_async(20 * SECOND, || begun.load(Relaxed) == 1).await;
            drop(run);
            let close = pool.close();
            in_time(if cancels { close.cancel_pending() } else { close }).await.unwrap();
        }
        assert_eq!(children(), 0);
    }

    /// Workers that fail again and again are started more and more slowly, and then no more: who waits is told.
    async fn restarts_have_a_limit() {
        let (recipe, made) = failing(u32::MAX);
        let pool = Pool::builder().workers(1).init(recipe).build().await.unwrap();
        let worker = in_time(pool.run(pid())).await.unwrap();
        let begun = Instant::now();
        kill(worker);
        eventually_async(10 * SECOND, || info(worker).is_none()).await;
        let tasks = in_time(futures::future::join_all((0..3).map(|n| pool.run(square(n))))).await;
        for task in tasks {
            let error = task.unwrap_err();
            let Cause::RestartLimit { deaths: 8, last } = error.cause() else { panic!("{error}") };
            assert!(last.contains("not this time"), "{last}");
        }
        // 10, 20, 40, ... 640 milliseconds.
        assert!(begun.elapsed() >= Duration::from_millis(1270), "{:?}", begun.elapsed());
        assert_eq!(made.load(Relaxed), 1 + 8);
        let error = in_time(pool.run(square(1))).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::RestartLimit { .. }), "{error}");
        let error = in_time(pool.map(square, 0..9)).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::RestartLimit { .. }), "{error}");
        let error = in_time(pool.close()).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::RestartLimit { .. }), "{error}");
    }

    /// Fewer failures than that are mended, and forgotten.
    async fn restarts_go_on_where_one_succeeds() {
        let (recipe, made) = failing(5);
        let pool = Pool::builder().workers(1).init(recipe).build().await.unwrap();
        kill(in_time(pool.run(pid())).await.unwrap());
        assert_eq!(in_time(pool.run(square(7))).await.unwrap(), 49);
        assert_eq!(made.load(Relaxed), 1 + 4 + 1);
        assert_eq!(pool.stats().ended.values().sum::<u64>(), 1, "{}", pool.stats());
        in_time(pool.close()).await.unwrap();
    }

    /// PO29: at whichever descriptor a pool's start fails, nothing of it is left.
    #[limit(120)]
    async fn a_start_that_fails_leaves_nothing() {
        in_time(Pool::new(1)).await.unwrap().close().await.unwrap();
        let (before, usual) = (children(), getrlimit(Resource::Nofile));
        let mut failures = 0;
        for room in 0.. {
            let open = open_fds();
            // So that there are so many to be had.
            let last = (0..).filter(|number| !open.contains_key(number)).nth(room).unwrap();
            setrlimit(Resource::Nofile, Rlimit { current: Some(last.into()), ..usual }).unwrap();
            let pool = in_time(Pool::new(5)).await;
            setrlimit(Resource::Nofile, usual).unwrap();
            match pool {
                Ok(pool) => {
                    in_time(pool.close()).await.unwrap();
                    break;
                }
                Err(error) => {
                    failures += 1;
                    assert_eq!(children(), before, "{room}: {error}");
                    eventually_async(10 * SECOND, || open_fds().len() <= open.len()).await;
                }
            }
        }
        assert!(failures > 10, "{failures} of them");
    }

    /// What exceeds a pool's own limits is refused, whatever the call says, alone or in a list, from here or from elsewhere; and what is
    /// said of errors comes through, however little a message may have.
    async fn what_a_pool_does_not_take() {
        const LIMIT: u64 = 1000;
        let limits = Limits::DEFAULT.max_message(LIMIT);
        let pool = Pool::builder().workers(1).limits(limits).build().await.unwrap();
        let is_refused = |error: &ProcessError| matches!(error.cause(), Cause::TooLarge { limit: LIMIT, .. });
        let call = |length: usize| measures(vec![7; length].into()).max_message(64 << 20);
        for length in [1000, 5000, 100_000, 2 << 20] {
            let error = in_time(pool.run(call(length))).await.unwrap_err();
            assert!(is_refused(&error), "{length}: {error}");
            let values: Vec<_> =
                in_time(pool.map(call, [10, length, 20]).chunk(3).ordered().collect()).await;
            assert_eq!((values[0].as_ref().unwrap(), values[2].as_ref().unwrap()), (&10, &20));
            assert!(is_refused(values[1].as_ref().unwrap_err()), "{length}: {values:?}");
            let error = in_time(pool.run(fills(length))).await.unwrap_err();
            assert!(is_refused(&error), "{length}: {error}");
            let (refused, nine) = in_time(delegates(pool.clone(), length)).await.unwrap().unwrap();
            assert!(refused.starts_with("TooLarge") && nine == 9, "{length}: {refused}");
        }
        assert!(in_time(pool.run(panics(100_000))).await.unwrap_err().is_panic());
        let error = in_time(pool.run(gives_nothing())).await.unwrap_err();
        assert!(error.to_string().len() < 10_000, "{} bytes of reasons", error.to_string().len());
        let values = in_time(pool.map(square, 0..20_000)).await.unwrap();
        assert_eq!(values.len(), 20_000);
        in_time(pool.close()).await.unwrap();
    }

    /// Wakers are somebody else's code: whatever they call when they are dropped, the pool is not in the middle of something.
    async fn wakers_may_call_the_pool() {
        let pool = Pool::new(1).await.unwrap();
        for _ in 0..3 {
            let (sender, mut started) = simplex().unwrap();
            let mut run = pool.run(forever(sender));
            let waker = Waker::from(Arc::new(Looks(pool.clone())));
            assert!(run.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            in_time(started.recv()).await.unwrap().unwrap();
            drop(run);
            assert_eq!(in_time(pool.run(square(3))).await.unwrap(), 9);
        }
        in_time(pool.close()).await.unwrap();
    }

    /// F29: a task's time begins when it does, however long its worker took to begin.
    async fn a_cold_start_costs_no_time() {
        let pool = Pool::builder().workers(0..=1).init(begins_slowly()).build().await.unwrap();
        let limit = Duration::from_millis(500);
        assert_eq!(in_time(pool.run(square(3).timeout(limit))).await.unwrap(), 9);
        in_time(pool.close()).await.unwrap();
    }

    /// PO09: to stop waiting for a task is not to end it.
    async fn a_wait_ends_and_its_task_goes_on() {
        let pool = Pool::new(1).await.unwrap();
        let mut task = in_time(pool.submit(after(Duration::from_millis(300)))).await.unwrap();
        assert!(timeout(Duration::from_millis(20), &mut task).await.is_err());
        let worker = task.pid();
        assert_eq!(Some(in_time(task).await.unwrap()), worker);
        in_time(pool.close()).await.unwrap();
    }

    /// F16: by whatever way a task that never ends is given up, its process is gone within a second, and another is there.
    async fn what_never_ends_is_ended() {
        let pool = Pool::new(1).await.unwrap();
        for way in ["run", "abort", "time", "map", "ordered", "unordered"] {
            let (sender, mut started) = simplex().unwrap();
            let mut sender = Some(sender);
            let mut call = |_| forever(sender.take().unwrap());
            let (begun, worker) = match way {
                "run" => {
                    let mut run = pool.run(call(0));
                    assert!((&mut run).now_or_never().is_none());
                    let worker = in_time(started.recv()).await.unwrap().unwrap();
                    (Instant::now(), worker)
                }
                "abort" => {
                    let task = in_time(pool.submit(call(0))).await.unwrap();
                    let worker = in_time(started.recv()).await.unwrap().unwrap();
                    task.abort();
                    (Instant::now(), worker)
                }
                "time" => {
                    let run = pool.run(call(0).timeout(Duration::from_millis(100)));
                    assert!(in_time(run).await.unwrap_err().is_timeout());
                    (Instant::now(), in_time(started.recv()).await.unwrap().unwrap())
                }
                _ => {
                    let mut map = pool.map(call, [0]);
                    if way == "map" {
                        assert!((&mut map).now_or_never().is_none());
                        let worker = in_time(started.recv()).await.unwrap().unwrap();
                        (Instant::now(), worker)
                    } else if way == "ordered" {
                        let mut values = map.ordered();
                        assert!(values.next().now_or_never().is_none());
                        let worker = in_time(started.recv()).await.unwrap().unwrap();
                        (Instant::now(), worker)
                    } else {
                        let mut values = map.unordered();
                        assert!(values.next().now_or_never().is_none());
                        let worker = in_time(started.recv()).await.unwrap().unwrap();
                        (Instant::now(), worker)
                    }
                }
            };
            eventually_async(10 * SECOND, || info(worker).is_none()).await;
            assert!(begun.elapsed() < patience(10 * SECOND), "{way}: {:?}", begun.elapsed());
            assert_ne!(in_time(pool.run(pid())).await.unwrap(), worker);
        }
        in_time(pool.close()).await.unwrap();
    }

    /// F18: a million items that are made as they are wanted take no more memory than a hundred thousand.
    #[limit(300)]
    #[once]
    async fn a_million_items_take_no_memory() {
        const MILLION: u64 = 1_000_000;
        let pool = Pool::new(2).await.unwrap();
        let (mut early, most_ahead) = (0, AtomicU64::new(0));
        let (read, mut values_read) = (AtomicU64::new(0), 0_u64);
        let items = (0..MILLION).inspect(|_| _ = read.fetch_add(1, Relaxed));
        let mut values = pool.map(plainly, items).ordered();
        for n in 0..MILLION {
            assert_eq!(timeout(patience(60 * SECOND), values.next()).await.unwrap().unwrap().unwrap(), n + 1);
            values_read += 1;
            most_ahead.fetch_max(read.load(Relaxed) - values_read, Relaxed);
            if n == MILLION / 10 {
                early = resident();
            }
        }
        let late = resident();
        assert!(late < early + (16 << 20), "{early} bytes, and then {late}");
        assert!(most_ahead.into_inner() < 2 * 4 * 4096, "it reads far ahead");
        drop(values);
        in_time(pool.close()).await.unwrap();
    }
}

/// Bytes of this process in memory, as `proc_pid_statm(5)` has them in its second field, in pages.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}
