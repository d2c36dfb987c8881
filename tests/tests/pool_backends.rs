//! What a pool promises whoever runs its tasks: each test runs over worker processes, under both start methods, and over threads.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt, TryStreamExt};
use procession::pool::{self, Builder};
use procession::shared::Barrier;
use procession::{Cause, Failure, Pool, process};
use procession_tests::{in_time, isolated};
use tokio::time::sleep;

#[process]
async fn square(n: u64) -> u64 {
    tokio::task::yield_now().await;
    n * n
}

#[process]
fn plainly(n: u64) -> Result<u64, Failure> {
    if n == 3 { Err(Failure::new("three")) } else { Ok(n) }
}

#[process]
fn panics_on(n: u64, which: u64) -> u64 {
    assert_ne!(n, which, "this one");
    n
}

#[process]
async fn forever() {
    std::future::pending::<()>().await;
}

#[process]
async fn pause(time: Duration) -> u64 {
    sleep(time).await;
    1
}

#[process]
async fn meets(barrier: Barrier) -> bool {
    barrier.wait().await.is_ok()
}

struct Model(String);

#[process]
fn load(name: String) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::new("nameless"));
    }
    pool::keep(Model(name));
    Ok(())
}

#[process]
async fn name() -> Option<String> {
    sleep(Duration::from_millis(1)).await;
    pool::kept::<Model>().map(|model| model.0.clone())
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(|n| n * n).collect()
}

async fn values(builder: Builder) {
    let pool = builder.build().await.unwrap();
    assert_eq!(in_time(pool.run(square(7))).await.unwrap(), 49);
    assert_eq!(in_time(pool.run(plainly(7))).await.unwrap().unwrap(), 7);
    assert_eq!(in_time(pool.run(plainly(3))).await.unwrap().unwrap_err().to_string(), "three");
    for chunk in [1, 7, 1000] {
        assert_eq!(in_time(pool.map(square, 0..500).chunk(chunk)).await.unwrap(), squares(500));
        let ordered = pool.map(square, 0..100).chunk(chunk).ordered().try_collect::<Vec<_>>();
        assert_eq!(in_time(ordered).await.unwrap(), squares(100));
        let mut unordered: Vec<u64> =
            in_time(pool.map(square, 0..100).chunk(chunk).unordered().try_collect()).await.unwrap();
        unordered.sort_unstable();
        assert_eq!(unordered, squares(100));
    }
    in_time(pool.close()).await.unwrap();
    assert_eq!(*in_time(pool.run(square(1))).await.unwrap_err().cause(), Cause::Closed);
    assert_eq!(*in_time(pool.map(square, 0..9)).await.unwrap_err().cause(), Cause::Closed);
}

async fn errors(builder: Builder) {
    let pool = builder.build().await.unwrap();
    let error = in_time(pool.map(|n| panics_on(n, 77), 0..10_000)).await.unwrap_err();
    let Cause::Panicked { message, .. } = error.cause() else { panic!("{error}") };
    assert!(message.contains("this one") && error.name() == "panics_on[77]", "{error}");
    let each: Vec<_> = in_time(pool.map(|n| panics_on(n % 5, 2), 0..20).chunk(3).ordered().collect()).await;
    assert!(each.iter().enumerate().all(|(n, value)| value.is_err() == (n % 5 == 2)), "{each:?}");
    let refused = in_time(pool.run(square(1).max_message(0))).await.unwrap_err();
    assert!(matches!(refused.cause(), Cause::TooLarge { .. }), "{refused}");
    in_time(pool.close()).await.unwrap();
}

async fn windows(builder: Builder) {
    let pool = builder.build().await.unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let items = (0..).inspect(move |_| {
        counter.fetch_add(1, Relaxed);
    });
    let mut values = pool.map(square, items).in_flight(8).ordered();
    for n in 0..200 {
        assert_eq!(in_time(values.next()).await.unwrap().unwrap(), n * n);
        assert!(read.load(Relaxed) <= n + 9);
    }
    drop(values);
    assert_eq!(in_time(pool.run(square(2))).await.unwrap(), 4);
    in_time(pool.close()).await.unwrap();
}

async fn ends(builder: Builder) {
    let pool = builder.clone().build().await.unwrap();
    let limit = Duration::from_millis(100);
    let late = in_time(pool.run(forever().timeout(limit))).await.unwrap_err();
    assert_eq!(*late.cause(), Cause::TimedOut { after: limit });
    // Its time begins when it does.
    let times = pool.map(pause, [limit / 2; 8]).chunk(8).timeout(2 * limit);
    assert_eq!(in_time(times).await.unwrap(), [1; 8]);
    for _ in 0..3 {
        let mut run = pool.run(forever());
        assert!((&mut run).now_or_never().is_none());
        drop(run);
    }
    let task = in_time(pool.submit(forever())).await.unwrap();
    task.abort();
    assert_eq!(*in_time(task).await.unwrap_err().cause(), Cause::Cancelled);
    assert_eq!(in_time(pool.map(square, 0..100)).await.unwrap(), squares(100));
    let (sure, ended) = in_time(async { tokio::join!(pool.run(square(3)), pool.close()) }).await;
    ended.unwrap();
    assert_eq!(sure.unwrap(), 9);

    let pool = builder.clone().build().await.unwrap();
    let tasks = in_time(join_all((0..20).map(|_| pool.submit(forever())))).await;
    in_time(pool.kill()).await;
    for task in tasks {
        assert_eq!(*in_time(task.unwrap()).await.unwrap_err().cause(), Cause::Cancelled);
    }
    let pool = builder.build().await.unwrap();
    let task = in_time(pool.submit(forever())).await.unwrap();
    drop(pool);
    assert_eq!(*in_time(task).await.unwrap_err().cause(), Cause::Cancelled);
}

async fn beginnings(builder: Builder) {
    let error = in_time(builder.clone().init(load(String::new())).build()).await.unwrap_err();
    assert!(error.to_string().contains("nameless"), "{error}");
    let pool = builder.init(load("x".into())).concurrency(2).build().await.unwrap();
    let names = in_time(join_all((0..20).map(|_| pool.run(name())))).await;
    assert!(names.into_iter().all(|name| name.unwrap().as_deref() == Some("x")));
    assert!(pool::kept::<Model>().is_none(), "it is the workers'");
    in_time(pool.close()).await.unwrap();
}

/// Those that wait for each other have a worker each, however they were handed over.
async fn meetings(builder: Builder) {
    let pool = builder.workers(4).build().await.unwrap();
    let barrier = Barrier::new(4).unwrap();
    for _ in 0..500 {
        let met = in_time(pool.map(|()| meets(barrier.clone()), [(); 4]).in_flight(4)).await.unwrap();
        assert_eq!(met, [true; 4]);
    }
    in_time(pool.close()).await.unwrap();
}

fn processes() -> Builder {
    Pool::builder().workers(2)
}

fn threads() -> Builder {
    Pool::builder().workers(2).local()
}

isolated! {
    async fn values_by_processes() {
        values(processes()).await;
    }

    async fn errors_by_processes() {
        errors(processes()).await;
    }

    async fn windows_by_processes() {
        windows(processes()).await;
    }

    async fn ends_by_processes() {
        ends(processes()).await;
    }

    async fn beginnings_by_processes() {
        beginnings(processes()).await;
    }

    async fn meetings_by_processes() {
        meetings(processes()).await;
    }

    #[once]
    async fn meetings_by_threads() {
        meetings(threads()).await;
    }

    #[once]
    async fn values_by_threads() {
        values(threads()).await;
    }

    #[once]
    async fn errors_by_threads() {
        errors(threads()).await;
    }

    #[once]
    async fn windows_by_threads() {
        windows(threads()).await;
    }

    #[once]
    async fn ends_by_threads() {
        ends(threads()).await;
    }

    #[once]
    async fn beginnings_by_threads() {
        beginnings(threads()).await;
    }
}

#[test]
fn a_pool_crosses_threads() {
    fn is_free<T: Send + Sync + 'static>() {}
    fn is_sent<T: Send>() {}
    is_free::<Pool>();
    is_free::<Builder>();
    is_sent::<pool::Run<std::rc::Rc<u8>>>();
    is_sent::<pool::Task<u8>>();
    is_sent::<pool::Map<'_, u8>>();
    is_sent::<pool::Ordered<'_, u8>>();
}
