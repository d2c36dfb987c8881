//! Semaphores in shared memory.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use procession::pipe::Sender;
use procession::shared::{Mutex, Permit, Region, Semaphore, TryAcquireError};
use procession::{Failure, Pipe, Process, ProcessSet, pipe, process, simplex};
use procession_tests::{eventually_async, in_time, isolated, state};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

const SECOND: Duration = Duration::from_secs(1);

fn signal<T>(process: &Process<T>, signal: Signal) {
    kill_process(Pid::from_raw(process.pid().cast_signed()).unwrap(), signal).unwrap();
}

/// Takes permits, says so, and keeps them.
#[process]
async fn keeps(seats: Semaphore, n: u32, mut told: Sender<()>) -> Result<(), Failure> {
    let _permits = seats.acquire_many(n).await?;
    told.send(()).await?;
    std::future::pending().await
}

/// One that has so many permits.
async fn keeper(seats: &Semaphore, n: u32) -> Process<Result<(), Failure>> {
    let (told, mut is_told) = simplex().unwrap();
    let child = keeps(seats.clone(), n, told).spawn().await.unwrap();
    in_time(is_told.recv()).await.unwrap().unwrap();
    child
}

async fn kill<T>(mut child: Process<T>) {
    signal(&child, Signal::KILL);
    child.wait().await.unwrap();
}

/// Waits for a permit; says whether there was one at once, and when it has one.
#[process]
async fn parks(seats: Semaphore, mut told: Sender<bool>) -> Result<(), Failure> {
    let taking = seats.acquire();
    tokio::pin!(taking);
    told.send(futures::poll!(&mut taking).is_ready()).await?;
    let _permit = taking.await;
    told.send(true).await?;
    Ok(())
}

#[process]
async fn tries(seats: Semaphore, n: u32) -> bool {
    seats.try_acquire_many(n).is_ok()
}

#[process]
fn takes_plainly(seats: Semaphore, times: u32) -> Result<(), Failure> {
    for n in 0..times {
        let permits = seats.blocking_acquire_many(1 + n % 2)?;
        drop((permits, seats.blocking_acquire_many(0)?));
    }
    Ok(())
}

#[process]
#[expect(clippy::exit, reason = "the test is about it")]
async fn exits(seats: Semaphore) {
    let _permit = seats.acquire().await;
    std::process::exit(3)
}

#[process]
#[expect(clippy::mem_forget, reason = "the test is about it")]
async fn forgets(seats: Semaphore, mut pipe: Pipe<(), ()>) -> Result<(), Failure> {
    std::mem::forget(seats.acquire().await);
    pipe.send(()).await?;
    pipe.recv().await?;
    drop(seats);
    pipe.send(()).await?;
    std::future::pending().await
}

/// Who is inside at the time, and the most that ever were.
type Inside = Mutex<[u32; 2]>;

#[process]
async fn goes_in_and_out(seats: Semaphore, inside: Inside, times: u32) -> Result<(), Failure> {
    for _ in 0..times {
        let _permit = seats.acquire().await;
        {
            let mut inside = inside.lock().await?;
            inside[0] += 1;
            inside[1] = inside[1].max(inside[0]);
        }
        tokio::task::yield_now().await;
        inside.lock().await?[0] -= 1;
    }
    Ok(())
}

/// Takes and gives back in all ways, with a number of permits that is its own to choose, and gives up at times.
#[process]
async fn hammers(seats: Semaphore, times: u32) -> Result<u32, Failure> {
    let mut done = 0;
    for n in 0..times {
        let several = 1 + n % 3;
        match n % 4 {
            0 => drop(seats.try_acquire()),
            1 => drop(seats.acquire().await),
            2 => drop(seats.acquire_many(several).await?),
            _ => {
                let (one, two) = (seats.acquire(), seats.acquire_many(several));
                tokio::pin!(one, two);
                // Whichever comes first; the other one gives up.
                match futures::future::select(one, two).await {
                    futures::future::Either::Left((permit, _)) => drop(permit),
                    futures::future::Either::Right((permits, _)) => drop(permits?),
                }
            }
        }
        done += 1;
    }
    Ok(done)
}

/// Takes and gives back as fast as it can: it is nearly always within one of the two.
#[process]
async fn spins(seats: Semaphore) {
    loop {
        drop(seats.try_acquire_many(2));
    }
}

#[process]
async fn passes_on(mut pipe: Pipe<usize, Semaphore>) -> Result<(), Failure> {
    while let Some(seats) = pipe.recv().await? {
        let _permit = seats.acquire().await;
        pipe.send(seats.available_permits()).await?;
    }
    Ok(())
}

/// Until this process has heard the bells that it has rung itself: the runtime looks for what has come when it has nothing else to
/// do, as here.
async fn heard() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

isolated! {
    /// SY06: 2, 1, 0; at 0 there is none; more may be given than there were at first.
    async fn sy06_counts() {
        let seats = Semaphore::new(2).unwrap();
        assert_eq!(seats.available_permits(), 2);
        let one = seats.acquire().await;
        assert_eq!(seats.available_permits(), 1);
        let other = seats.try_acquire().unwrap();
        assert_eq!(seats.available_permits(), 0);
        assert_eq!(seats.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        assert!(!tries(seats.clone(), 1).await.unwrap());
        drop(one);
        assert_eq!(seats.available_permits(), 1);
        assert!(tries(seats.clone(), 1).await.unwrap());
        assert!(!tries(seats.clone(), 2).await.unwrap());
        drop(other);
        assert_eq!(seats.available_permits(), 2);
        seats.add_permits(3).unwrap();
        assert_eq!(seats.available_permits(), 5);
        assert!(tries(seats.clone(), 5).await.unwrap());
        assert_eq!(seats.available_permits(), 5);
    }

    /// SY07: what is given back is what was taken, and no more than can be.
    async fn sy07_bounds() {
        let all = Semaphore::MAX_PERMITS;
        let seats = Semaphore::new(all).unwrap();
        assert_eq!(Semaphore::new(all + 1).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        seats.add_permits(0).unwrap();
        seats.add_permits(1).unwrap_err();
        seats.add_permits(usize::MAX).unwrap_err();
        let permits = seats.acquire_many(all as u32).await.unwrap();
        assert_eq!((permits.num_permits(), seats.available_permits()), (all, 0));
        // Those that are taken come back: there is no room for others.
        seats.add_permits(1).unwrap_err();
        drop(permits);
        assert_eq!(seats.available_permits(), all);
        in_time(seats.acquire_many(all as u32 + 1)).await.unwrap_err();
        let error = seats.try_acquire_many(u32::MAX).unwrap_err();
        assert!(matches!(error, TryAcquireError::TooMany(_)), "{error}");
        assert_eq!(seats.available_permits(), all);
    }

    /// Never more than there are permits, in several processes, and each gets its turn.
    async fn no_more_than_there_are() {
        let region = Region::with_capacity(4096).unwrap();
        let seats = Semaphore::new_in(&region, 2).unwrap();
        let inside = Inside::new_in(&region, [0, 0]).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..4 {
            set.spawn(goes_in_and_out(seats.clone(), inside.clone(), 500)).await.unwrap();
        }
        while let Some(ended) = in_time(set.join_next()).await {
            ended.unwrap().unwrap();
        }
        let [inside, most] = *inside.lock().await.unwrap();
        assert!(inside == 0 && most <= 2, "{inside}, {most}");
        assert_eq!(seats.available_permits(), 2);
    }

    /// Plain functions take permits too.
    async fn plain_functions() {
        let seats = Semaphore::new(2).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..3 {
            set.spawn(takes_plainly(seats.clone(), 500)).await.unwrap();
        }
        while let Some(ended) = in_time(set.join_next()).await {
            ended.unwrap().unwrap();
        }
        assert_eq!(seats.available_permits(), 2);
    }

    /// The permits of one that is killed come to those that wait, here and elsewhere.
    async fn killed_while_others_wait() {
        let seats = Semaphore::new(3).unwrap();
        let child = keeper(&seats, 3).await;
        let (told, mut is_told) = simplex().unwrap();
        let elsewhere = parks(seats.clone(), told).spawn().await.unwrap();
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(false));
        let (one, other) = (seats.acquire(), seats.clone().acquire_owned());
        tokio::pin!(one, other);
        assert!(futures::poll!(&mut one).is_pending() && futures::poll!(&mut other).is_pending());
        kill(child).await;
        let (one, other) = in_time(futures::future::join(one, other)).await;
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(true));
        in_time(elsewhere).await.unwrap().unwrap();
        drop((one, other));
        assert_eq!(seats.available_permits(), 3);
    }

    /// Where nobody waits, nobody watches: who tries finds the permits of the dead all the same.
    async fn killed_while_nobody_waits() {
        let seats = Semaphore::new(2).unwrap();
        let child = keeper(&seats, 2).await;
        assert_eq!(seats.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        kill(child).await;
        assert_eq!(seats.try_acquire_many(2).unwrap().num_permits(), 2);
        let child = keeper(&seats, 1).await;
        assert_eq!(seats.available_permits(), 1);
        kill(child).await;
        assert_eq!(seats.available_permits(), 2);
    }

    /// Who gets the slot of a dead one has none of its permits.
    async fn killed_one_after_another() {
        let seats = Semaphore::new(1).unwrap();
        for _ in 0..5 {
            let child = keeper(&seats, 1).await;
            kill(child).await;
        }
        assert_eq!(seats.available_permits(), 1);
    }

    /// A process that ends without a drop.
    async fn exits_with_a_permit() {
        let seats = Semaphore::new(1).unwrap();
        assert!(exits(seats.clone()).await.is_err());
        drop(in_time(seats.acquire()).await);
        assert_eq!(seats.available_permits(), 1);
    }

    /// A process that lives on, but has no handle any more: its permit goes to those that wait.
    async fn forgotten() {
        let seats = Semaphore::new(1).unwrap();
        let (mut near, far) = pipe().unwrap();
        let child = forgets(seats.clone(), far).spawn().await.unwrap();
        in_time(near.recv()).await.unwrap().unwrap();
        let waits = tokio::spawn(seats.clone().acquire_owned());
        tokio::task::yield_now().await;
        near.send(()).await.unwrap();
        in_time(near.recv()).await.unwrap().unwrap();
        drop(in_time(waits).await.unwrap());
        assert_eq!(seats.available_permits(), 1);
        kill(child).await;
    }

    /// Many at once: none of them before all are there, and who wants fewer does not wait behind.
    async fn many_at_once() {
        let seats = Semaphore::new(2).unwrap();
        let (one, other) = (seats.acquire().await, seats.acquire().await);
        let many = seats.acquire_many(3);
        tokio::pin!(many);
        assert!(futures::poll!(&mut many).is_pending());
        let few = seats.acquire();
        tokio::pin!(few);
        assert!(futures::poll!(&mut few).is_pending());
        drop(one);
        let few = in_time(futures::future::select(few, &mut many)).await;
        let futures::future::Either::Left((few, _)) = few else { panic!("many were there") };
        drop(few);
        assert!(futures::poll!(&mut many).is_pending());
        assert_eq!(seats.available_permits(), 1);
        drop(other);
        assert!(futures::poll!(&mut many).is_pending());
        seats.add_permits(1).unwrap();
        let many: Permit<'_> = in_time(many).await.unwrap();
        assert_eq!((many.num_permits(), seats.available_permits()), (3, 0));
    }

    /// The same for tasks, which are polled only when they are woken.
    async fn few_behind_many() {
        let seats = Semaphore::new(4).unwrap();
        let held = seats.acquire_many(4).await.unwrap();
        let tasks = [9, 8, 7, 2, 2].map(|n| tokio::spawn(seats.clone().acquire_many_owned(n)));
        // This runtime has one thread: they have all begun to wait by the time that this goes on.
        tokio::task::yield_now().await;
        drop(held);
        let [nine, eight, seven, one, other] = tasks;
        let (one, other) = in_time(futures::future::join(one, other)).await;
        assert!(!nine.is_finished() && !eight.is_finished() && !seven.is_finished());
        drop((one.unwrap().unwrap(), other.unwrap().unwrap()));
        seats.add_permits(5).unwrap();
        for task in [nine, eight, seven] {
            drop(in_time(task).await.unwrap().unwrap());
        }
        assert_eq!(seats.available_permits(), 9);
    }

    /// Who gives up after it was woken leaves the permit to the next.
    async fn woken_and_dropped() {
        let seats = Semaphore::new(1).unwrap();
        let child = keeper(&seats, 1).await;
        let mut first = Box::pin(seats.acquire());
        assert!(futures::poll!(&mut first).is_pending());
        let second = tokio::spawn(seats.clone().acquire_owned());
        tokio::task::yield_now().await;
        seats.add_permits(1).unwrap();
        heard().await;
        drop(first);
        drop(in_time(second).await.unwrap());
        kill(child).await;
        assert_eq!(seats.available_permits(), 2);
    }

    /// A process that is stopped while it waits keeps no permit from the others, and has its turn when it goes on.
    async fn stopped_while_it_waits() {
        let seats = Semaphore::new(1).unwrap();
        let held = seats.acquire().await;
        let (told, mut is_told) = simplex().unwrap();
        let stopped = parks(seats.clone(), told).spawn().await.unwrap();
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(false));
        signal(&stopped, Signal::STOP);
        eventually_async(30 * SECOND, || state(stopped.pid()) == Some('T')).await;
        let (told, mut is_told_too) = simplex().unwrap();
        let other = parks(seats.clone(), told).spawn().await.unwrap();
        assert_eq!(in_time(is_told_too.recv()).await.unwrap(), Some(false));
        drop(held);
        assert_eq!(in_time(is_told_too.recv()).await.unwrap(), Some(true));
        in_time(other).await.unwrap().unwrap();
        assert_eq!(seats.available_permits(), 1);
        signal(&stopped, Signal::CONT);
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(true));
        in_time(stopped).await.unwrap().unwrap();
        assert_eq!(seats.available_permits(), 1);
    }

    /// Through a pipe, one by one.
    async fn through_a_pipe() {
        let (mut near, far) = pipe::<Semaphore, usize>().unwrap();
        let child = passes_on(far).spawn().await.unwrap();
        for n in 1..4 {
            let seats = Semaphore::new(n).unwrap();
            near.send(seats.clone()).await.unwrap();
            assert_eq!(in_time(near.recv()).await.unwrap(), Some(n - 1));
        }
        drop(near);
        in_time(child).await.unwrap().unwrap();
    }

    /// All ways at once, with processes that are killed anywhere in between: in the end all permits are there.
    #[limit(300)]
    async fn hammered_and_killed() {
        let seats = Semaphore::new(3).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..4 {
            set.spawn(hammers(seats.clone(), 20_000)).await.unwrap();
        }
        let (mut done, mut killed) = (0, 0_u64);
        while done < 4 || killed < 150 {
            let seats = seats.clone();
            let victim = spins(seats).spawn().await.unwrap();
            // Anywhere in what it does.
            let moment = Duration::from_micros(killed * 7919 % 10_000);
            tokio::select! {
                ended = set.join_next(), if done < 4 => {
                    assert_eq!(ended.unwrap().unwrap().unwrap(), 20_000);
                    done += 1;
                }
                () = tokio::time::sleep(moment) => {}
            }
            kill(victim).await;
            killed += 1;
        }
        assert_eq!(seats.available_permits(), 3);
    }
}

/// Lets go of a permit when it is told to, and goes on.
#[process]
async fn lets_go(seats: Semaphore, mut pipe: Pipe<(), ()>) -> Result<(), Failure> {
    let permit = seats.acquire().await;
    pipe.send(()).await?;
    pipe.recv().await?;
    drop(permit);
    std::future::pending().await
}

/// Says that its runtime ends.
struct Ends(Option<oneshot::Sender<()>>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.take().map(|ends| ends.send(())).unwrap().unwrap();
    }
}

struct Quiet;

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {}
}

isolated! {
    /// A runtime that ends waits for its blocking threads, and one of them may wait by it.
    async fn who_waits_by_a_runtime_that_ends() {
        let (seats, (mut pipe, theirs)) = (Semaphore::new(1).unwrap(), pipe().unwrap());
        let child = lets_go(seats.clone(), theirs).spawn().await.unwrap();
        in_time(pipe.recv()).await.unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let ((sleeps, asleep), (ends, ending)) = (oneshot::channel(), oneshot::channel());
        let ends = Ends(Some(ends));
        runtime.spawn(async move {
            let _ends = ends;
            std::future::pending::<()>().await;
        });
        let handle = runtime.handle().clone();
        let waits = runtime.spawn_blocking(move || {
            handle.block_on(async {
                let mut taking = pin!(seats.acquire());
                assert!(futures::poll!(taking.as_mut()).is_pending());
                sleeps.send(()).unwrap();
                drop(taking.await);
            });
        });
        in_time(asleep).await.unwrap();
        let dropped = tokio::task::spawn_blocking(move || drop(runtime));
        in_time(ending).await.unwrap();
        pipe.send(()).await.unwrap();
        in_time(dropped).await.unwrap();
        in_time(waits).await.unwrap();
        kill(child).await;
    }

    fn who_gives_up_leaves_its_waker_to_nobody() {
        let (seats, quiet) = (Semaphore::new(0).unwrap(), Arc::new(Quiet));
        let waker = Waker::from(Arc::clone(&quiet));
        for _ in 0..3 {
            let mut taking = pin!(seats.acquire());
            assert!(taking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(waker);
        assert_eq!(Arc::strong_count(&quiet), 1);
    }
}
