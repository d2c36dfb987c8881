//! Maps in a pool: conformance PO02, PO03, PO07, PO10, PO12, PO15, PO17, CF09; failures F15, F16, F18, F19, F29;
//! requirements 1, 2, 5, and 6 with 16 MiB: a debug build takes long to copy more.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, FuturesUnordered};
use futures::{FutureExt, StreamExt, TryStreamExt};
use procession::pipe::Sender;
use procession::shared::Atomic;
use procession::{Cause, Failure, Limits, Pool, process, simplex};
use procession_tests::{eventually_async, in_time, info, isolated, patience};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[process]
async fn square(n: u64) -> u64 {
    n * n
}

#[process]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[process]
async fn slow_square(n: u64) -> u64 {
    sleep(Duration::from_millis(n % 7)).await;
    n * n
}

#[process]
fn reports(n: u64) -> (u64, u32) {
    (n, std::process::id())
}

/// Dies on some, by itself.
#[process]
fn dies_on(n: u64, which: u64) -> u64 {
    if n == which {
        kill(std::process::id());
    }
    n
}

/// Dies on the first, and counts the others.
#[process]
fn counts(n: u64, done: Atomic<u64>) {
    if n == 0 {
        kill(std::process::id());
    }
    done.fetch_add(1);
}

#[process]
fn length(bytes: Bytes) -> usize {
    bytes.len()
}

/// Says that it has started, and never ends, on some.
#[process]
fn loops_on(n: u64, mut started: Option<Sender<u32>>) -> Result<u64, Failure> {
    let Some(started) = &mut started else { return Ok(n) };
    started.blocking_send(std::process::id())?;
    started.blocking_flush()?;
    loop {
        std::hint::spin_loop();
    }
}

#[process]
fn panics_on(n: u64, which: u64) -> u64 {
    assert_ne!(n, which, "this one");
    n
}

/// Kills its worker when the others beside it have begun, which take their time.
#[process]
async fn dies_beside(n: u64, which: u64) -> u64 {
    if n == which {
        kill(std::process::id());
    }
    sleep(Duration::from_millis(50)).await;
    n
}

#[process]
async fn pause(millis: u64) -> u64 {
    sleep(Duration::from_millis(millis)).await;
    millis
}

#[process]
fn same(bytes: Bytes) -> (Bytes, u32) {
    (bytes, std::process::id())
}

fn squares(count: u64) -> Vec<u64> {
    (0..count).map(|n| n * n).collect()
}

isolated! {
    async fn values_come_in_order() {
        let pool = Pool::new(3).await.unwrap();
        assert_eq!(in_time(pool.map(square, 0..1000)).await.unwrap(), squares(1000));
        for chunk in [1, 7, 20, 5000] {
            assert_eq!(in_time(pool.map(square, 0..100).chunk(chunk)).await.unwrap(), squares(100));
            assert_eq!(in_time(pool.map(slow_square, 0..50).chunk(chunk)).await.unwrap(), squares(50));
        }
        let pairs = [(1, 2), (3, 4), (5, 6)];
        assert_eq!(in_time(pool.map(|(a, b)| add(a, b), pairs)).await.unwrap(), [3, 7, 11]);
        in_time(pool.close()).await.unwrap();
        let closed = in_time(pool.map(square, 0..3)).await.unwrap_err();
        assert_eq!(*closed.cause(), Cause::Closed);
    }

    async fn streams_give_all() {
        let pool = Pool::new(3).await.unwrap();
        let ordered: Vec<u64> = in_time(pool.map(slow_square, 0..200).ordered().try_collect()).await.unwrap();
        assert_eq!(ordered, squares(200));
        let unordered: BTreeSet<u64> =
            in_time(pool.map(slow_square, 0..200).unordered().try_collect()).await.unwrap();
        assert_eq!(unordered, squares(200).into_iter().collect());
        // What is quick does not wait for what is slow.
        let mut values = pool.map(pause, [400, 0, 0]).unordered();
        assert_eq!(in_time(values.next()).await.unwrap().unwrap(), 0);
        assert_eq!(in_time(values.next()).await.unwrap().unwrap(), 0);
        assert_eq!(in_time(values.next()).await.unwrap().unwrap(), 400);
        assert!(in_time(values.next()).await.is_none());
        in_time(pool.close()).await.unwrap();
    }

    async fn nothing_in_nothing_out() {
        let pool = Pool::new(1).await.unwrap();
        assert_eq!(in_time(pool.map(square, [])).await.unwrap(), Vec::<u64>::new());
        assert!(in_time(pool.map(square, []).ordered().next()).await.is_none());
        assert!(in_time(pool.map(square, []).unordered().next()).await.is_none());
        assert_eq!(in_time(pool.map_stream(square, stream::empty())).await.unwrap(), Vec::<u64>::new());
        in_time(pool.close()).await.unwrap();
    }

    async fn input_is_read_as_it_is_wanted() {
        let pool = Pool::new(2).await.unwrap();
        for (window, chunk) in [(8, None), (8, Some(3)), (1, None), (100, Some(64))] {
            let read = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&read);
            let map = pool.map(square, (0..).inspect(move |_| {
                counter.fetch_add(1, Relaxed);
            })).in_flight(window);
            let map = match chunk {
                Some(chunk) => map.chunk(chunk),
                None => map,
            };
            let mut values = map.ordered();
            assert_eq!(read.load(Relaxed), 0);
            for n in 0..500 {
                assert_eq!(in_time(values.next()).await.unwrap().unwrap(), n * n);
                // What was given, and what is under way.
                let read = read.load(Relaxed);
                assert!(read <= n + 1 + window as u64, "{read} were read when {n} was given");
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    async fn streams_go_in() {
        let pool = Pool::new(2).await.unwrap();
        let numbers = stream::unfold(0_u64, |n| async move {
            tokio::task::yield_now().await;
            (n < 100).then_some((n, n + 1))
        });
        assert_eq!(in_time(pool.map_stream(square, numbers)).await.unwrap(), squares(100));
        let failing = stream::iter((0..10).map(Ok).chain([Err("the tape is torn")]).chain((10..20).map(Ok)));
        let mut values = pool.try_map_stream(square, failing).ordered();
        for n in 0..10 {
            assert_eq!(in_time(values.next()).await.unwrap().unwrap(), n * n);
        }
        let error = in_time(values.next()).await.unwrap().unwrap_err();
        assert!(matches!(error.cause(), Cause::Input { reason } if reason == "the tape is torn"), "{error}");
        assert_eq!(error.pid(), None);
        assert!(in_time(values.next()).await.is_none());
        assert_eq!(in_time(pool.run(square(3))).await.unwrap(), 9);
        in_time(pool.close()).await.unwrap();
    }

    async fn the_first_error_ends_it_at_once() {
        let pool = Pool::new(2).await.unwrap();
        let begun = Instant::now();
        let (sender, mut started) = simplex().unwrap();
        let mut sender = Some(sender);
        // The first never ends.
        let hours = (0..1000_u64).map(|n| (n, if n == 0 { sender.take() } else { None }));
        let map = pool.map(|(n, sender)| if n == 5 { loops_on(n, sender).max_message(0) } else { loops_on(n, sender) }, hours);
        let error = in_time(map).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::TooLarge { .. }) && error.name() == "loops_on[5]", "{error}");
        assert!(begun.elapsed() < patience(5 * SECOND));
        let error = in_time(pool.map(|n| panics_on(n, 30), 0..100_000)).await.unwrap_err();
        assert!(error.is_panic() && error.name() == "panics_on[30]" && error.pid().is_some(), "{error}");
        if let Ok(Some(worker)) = in_time(started.recv()).await {
            eventually_async(10 * SECOND, || info(worker).is_none()).await;
        }
        assert_eq!(in_time(pool.map(square, 0..10)).await.unwrap(), squares(10));
        in_time(pool.close()).await.unwrap();
    }

    /// Of those that come at the same time, too.
    async fn the_first_of_many_errors_is_given() {
        let pool = Pool::new(1).await.unwrap();
        let refused = in_time(pool.map(|n| square(n).env("LANG", "C"), 0..3)).await.unwrap_err();
        assert_eq!(refused.name(), "square[0]");
        pool.close().await.unwrap();
    }

    async fn each_error_has_its_place_in_a_stream() {
        let pool = Pool::new(2).await.unwrap();
        let values: Vec<_> = in_time(pool.map(|n| panics_on(n % 10, 3), 0..50).chunk(4).ordered().collect()).await;
        assert_eq!(values.len(), 50);
        for (n, value) in values.into_iter().enumerate() {
            match value {
                Ok(value) => assert_eq!(value, n as u64 % 10),
                Err(error) => assert!(n % 10 == 3 && error.is_panic(), "{n}: {error}"),
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    /// In one piece with others, it costs none of them.
    async fn a_death_in_a_list_costs_one_item() {
        let pool = Pool::new(2).await.unwrap();
        for chunk in [1, 3, 10, 100] {
            let values: Vec<_> =
                in_time(pool.map(|n| dies_on(n % 25, 7), 0..100).chunk(chunk).ordered().collect()).await;
            assert_eq!(values.len(), 100);
            for (n, value) in values.into_iter().enumerate() {
                match value {
                    Ok(value) => assert_eq!(value, n as u64 % 25),
                    Err(error) => assert!(n % 25 == 7 && error.signal() == Some(9), "{n}: {error}"),
                }
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    async fn a_poisonous_item_ends_three_workers() {
        let pool = Pool::new(2).await.unwrap();
        let values: Vec<_> =
            in_time(pool.map(|n| dies_on(n, 17), 0..40).chunk(8).retry(5).ordered().collect()).await;
        for (n, value) in values.into_iter().enumerate() {
            match value {
                Ok(value) => assert_eq!(value, n as u64),
                Err(error) => {
                    let last = "was killed by SIGKILL".into();
                    assert_eq!((n, error.item()), (17, Some(17)));
                    assert_eq!(error.cause(), &Cause::Poisoned { deaths: 3, last });
                }
            }
        }
        let error = in_time(pool.map(|n| dies_on(n, 17), 0..40).retry(1)).await.unwrap_err();
        assert_eq!(error.signal(), Some(9));
        in_time(pool.close()).await.unwrap();
    }

    /// Of several that a worker has begun one kills it again and again, and the others are innocent: it counts against one that was alone.
    async fn who_was_beside_a_poisonous_item_is_not_poisonous() {
        for workers in [1, 2] {
            let pool = Pool::builder().workers(workers).concurrency(4).build().await.unwrap();
            let error = in_time(pool.map(|n| dies_beside(n, 3), [3]).retry(5)).await.unwrap_err();
            let last = "was killed by SIGKILL".into();
            assert_eq!(error.cause(), &Cause::Poisoned { deaths: 3, last });
            // It takes its tries from those beside it, which have the cause of their last loss; the rest is done.
            let values: Vec<_> =
                in_time(pool.map(|n| dies_beside(n, 3), 0..12).chunk(1).retry(5).ordered().collect()).await;
            for (n, value) in values.into_iter().enumerate() {
                match value {
                    Ok(value) => assert!(value == n as u64 && n != 3),
                    Err(error) if n == 3 => assert!(matches!(error.cause(), Cause::Poisoned { .. } | Cause::Signaled { signal: 9, .. })),
                    Err(error) => assert_eq!(error.signal(), Some(9), "{n}: {error}"),
                }
            }
            in_time(pool.close()).await.unwrap();
        }
    }

    /// What a call was named stands in its error, and in the statistics, and so does the number of its item.
    async fn items_have_names() {
        let pool = Pool::new(2).await.unwrap();
        let call = |n| dies_on(n, 3).name(format!("file-{n}"));
        let values: Vec<_> = in_time(pool.map(call, 0..6).ordered().collect()).await;
        let errors: Vec<_> = values.iter().filter_map(|value| value.as_ref().err()).collect();
        assert!(errors.len() == 1 && errors[0].name() == "file-3[3]" && errors[0].item() == Some(3), "{errors:?}");
        let error = in_time(pool.map(|n| dies_on(n, 0).name("odd").current_dir("/"), [7])).await.unwrap_err();
        assert_eq!(error.name(), "odd[0]");
        in_time(pool.map(|n| pause(n).name("rest"), [0, 100, 0])).await.unwrap();
        in_time(pool.map(pause, [0, 0, 0, 50]).chunk(1)).await.unwrap();
        in_time(pool.run(pause(25).name("single"))).await.unwrap();
        let slowest = pool.stats().slowest;
        for (name, item) in [("rest", Some(1)), ("pause", Some(3)), ("single", None)] {
            let is_told = slowest.iter().any(|slow| slow.name == name && slow.item == item);
            assert!(is_told, "{name} {item:?} of {slowest:?}");
        }
        in_time(pool.close()).await.unwrap();
    }

    async fn each_item_has_its_own_time() {
        let pool = Pool::new(2).await.unwrap();
        // Together they take longer than one may.
        let limit = Duration::from_millis(150);
        let values: Vec<_> =
            in_time(pool.map(pause, [30, 30, 30, 30, 30, 30, 3_600_000, 30, 30]).chunk(9).timeout(limit).ordered().collect())
                .await;
        for (n, value) in values.into_iter().enumerate() {
            match value {
                Ok(value) => assert_eq!(value, 30),
                Err(error) => assert_eq!((n, error.cause()), (6, &Cause::TimedOut { after: limit })),
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    async fn progress_is_told() {
        let pool = Pool::new(2).await.unwrap();
        let told = Arc::new(AtomicU64::new(0));
        let teller = Arc::clone(&told);
        let map = pool.map(square, 0..5000).on_progress(move |done| {
            assert!(done > teller.swap(done, Relaxed));
        });
        assert_eq!(in_time(map).await.unwrap().len(), 5000);
        assert_eq!(told.load(Relaxed), 5000);
        in_time(pool.close()).await.unwrap();
    }

    /// What cannot be sent counts as done, and each number comes once.
    async fn progress_is_told_of_what_fails() {
        let pool = Pool::new(2).await.unwrap();
        let told = Arc::new(AtomicU64::new(0));
        for fits in [0, 3, 9] {
            let teller = Arc::clone(&told);
            teller.store(0, Relaxed);
            let call = |n: u64| length(vec![0; if n < fits { 1 } else { 100 }].into()).max_message(50);
            let values = pool.map(call, 0..9).on_progress(move |done| {
                assert!(done > teller.swap(done, Relaxed));
            });
            let values: Vec<_> = in_time(values.unordered().collect::<Vec<_>>()).await;
            assert_eq!((values.len(), values.iter().flatten().count()), (9, fits as usize));
            assert_eq!(told.load(Relaxed), 9);
        }
        in_time(pool.close()).await.unwrap();
    }

    /// Lists that are longer than anything are as long as they can be, of items that are there and of items to come.
    async fn lists_without_an_end() {
        let pool = Pool::new(2).await.unwrap();
        for chunk in [usize::MAX, usize::MAX - 1, 1 << 62] {
            assert_eq!(in_time(pool.map(square, 0..10).chunk(chunk)).await.unwrap(), squares(10));
            let slowly = stream::iter(0..10).then(|n| async move {
                tokio::task::yield_now().await;
                n
            });
            assert_eq!(in_time(pool.map_stream(square, slowly).chunk(chunk)).await.unwrap(), squares(10));
        }
        in_time(pool.close()).await.unwrap();
    }

    /// The rest is cancelled by the error, and not only when the map is dropped.
    async fn an_error_cancels_the_rest() {
        let pool = Pool::new(1).await.unwrap();
        let done = Atomic::new(0_u64).unwrap();
        let mut map = pool.map(|n| counts(n, done.clone()), 0..500).in_flight(500);
        in_time(&mut map).await.unwrap_err();
        assert_eq!(in_time(pool.run(square(7))).await.unwrap(), 49);
        assert!(done.load() < 499, "{}", done.load());
        drop(map);
        in_time(pool.close()).await.unwrap();
    }

    async fn a_map_that_is_dropped_leaves_nothing() {
        let pool = Pool::new(2).await.unwrap();
        for n in 0..20 {
            let mut values = pool.map(slow_square, 0..).unordered();
            for _ in 0..n {
                in_time(values.next()).await.unwrap().unwrap();
            }
            drop(values);
            assert_eq!(in_time(pool.map(square, 0..10)).await.unwrap(), squares(10));
        }
        let (sender, mut started) = simplex().unwrap();
        let mut map = pool.map(|sender| loops_on(0, sender), [Some(sender)]);
        assert!((&mut map).now_or_never().is_none());
        let worker = in_time(started.recv()).await.unwrap().unwrap();
        let begun = Instant::now();
        drop(map);
        eventually_async(10 * SECOND, || info(worker).is_none()).await;
        assert!(begun.elapsed() < patience(10 * SECOND));
        in_time(pool.close()).await.unwrap();
    }

    /// Several at the same time have the same workers.
    async fn maps_run_beside_one_another() {
        let pool = Pool::new(2).await.unwrap();
        let maps: FuturesUnordered<_> = (0..10).map(|_| pool.map(square, 0..2000)).collect();
        let all: Vec<Vec<u64>> = in_time(maps.try_collect()).await.unwrap();
        assert!(all.len() == 10 && all.iter().all(|values| *values == squares(2000)));
        in_time(pool.close()).await.unwrap();
    }

    #[limit(120)]
    async fn long_arguments_and_results() {
        let pool = Pool::builder().workers(2).limits(Limits::DEFAULT.max_message(80 << 20)).build().await.unwrap();
        for length in [0, 1, 4096, 4097, 65_536, 1 << 20, 16 << 20] {
            let pattern: Vec<u8> = (0..=250).collect();
            let mut bytes = pattern.repeat(length / 251 + 1);
            bytes.truncate(length);
            let count = if length > 1 << 20 { 1 } else { 5 };
            let items = (0..count).map(|_| Bytes::from(bytes.clone()));
            let call = |bytes| same(bytes).max_message(80 << 20);
            let values = in_time(pool.map(call, items).in_flight(2)).await.unwrap();
            assert_eq!(values.len(), count);
            assert!(values.iter().all(|(value, pid)| *value == bytes && *pid != std::process::id()), "{length}");
        }
        in_time(pool.close()).await.unwrap();
    }

    /// Requirements 1 and 2, scaled down: what a kill costs is what the worker was in, and with another try nothing.
    #[limit(120)]
    async fn kills_cost_no_more_than_what_was_under_way() {
        let pool = Pool::new(2).await.unwrap();
        for (chunk, retries) in [(1, 0), (50, 0), (1, 100), (50, 100)] {
            let kills = AtomicU64::new(0);
            let mut lost = 0_u64;
            let mut values = pool.map(reports, 0..6000).chunk(chunk).retry(retries).ordered();
            for n in 0..6000 {
                match in_time(values.next()).await.unwrap() {
                    Ok((value, worker)) => {
                        assert_eq!(value, n);
                        if n % 300 == 299 && info(worker).is_some() {
                            // It may have ended already.
                            let pid = Pid::from_raw(worker.cast_signed()).unwrap();
                            kills.fetch_add(u64::from(kill_process(pid, Signal::KILL).is_ok()), Relaxed);
                        }
                    }
                    Err(error) => {
                        assert!(error.signal() == Some(9) && retries == 0, "{error}");
                        lost += 1;
                    }
                }
            }
            let kills = kills.into_inner();
            assert!(kills > 5 && lost <= kills, "{lost} were lost by {kills} kills");
        }
        in_time(pool.close()).await.unwrap();
    }
}
