//! When a pool looks after its workers: in time, and no more often than it must.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use procession::pipe::{Receiver, Sender};
use procession::pool::WorkerState;
use procession::{Failure, Pool, process, simplex};
use procession_tests::{eventually_async, in_time, isolated};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[process]
fn pid() -> u32 {
    std::process::id()
}

#[process]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

/// Fails, if it is told to.
#[process]
fn begins(fails: bool) -> Result<(), Failure> {
    if fails { Err(Failure::new("it was told to")) } else { Ok(()) }
}

/// Says who it is, and ends when it is told to.
#[process]
async fn until_told(mut started: Sender<u32>, mut told: Receiver<()>) -> Result<(), Failure> {
    started.send(std::process::id()).await?;
    told.recv().await?;
    Ok(())
}

/// How much time of processors this process has used, in all its threads.
fn used() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64)
    };
    of(usage.user_time()) + of(usage.system_time())
}

/// A pool of three workers, who they are, and how often one has been started; all but these fail.
async fn three_and_no_more() -> (Pool, Vec<u32>, Arc<AtomicU32>) {
    let begun = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&begun);
    let init = move || begins(counter.fetch_add(1, Relaxed) >= 3);
    let pool = Pool::builder().workers(3).init(init).build().await.unwrap();
    let workers = pool.stats().workers.iter().map(|worker| worker.pid).collect();
    (pool, workers, begun)
}

isolated! {
    /// A worker that cannot be replaced is tried for again and again, ever more seldom; in between there is nothing to do.
    async fn a_pause_between_starts_is_one() {
        let (pool, workers, begun) = three_and_no_more().await;
        send(workers[0], Signal::KILL);
        send(workers[1], Signal::KILL);
        eventually_async(20 * SECOND, || begun.load(Relaxed) >= 7).await;
        let (before, starts) = (used(), begun.load(Relaxed));
        sleep(SECOND).await;
        // From here on there is a start in half a second, or in a second: one at a time, though two are missing.
        let (used, starts) = (used() - before, begun.load(Relaxed) - starts);
        assert!(used < Duration::from_millis(300) && starts <= 4, "{used:?} for {starts} starts");
        assert_eq!(in_time(pool.run(pid())).await.unwrap(), workers[2]);
        pool.kill().await;
    }

    /// The same beside one that works: what it does says nothing of those that are started.
    async fn a_pause_between_starts_is_one_beside_work() {
        let (pool, workers, begun) = three_and_no_more().await;
        let mut pids = pool.map(|_| pid(), 0..).unordered();
        send(workers[0], Signal::KILL);
        send(workers[1], Signal::KILL);
        let work = async { while pids.next().await.is_some() {} };
        let starts = async {
            eventually_async(20 * SECOND, || begun.load(Relaxed) >= 8).await;
            let before = begun.load(Relaxed);
            sleep(SECOND).await;
            begun.load(Relaxed) - before
        };
        let starts = tokio::select! {
            () = work => panic!("it never ends"),
            starts = starts => starts,
        };
        assert!(starts <= 4, "{starts}");
        drop(pids);
        pool.kill().await;
    }

    /// What a stopped worker was given, and was taken back, takes up its board until it reads it. What then has room goes there.
    async fn room_that_comes_without_a_word() {
        let pool = Pool::new(1).await.unwrap();
        let worker = in_time(pool.run(pid())).await.unwrap();
        send(worker, Signal::STOP);
        for _ in 0..40 {
            assert!(pool.run(length(vec![0; 4000])).now_or_never().is_none());
        }
        let task = in_time(pool.submit(length(vec![0; 4000]))).await.unwrap();
        send(worker, Signal::CONT);
        assert_eq!(in_time(task).await.unwrap(), 4000);
        in_time(pool.close()).await.unwrap();
    }

    /// What a stopped worker has goes to one that is free, however far off the next time limit is.
    async fn a_time_limit_hides_nobody() {
        let pool = Pool::new(2).await.unwrap();
        let (sender, mut started) = simplex().unwrap();
        let (mut tell, told) = simplex().unwrap();
        let long = in_time(pool.submit(until_told(sender, told).timeout(3600 * SECOND))).await.unwrap();
        let busy = in_time(started.recv()).await.unwrap().unwrap();
        let workers = pool.stats().workers;
        let other = workers.iter().map(|worker| worker.pid).find(|pid| *pid != busy).unwrap();
        in_time(pool.run(pid())).await.unwrap();
        // By then the keeper has nothing to look at before the hour is over.
        sleep(Duration::from_millis(400)).await;
        send(other, Signal::STOP);
        let held = in_time(pool.submit(pid())).await.unwrap();
        tell.send(()).await.unwrap();
        in_time(long).await.unwrap().unwrap();
        assert_eq!(in_time(held).await.unwrap(), busy);
        send(other, Signal::CONT);
        in_time(pool.close()).await.unwrap();
    }

    /// A spare does nothing before it takes the place of one that has ended, and then another one waits.
    async fn spares_take_the_place_of_the_dead() {
        let pool = Pool::builder().workers(1).warm(1).build().await.unwrap();
        for _ in 0..5 {
            let spares = || pool.stats().workers.into_iter().filter(|worker| worker.state == WorkerState::Spare);
            eventually_async(20 * SECOND, || spares().count() == 1).await;
            let spare = spares().next().unwrap().pid;
            let worker = in_time(pool.run(pid())).await.unwrap();
            let pids = in_time(pool.map(|_| pid(), 0..100)).await.unwrap();
            assert!(worker != spare && pids.iter().all(|pid| *pid == worker), "{worker}, {spare}: {pids:?}");
            send(worker, Signal::KILL);
            assert_eq!(in_time(pool.run(pid())).await.unwrap(), spare);
        }
        in_time(pool.close()).await.unwrap();
    }

    /// The closure that makes the call of `init` is the user's, and runs in the parent.
    async fn an_init_that_cannot_be_made() {
        let error = in_time(Pool::builder().workers(2).init(|| -> procession::Call<()> { panic!("no call") }).build()).await;
        assert!(error.unwrap_err().is_panic());
        let made = AtomicU32::new(0);
        let init = move || {
            assert!(made.fetch_add(1, Relaxed) < 1, "no second call");
            begins(false)
        };
        let pool = Pool::builder().workers(1).init(init).build().await.unwrap();
        let worker = in_time(pool.run(pid())).await.unwrap();
        send(worker, Signal::KILL);
        let error = in_time(async {
            loop {
                if let Err(error) = pool.run(pid()).await {
                    break error;
                }
            }
        })
        .await;
        assert!(matches!(error.cause(), procession::Cause::RestartLimit { deaths: 8, .. }), "{error}");
        in_time(pool.close()).await.unwrap_err();
    }
}
