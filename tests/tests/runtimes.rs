//! Calls work wherever they are made from: every runtime, none, and one after the other. F12; R2, R6.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use procession::{StartMethod, process};
use procession_tests::isolated;
use tokio::runtime::Builder;

#[process]
async fn double(n: u64) -> u64 {
    n * 2
}

#[process]
fn spins() {
    loop {
        std::hint::spin_loop();
    }
}

isolated! {
    /// Without a runtime; from several threads at once; and as the first thing that a program does.
    #[cold]
    fn blocking_without_a_runtime() {
        let threads: Vec<_> = (0..8).map(|n| std::thread::spawn(move || double(n).blocking())).collect();
        for (n, thread) in (0..8).zip(threads) {
            assert_eq!(thread.join().unwrap().unwrap(), n * 2);
        }
    }

    /// Runtimes one after the other, as `#[tokio::test]` makes them, and children that outlive the one that
    /// they were ordered in.
    fn one_runtime_after_the_other() {
        let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime().block_on(double(1)).unwrap(), 2);
        let spawned = runtime().block_on(double(2).spawn()).unwrap();
        assert_eq!(runtime().block_on(spawned).unwrap(), 4);
    }

    /// A runtime that has neither I/O nor time.
    fn a_runtime_without_drivers() {
        let runtime = Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(double(21).timeout(Duration::from_secs(3600))).unwrap(), 42);
    }

    /// A clock that a test has stopped, and moves by an hour at a time, does not fire the limit of an hour.
    fn a_paused_clock() {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let doubled = runtime.block_on(async {
            let call = double(21).timeout(Duration::from_secs(3600));
            tokio::select! {
                biased;
                doubled = call => doubled,
                () = async { loop { tokio::time::sleep(Duration::from_secs(3600)).await } } => unreachable!(),
            }
        });
        assert_eq!(doubled.unwrap(), 42);
    }

    /// No runtime at all: any executor will do.
    fn a_foreign_executor() {
        assert_eq!(futures::executor::block_on(double(4)).unwrap(), 8);
    }

    /// The futures are futures: in tasks, sets, streams and selections.
    #[threads(2)]
    async fn futures_everywhere() {
        assert_eq!(tokio::spawn(double(1)).await.unwrap().unwrap(), 2);

        let mut set = tokio::task::JoinSet::new();
        (0..5).for_each(|n| drop(set.spawn(double(n))));
        let mut doubled: Vec<u64> = set.join_all().await.into_iter().map(Result::unwrap).collect();
        doubled.sort_unstable();
        assert_eq!(doubled, [0, 2, 4, 6, 8]);

        let unordered: FuturesUnordered<_> = (0..5).map(double).collect();
        assert_eq!(unordered.try_fold(0, async |sum, n| Ok(sum + n)).await.unwrap(), 20);

        let buffered = futures::stream::iter((0..5).map(double)).buffered(2);
        assert_eq!(buffered.map(Result::unwrap).collect::<Vec<_>>().await, [0, 2, 4, 6, 8]);

        let (a, b) = tokio::try_join!(double(1), double(2)).unwrap();
        assert_eq!((a, b), (2, 4));

        let mut process = double(3).spawn().await.unwrap();
        let joined = tokio::select! {
            joined = process.join() => joined,
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("late"),
        };
        assert_eq!(joined.unwrap(), 6);
    }

    /// R2: waiting for a process blocks no thread: a timer of the same thread ticks meanwhile.
    async fn r02_no_thread_is_blocked() {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut process = spins().timeout(Duration::from_millis(300)).spawn().await.unwrap();
        let mut count = 0;
        let ended = loop {
            tokio::select! {
                ended = process.join() => break ended,
                _ = ticks.tick() => count += 1,
            }
        };
        assert!(ended.unwrap_err().is_timeout());
        assert!(count >= 10, "{count} ticks");
    }

    /// F12: threads that hold locks when a child is started do it no harm.
    #[limit(120)]
    fn f12_starting_among_busy_threads() {
        let running = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while running.load(std::sync::atomic::Ordering::Relaxed) {
                        let text = format!("{:?}", vec![1; 100]);
                        drop(std::io::Write::write_all(&mut std::io::stdout().lock(), &text.as_bytes()[..0]));
                    }
                });
            }
            for n in 0..100 {
                assert_eq!(double(n).blocking().unwrap(), n * 2);
            }
            running.store(false, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

/// R6: inside `#[tokio::test]`, without any harness of ours.
#[tokio::test]
async fn r06_tokio_test() {
    for method in [StartMethod::ForkServer, StartMethod::Spawn] {
        assert_eq!(double(2).start_method(method).await.unwrap(), 4);
    }
}

/// R6: and in another one, with a stopped clock.
#[tokio::test(start_paused = true)]
async fn r06_tokio_test_with_a_paused_clock() {
    for method in [StartMethod::ForkServer, StartMethod::Spawn] {
        assert_eq!(double(3).start_method(method).await.unwrap(), 6);
    }
}
