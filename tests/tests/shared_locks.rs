//! Locks in shared memory: SY01 to SY04, F5, requirements 26 and 28.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "libtest captures it, and shows it where the test fails")]

use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::{FutureExt, poll};
use nix::libc;
use procession::pipe::{Receiver, Sender};
use procession::shared::{Barrier, Condvar, Event, Mutex, Region, RwLock, Semaphore, TryLockError};
use procession::{Failure, Process, ProcessSet, process, simplex};
use procession_tests::{eventually, eventually_async, in_time, isolated, state, warm_up};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

fn send(to: u32, signal: Signal) {
    kill_process(Pid::from_raw(to.cast_signed()).unwrap(), signal).unwrap();
}

fn is_locked(lock: &Mutex<u64>) -> bool {
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

/// That a process has it.
async fn owned_by(lock: &Mutex<u64>, process: &Process<impl Sized>) {
    eventually_async(20 * SECOND, || lock.owner() == Some(process.pid())).await;
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Woken {
    fn poll<F: Future + ?Sized>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }

    fn times(&self) -> usize {
        self.0.load(SeqCst)
    }
}

#[process]
async fn adds(total: Mutex<u64>, times: u32) -> Result<(), Failure> {
    for _ in 0..times {
        *total.lock().await? += 1;
    }
    Ok(())
}

#[process]
fn adds_blocking(total: Mutex<u64>, times: u32) -> Result<(), Failure> {
    for _ in 0..times {
        *total.blocking_lock()? += 1;
    }
    Ok(())
}

#[process]
async fn keeps(total: Mutex<u64>) -> Result<(), Failure> {
    let mut guard = total.lock().await?;
    *guard += 100;
    std::future::pending::<()>().await;
    Ok(())
}

/// Keeps it until it is told to go on.
#[process]
async fn keeps_until_told(total: Mutex<u64>, mut told: Receiver<()>) -> Result<(), Failure> {
    let mut guard = total.lock().await?;
    told.recv().await?;
    *guard += 100;
    Ok(())
}

/// The same, and then it is there until it is told so once more: its end would be heard of, whoever hears no wake-up.
#[process]
async fn keeps_until_told_and_stays(total: Mutex<u64>, mut told: Receiver<()>) -> Result<(), Failure> {
    let mut guard = total.lock().await?;
    told.recv().await?;
    *guard += 100;
    drop(guard);
    told.recv().await?;
    Ok(())
}

/// Whether it is locked, and by whom, as another process sees it.
#[process]
fn looks(total: Mutex<u64>) -> (bool, Option<u32>) {
    (is_locked(&total), total.owner())
}

#[process]
async fn has_it_within(total: Mutex<u64>, limit: Duration) -> bool {
    timeout(limit, total.lock()).await.is_ok()
}

#[process]
async fn panics_inside(total: Mutex<u64>) -> Result<(), Failure> {
    let mut guard = total.lock().await?;
    *guard += 100;
    panic!("as it was told to");
}

#[process]
#[expect(clippy::exit, reason = "the test is about it")]
fn exits_inside(total: Mutex<u64>) {
    let mut guard = total.blocking_lock().unwrap();
    *guard += 100;
    std::process::exit(0);
}

/// Becomes another program.
#[process]
fn becomes_another_inside(total: Mutex<u64>) -> String {
    let mut guard = total.blocking_lock().unwrap();
    *guard += 100;
    Command::new("sleep").arg("1000").exec().to_string()
}

/// Adds one. A fork of it has a copy of the guard, drops that, and looks: what it sees.
#[process]
#[expect(unsafe_code, reason = "what a program may do is what the test is about")]
fn forks_inside(total: Mutex<u64>) -> i32 {
    let mut guard = total.blocking_lock().unwrap();
    *guard += 1;
    // SAFETY: this process has one thread that takes locks.
    match unsafe { libc::fork() } {
        0 => {
            drop(guard);
            let is_as_before =
                is_locked(&total) && total.owner() == Some(std::os::unix::process::parent_id());
            // SAFETY: nothing of it is to run.
            unsafe { libc::_exit(if is_as_before { 7 } else { 8 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the place is valid, and the child is this one's.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(total.owner(), Some(std::process::id()));
            libc::WEXITSTATUS(status)
        }
    }
}

/// Has a fork of itself wait for the lock, and then for the end of it, and says when it sleeps. Keeps the lock until then, if it is to. What the fork has found: 7, or 8 if the owner had died.
#[process]
#[expect(unsafe_code, reason = "what a program may do is what the test is about")]
fn has_a_fork_wait(total: Mutex<u64>, events: [Event; 2], keeps: bool, mut says: Sender<()>) -> i32 {
    let [has_locked, ends] = events;
    // A fork has no control thread, where this one has one.
    warm_up();
    let guard = keeps.then(|| total.blocking_lock().unwrap());
    // SAFETY: this process has one thread that takes locks, but for those that sleep.
    match unsafe { libc::fork() } {
        0 => {
            let (found, mut locked) = match total.blocking_lock() {
                Ok(guard) => (7, guard),
                Err(died) => (8, died.recover()),
            };
            *locked += 1;
            drop(locked);
            has_locked.set();
            ends.blocking_wait();
            // SAFETY: nothing of it is to run.
            unsafe { libc::_exit(found) }
        }
        child => {
            // Who sleeps there has somebody look in its place, on a thread of its own.
            eventually(20 * SECOND, || threads_of(child.cast_unsigned()) == 2);
            says.blocking_send(()).unwrap();
            drop(guard);
            let mut status = 0;
            // SAFETY: the place is valid, and the child is this one's.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            libc::WEXITSTATUS(status)
        }
    }
}

fn threads_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Has a fork of itself take the lock, says which process that is, and reaps it.
#[process]
#[expect(unsafe_code, reason = "what a program may do is what the test is about")]
fn has_a_fork_keep(total: Mutex<u64>, mut says: Sender<u32>) {
    warm_up();
    // SAFETY: as above.
    match unsafe { libc::fork() } {
        0 => {
            let mut guard = total.blocking_lock().unwrap();
            *guard += 100;
            loop {
                thread::park();
            }
        }
        child => {
            says.blocking_send(child.cast_unsigned()).unwrap();
            // SAFETY: the child is this one's, and nobody wants to know how it ends.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }
}

/// A waker that owns a task, as those of textbook executors do.
struct Owns(std::sync::Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Wake for Owns {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock());
    }
}

isolated! {
    /// SY01, SY04: one has it; who asks is told so; unlocking is dropping.
    async fn sy01_free_and_locked() {
        let total = Mutex::new(5_u64).unwrap();
        let other = total.clone();
        assert_eq!(total.owner(), None);
        let guard = total.lock().await.unwrap();
        assert!(is_locked(&total) && is_locked(&other));
        assert_eq!(other.owner(), Some(std::process::id()));
        assert_eq!(*guard, 5);
        let token = guard.token();
        drop(guard);
        assert_eq!(total.owner(), None);
        let guard = other.try_lock().unwrap();
        assert!(guard.token() > token);
        assert!(is_locked(&total));
    }

    /// SY02: two processes see that it is locked.
    async fn sy02_locked_in_two_processes() {
        let total = Mutex::new(0_u64).unwrap();
        let guard = total.lock().await.unwrap();
        assert_eq!(in_time(looks(total.clone())).await.unwrap(), (true, Some(std::process::id())));
        drop(guard);
        assert_eq!(in_time(looks(total.clone())).await.unwrap(), (false, None));
    }

    /// SY03: a guard unlocks when it is dropped: what was changed is the value, unless it was rolled back.
    async fn sy03_dropped() {
        let total = Mutex::new(0_u64).unwrap();
        *total.lock().await.unwrap() = 1;
        let mut guard = total.lock().await.unwrap();
        *guard = 2;
        guard.rollback();
        assert_eq!(*total.lock().await.unwrap(), 1);
    }

    /// SY03: what a panic leaves half done is not the value, and the lock is free.
    async fn sy03_panic() {
        let total = Mutex::new(7_u64).unwrap();
        let mine = total.clone();
        let task = tokio::spawn(async move {
            let mut guard = mine.lock().await.unwrap();
            *guard = 8;
            panic!("as it was told to");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(*in_time(total.lock()).await.unwrap(), 7);
        in_time(panics_inside(total.clone())).await.unwrap_err();
        assert_eq!(*in_time(total.lock()).await.unwrap(), 7);
    }

    /// SY03: a task that is cancelled while it has the lock, or while it waits for it.
    async fn sy03_cancelled() {
        let total = Mutex::new(7_u64).unwrap();
        let mine = total.clone();
        let holder = tokio::spawn(async move {
            let _guard = mine.lock().await.unwrap();
            std::future::pending::<()>().await;
        });
        eventually_async(20 * SECOND, || is_locked(&total)).await;
        assert!(timeout(Duration::from_millis(5), total.lock()).await.is_err());
        holder.abort();
        assert_eq!(*in_time(total.lock()).await.unwrap(), 7);
        assert!(!is_locked(&total));
    }

    /// Two wait here, and the first one gives up when it is woken: the second one gets it.
    #[once]
    async fn two_wait_and_the_first_is_dropped() {
        let total = Mutex::new(0_u64).unwrap();
        let (first_woken, second_woken) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let guard = total.lock().await.unwrap();
        let (mut first, mut second) = (Box::pin(total.lock()), Box::pin(total.lock()));
        assert!(first_woken.poll(first.as_mut()).is_pending());
        assert!(second_woken.poll(second.as_mut()).is_pending());
        drop(guard);
        // The control: it is the first one's turn alone, until that one is dropped.
        assert_eq!((first_woken.times(), second_woken.times()), (1, 0));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(second_woken.times(), 0);
        drop(first);
        assert_eq!(second_woken.times(), 1);
        assert!(second_woken.poll(second.as_mut()).is_ready());
    }

    /// The same where another process unlocks.
    async fn two_wait_for_another_process_and_the_first_is_dropped() {
        let total = Mutex::new(0_u64).unwrap();
        let (mut tell, told) = simplex().unwrap();
        let mut child = keeps_until_told(total.clone(), told).spawn().await.unwrap();
        owned_by(&total, &child).await;
        let (first_woken, second_woken) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let (mut first, mut second) = (Box::pin(total.lock()), Box::pin(total.lock()));
        assert!(first_woken.poll(first.as_mut()).is_pending());
        assert!(second_woken.poll(second.as_mut()).is_pending());
        tell.send(()).await.unwrap();
        // The first one may have been woken for another reason before: then it has its turn already.
        eventually_async(20 * SECOND, || first_woken.times() > 0 && total.owner().is_none()).await;
        assert_eq!(second_woken.times(), 0);
        drop(first);
        assert_eq!(second_woken.times(), 1);
        let Poll::Ready(guard) = second_woken.poll(second.as_mut()) else { panic!("it is free") };
        assert_eq!(*guard.unwrap(), 100);
        in_time(child.join()).await.unwrap().unwrap();
    }

    /// 26: the next one is told within milliseconds that an owner has died; how many is said, and not asserted.
    async fn rr26_death_of_the_owner() {
        let total = Mutex::new(5_u64).unwrap();
        let mut took = Vec::new();
        for _ in 0..20 {
            let mut child = keeps(total.clone()).spawn().await.unwrap();
            owned_by(&total, &child).await;
            let mut waiting = Box::pin(total.lock());
            assert!(poll!(&mut waiting).is_pending());
            let began = Instant::now();
            child.signaler().kill().unwrap();
            let died = in_time(waiting).await.unwrap_err();
            took.push(began.elapsed());
            assert_eq!(*died.recover(), 5);
            child.wait().await.unwrap();
        }
        took.sort();
        println!("from a death to the next owner: {:?} in the middle, {:?} at most", took[10], took[19]);
    }

    /// 28: an owner that is stopped is not dead: nobody enters, however long it takes.
    async fn rr28_stopped_owner() {
        let total = Mutex::new(5_u64).unwrap();
        let (mut tell, told) = simplex().unwrap();
        let mut child = keeps_until_told(total.clone(), told).spawn().await.unwrap();
        owned_by(&total, &child).await;
        send(child.pid(), Signal::STOP);
        eventually_async(20 * SECOND, || state(child.pid()) == Some('T')).await;
        tell.send(()).await.unwrap();
        let limit = Duration::from_millis(300);
        let (other, here) = tokio::join!(has_it_within(total.clone(), limit), timeout(limit, total.lock()));
        assert!(!other.unwrap() && here.is_err() && is_locked(&total));
        assert_eq!(total.owner(), Some(child.pid()));
        send(child.pid(), Signal::CONT);
        assert_eq!(*in_time(total.lock()).await.unwrap(), 105);
        in_time(child.join()).await.unwrap().unwrap();
    }

    /// A guard is kept across waits, and goes from thread to thread with its task.
    #[threads(2)]
    async fn a_guard_across_waits() {
        fn is_send<T: Send>(value: T) -> T { value }
        let total = Mutex::new(0_u64).unwrap();
        let tasks = (0..4).map(|_| {
            let total = total.clone();
            tokio::spawn(is_send(async move {
                for _ in 0..100 {
                    let mut guard = total.lock().await.unwrap();
                    let before = *guard;
                    tokio::task::yield_now().await;
                    *guard = before + 1;
                }
            }))
        });
        in_time(futures::future::try_join_all(tasks)).await.unwrap();
        assert_eq!(*total.lock().await.unwrap(), 400);
    }

    /// `try_lock` finds out by itself that the owner has died; and until somebody says that the value is right, all are told.
    async fn try_lock_after_a_death() {
        let total = Mutex::new(5_u64).unwrap();
        let mut child = keeps(total.clone()).spawn().await.unwrap();
        owned_by(&total, &child).await;
        assert!(is_locked(&total));
        child.kill().await.unwrap();
        for _ in 0..3 {
            assert!(matches!(total.try_lock(), Err(TryLockError::OwnerDied(died)) if **died.guard() == 5));
        }
        let Err(TryLockError::OwnerDied(died)) = total.try_lock() else { panic!("nobody has recovered it") };
        *died.recover() = 6;
        assert_eq!(*total.try_lock().unwrap(), 6);
    }

    /// The same in another process, which drops what it is told.
    async fn owner_died_is_told_to_each() {
        let total = Mutex::new(5_u64).unwrap();
        let mut child = keeps(total.clone()).spawn().await.unwrap();
        owned_by(&total, &child).await;
        child.kill().await.unwrap();
        let error = in_time(adds(total.clone(), 1)).await.unwrap().unwrap_err();
        assert!(format!("{error:?}").contains("a process died while it had the lock"), "{error:?}");
        assert_eq!(*in_time(total.lock()).await.unwrap_err().recover(), 5);
        in_time(adds(total.clone(), 1)).await.unwrap().unwrap();
        assert_eq!(*total.lock().await.unwrap(), 6);
    }

    /// In plain functions, and beside async ones.
    async fn blocking_lock_in_plain_functions() {
        let total = Mutex::new(0_u64).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..2 {
            set.spawn(adds_blocking(total.clone(), 1000)).await.unwrap();
            set.spawn(adds(total.clone(), 1000)).await.unwrap();
        }
        while let Some(ended) = in_time(set.join_next()).await {
            ended.unwrap().unwrap();
        }
        assert_eq!(*total.lock().await.unwrap(), 4000);
    }

    /// In a program without a runtime, whose child has the lock and dies.
    fn without_a_runtime() {
        let total = Mutex::new(5_u64).unwrap();
        exits_inside(total.clone()).blocking().unwrap_err();
        assert_eq!(*total.blocking_lock().unwrap_err().recover(), 5);
        let waits = {
            let total = total.clone();
            thread::spawn(move || adds_blocking(total, 100).blocking().unwrap())
        };
        for _ in 0..100 {
            *total.blocking_lock().unwrap() += 1;
        }
        waits.join().unwrap().unwrap();
        assert_eq!(*total.blocking_lock().unwrap(), 205);
    }

    /// Several runtimes of one process wait, and some threads that have none; another process has it.
    fn several_runtimes() {
        let total = Mutex::new(0_u64).unwrap();
        let (mut tell, told) = simplex().unwrap();
        let here = runtime();
        let mut child = here.block_on(keeps_until_told(total.clone(), told).spawn()).unwrap();
        here.block_on(owned_by(&total, &child));
        let (waits, waiting) = std::sync::mpsc::channel();
        let threads: Vec<_> = (0..6).map(|n| {
            let (total, waits) = (total.clone(), waits.clone());
            let adds = async move {
                let mut lock = Box::pin(total.lock());
                assert!(poll!(&mut lock).is_pending());
                waits.send(()).unwrap();
                *lock.await.unwrap() += 1;
            };
            thread::spawn(move || match n % 2 {
                0 => runtime().block_on(adds),
                _ => futures::executor::block_on(adds),
            })
        }).collect();
        (0..6).for_each(|_| waiting.recv().unwrap());
        here.block_on(tell.send(())).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*total.blocking_lock().unwrap(), 106);
        here.block_on(in_time(child.join())).unwrap().unwrap();
    }

    /// A runtime ends while somebody waits in it: the others still hear of it, and a wait may go on in another runtime.
    fn a_runtime_ends() {
        let total = Mutex::new(0_u64).unwrap();
        let (mut tell, told) = simplex().unwrap();
        let here = runtime();
        let mut child = here.block_on(keeps_until_told(total.clone(), told).spawn()).unwrap();
        here.block_on(owned_by(&total, &child));
        let (ended, mine, mut moves) = (runtime(), total.clone(), Box::pin(total.lock()));
        let (waits, waiting) = tokio::sync::oneshot::channel();
        drop(ended.spawn(async move {
            let mut lock = Box::pin(mine.lock());
            assert!(poll!(&mut lock).is_pending());
            waits.send(()).unwrap();
            drop(lock.await);
        }));
        ended.block_on(async {
            waiting.await.unwrap();
            assert!(poll!(&mut moves).is_pending());
        });
        drop(ended);
        let waits = async {
            assert!(poll!(&mut moves).is_pending());
            tell.send(()).await.unwrap();
            assert_eq!(*moves.await.unwrap(), 100);
        };
        here.block_on(in_time(waits));
        here.block_on(in_time(child.join())).unwrap().unwrap();
    }

    /// Who waits in a runtime that nobody drives holds up nobody in another, and gets its turn when it is driven again.
    fn a_runtime_that_stands_still() {
        let total = Mutex::new(0_u64).unwrap();
        let (mut tell, told) = simplex().unwrap();
        let (here, still) = (runtime(), runtime());
        let mut child = here.block_on(keeps_until_told(total.clone(), told).spawn()).unwrap();
        here.block_on(owned_by(&total, &child));
        let mut first = Box::pin(total.lock());
        still.block_on(async { assert!(poll!(&mut first).is_pending()) });
        here.block_on(in_time(async {
            let mut other = adds(total.clone(), 100).spawn().await.unwrap();
            let mut second = Box::pin(total.lock());
            assert!(poll!(&mut second).is_pending());
            tell.send(()).await.unwrap();
            other.join().await.unwrap().unwrap();
            assert_eq!(*second.await.unwrap(), 200);
            child.join().await.unwrap().unwrap();
        }));
        assert_eq!(*still.block_on(in_time(first)).unwrap(), 200);
    }

    /// Each runtime in which somebody waits hears by itself, whichever was the first to wait: nobody ends or joins, which all would hear of.
    fn each_runtime_hears_by_itself() {
        let total = Mutex::new(0_u64).unwrap();
        let (mut tell, told) = simplex().unwrap();
        let (here, still, ended) = (runtime(), runtime(), runtime());
        let mut child = here.block_on(keeps_until_told_and_stays(total.clone(), told).spawn()).unwrap();
        here.block_on(owned_by(&total, &child));
        let (mut first, mut second, mut third) = (Box::pin(total.lock()), Box::pin(total.lock()), Box::pin(total.lock()));
        let woken = Arc::new(Woken::default());
        ended.block_on(async { assert!(woken.poll(first.as_mut()).is_pending()) });
        // The first that waits begins to watch for deaths, which has all look once more: from then on a wake-up alone does.
        eventually(20 * SECOND, || woken.times() > 0);
        drop((ended, first));
        still.block_on(async { assert!(poll!(&mut second).is_pending()) });
        here.block_on(in_time(async {
            assert!(poll!(&mut third).is_pending());
            tell.send(()).await.unwrap();
            assert_eq!(*third.await.unwrap(), 100);
        }));
        assert_eq!(*still.block_on(in_time(second)).unwrap(), 100);
        here.block_on(in_time(async {
            tell.send(()).await.unwrap();
            child.join().await.unwrap().unwrap();
        }));
    }

    /// Who gives up is forgotten: nothing of its task is kept, and nobody wakes it.
    #[once]
    async fn who_gives_up_is_forgotten() {
        let (mutex, semaphore, lock) = (Mutex::new(0_u64).unwrap(), Semaphore::new(0).unwrap(), RwLock::new(0_u64).unwrap());
        let (event, barrier, condvar) = (Event::new().unwrap(), Barrier::new(2).unwrap(), Condvar::new().unwrap());
        let notified = Mutex::new(0_u64).unwrap();
        let (guard, write) = (mutex.lock().await.unwrap(), lock.write().await.unwrap());
        let woken = Arc::new(Woken::default());
        let poll = |future: Pin<Box<dyn Future<Output = ()> + '_>>| {
            let (mut future, before) = (future, woken.times());
            assert!(woken.poll(future.as_mut()).is_pending());
            let is_kept = Arc::strong_count(&woken) > 1;
            assert!(is_kept || woken.times() > before, "the control: it is kept until it is woken");
            drop(future);
            // Who wakes it at this moment has it a moment longer.
            eventually(20 * SECOND, || Arc::strong_count(&woken) == 1);
        };
        poll(Box::pin(mutex.lock().map(drop)));
        poll(Box::pin(semaphore.acquire().map(drop)));
        poll(Box::pin(lock.read().map(drop)));
        poll(Box::pin(lock.write().map(drop)));
        poll(Box::pin(event.wait()));
        poll(Box::pin(condvar.wait(notified.lock().await.unwrap()).map(drop)));
        poll(Box::pin(barrier.wait().map(drop)));
        let before = woken.times();
        drop((guard, write));
        event.set();
        condvar.notify_all();
        semaphore.add_permits(1).unwrap();
        assert_eq!(woken.times(), before);
        // Nor does any of them stand before those that come later.
        drop((in_time(mutex.lock()).await, in_time(semaphore.acquire()).await, in_time(lock.write()).await));
    }

    /// Who always gets what it wants gives way now and then, as with tokio's own types: time-outs hold.
    #[once]
    async fn gives_way() {
        let (mutex, semaphore, lock) = (Mutex::new(0_u64).unwrap(), Semaphore::new(1).unwrap(), RwLock::new(0_u64).unwrap());
        let short = Duration::from_millis(50);
        let greedy = async {
            loop {
                *mutex.lock().await.unwrap() += 1;
            }
        };
        timeout(short, greedy).await.unwrap_err();
        timeout(short, async { loop { drop(semaphore.acquire().await) } }).await.unwrap_err();
        timeout(short, async { loop { drop(lock.read().await) } }).await.unwrap_err();
    }

    /// Those of a runtime have their turn in the order in which they asked, also if one asks again at once.
    #[once]
    async fn in_the_order_of_asking() {
        let mutex = Mutex::new(0_u64).unwrap();
        let first = async {
            for _ in 0..100 {
                let mut guard = mutex.lock().await.unwrap();
                tokio::task::yield_now().await;
                *guard += 1;
            }
        };
        let second = async {
            tokio::task::yield_now().await;
            *mutex.lock().await.unwrap()
        };
        let ((), came_after) = tokio::join!(first, second);
        assert!(came_after < 5, "{came_after}");
    }

    /// A waker may own a task that waits here too, and so come back when it is dropped.
    #[once]
    fn wakers_that_come_back() {
        for is_dropped in [false, true] {
            let mutex = Mutex::new(0_u64).unwrap();
            let guard = mutex.try_lock().unwrap();
            let clone = mutex.clone();
            let mut inner: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(async move { drop(clone.lock().await) });
            assert!(inner.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let task = Waker::from(Arc::new(Owns(std::sync::Mutex::new(inner))));
            let mut outer = Box::pin(mutex.lock());
            assert!(outer.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
            drop(task);
            if !is_dropped {
                assert!(outer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            drop(outer);
            drop(guard);
            drop(mutex.try_lock().unwrap());
        }
    }

    /// A guard that is made while a panic is on its way is not of what has panicked: it commits.
    #[once]
    fn commits_while_unwinding() {
        struct Counts(Mutex<u64>);
        impl Drop for Counts {
            fn drop(&mut self) {
                *self.0.try_lock().unwrap() += 1;
            }
        }
        let mutex = Mutex::new(0_u64).unwrap();
        let counts = Counts(mutex.clone());
        let panics = move || {
            let _counts = counts;
            panic!("as it should");
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err();
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    }

    /// Blocking the only thread of a runtime does not keep the wake-up away.
    #[once]
    async fn blocking_in_a_runtime() {
        let mutex = Mutex::new(0_u64).unwrap();
        let (mut tell, told) = simplex().unwrap();
        let mut child = keeps_until_told_and_stays(mutex.clone(), told).spawn().await.unwrap();
        owned_by(&mutex, &child).await;
        // Most likely when this thread is blocked.
        let tells = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            tell.blocking_send(()).unwrap();
            tell
        });
        assert_eq!(*mutex.blocking_lock().unwrap(), 100);
        drop(tells.join().unwrap());
        child.join().await.unwrap().unwrap();
    }

    /// Twenty processes.
    async fn twenty_processes() {
        let total = Mutex::new(0_u64).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..20 {
            set.spawn(adds(total.clone(), 200)).await.unwrap();
        }
        while let Some(ended) = set.join_next().await {
            ended.unwrap().unwrap();
        }
        assert_eq!(*in_time(total.lock()).await.unwrap(), 4000);
    }

    /// 25: sixteen processes want it, and are killed one after the other, with it and without it: one has it at a time, with
    /// the value that was committed last and a higher token than all before, and nobody waits in vain. `.ci/chaos` kills more.
    #[limit(180)]
    fn rr25_random_kills() {
        let number = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
        let seed = number("PROCESSION_SEED").unwrap_or_else(|| std::process::id().into());
        println!("PROCESSION_SEED={seed}");
        let root = Command::new(env!("CARGO_BIN_EXE_root")).args(["locks", "200", &seed.to_string()]).output();
        let root = root.unwrap();
        println!("{}", String::from_utf8_lossy(&root.stdout));
        assert!(root.status.success(), "{}", String::from_utf8_lossy(&root.stderr));
    }

    /// A fork that the program makes by itself has a copy of the guard, and not the lock.
    async fn a_fork_with_a_guard() {
        let total = Mutex::new(0_u64).unwrap();
        assert_eq!(in_time(forks_inside(total.clone())).await.unwrap(), 7);
        assert_eq!(*in_time(total.lock()).await.unwrap(), 1);
    }

    /// A fork waits: for what the process has of which it is one; for what another has; and for one that dies. It has no
    /// control thread, and looks by turns.
    #[limit(120)]
    async fn a_fork_that_waits() {
        for (keeps, dies) in [(true, false), (false, false), (false, true)] {
            let total = Mutex::new(5_u64).unwrap();
            let [has_locked, ends] = [(); 2].map(|()| Event::new().unwrap());
            let (mut tell, told) = simplex().unwrap();
            let mut owner = if keeps {
                None
            } else {
                let child = keeps_until_told(total.clone(), told).spawn().await.unwrap();
                owned_by(&total, &child).await;
                Some(child)
            };
            let (says, mut said) = simplex().unwrap();
            let mut child = has_a_fork_wait(total.clone(), [has_locked.clone(), ends.clone()], keeps, says).spawn().await.unwrap();
            in_time(said.recv()).await.unwrap().unwrap();
            match &mut owner {
                Some(owner) if dies => drop(in_time(owner.kill()).await),
                Some(owner) => {
                    tell.send(()).await.unwrap();
                    in_time(owner.join()).await.unwrap().unwrap();
                }
                None => {}
            }
            // Nobody looks at the lock until then: who does so finds the dead for all.
            in_time(has_locked.wait()).await;
            ends.set();
            assert_eq!(in_time(child.join()).await.unwrap(), if dies { 8 } else { 7 });
            assert_eq!(*total.try_lock().unwrap(), if keeps || dies { 6 } else { 106 });
        }
    }

    /// A fork that is killed while it has the lock has died with it, as any other process.
    async fn a_fork_is_killed_with_a_guard() {
        let total = Mutex::new(5_u64).unwrap();
        let (says, mut said) = simplex().unwrap();
        let mut child = has_a_fork_keep(total.clone(), says).spawn().await.unwrap();
        let fork = in_time(said.recv()).await.unwrap().unwrap();
        eventually_async(20 * SECOND, || total.owner() == Some(fork)).await;
        let mut waiting = Box::pin(total.lock());
        assert!(poll!(&mut waiting).is_pending());
        send(fork, Signal::KILL);
        assert_eq!(*in_time(waiting).await.unwrap_err().recover(), 5);
        in_time(child.join()).await.unwrap();
    }

    /// A process that leaves with the lock has died with it.
    async fn exit_with_a_guard() {
        let total = Mutex::new(5_u64).unwrap();
        in_time(exits_inside(total.clone())).await.unwrap_err();
        assert_eq!(*in_time(total.lock()).await.unwrap_err().recover(), 5);
    }

    /// So has one that has become another program, as soon as that ends.
    async fn exec_with_a_guard() {
        let total = Mutex::new(5_u64).unwrap();
        let mut child = becomes_another_inside(total.clone()).spawn().await.unwrap();
        owned_by(&total, &child).await;
        drop(child.kill().await);
        assert_eq!(*in_time(total.lock()).await.unwrap_err().recover(), 5);
    }

    /// Increments of several processes: none is lost.
    async fn sy01_increments() {
        let total = Mutex::new(0_u64).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..4 {
            set.spawn(adds(total.clone(), 20_000)).await.unwrap();
        }
        while let Some(ended) = set.join_next().await {
            ended.unwrap().unwrap();
        }
        assert_eq!(*total.lock().await.unwrap(), 80_000);
    }

    /// The owner is killed: the next one gets the last committed value.
    async fn f05_owner_killed() {
        let total = Mutex::new(5_u64).unwrap();
        let mut child = keeps(total.clone()).spawn().await.unwrap();
        while total.owner() != Some(child.pid()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = total.lock();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        child.signaler().kill().unwrap();
        let died = waiting.await.unwrap_err();
        assert_eq!(**died.guard(), 5);
        drop(died);
        drop(total.lock().await.unwrap_err().recover());
        assert_eq!(*total.lock().await.unwrap(), 5);
        child.wait().await.unwrap();
    }

    /// 500 locks in one message.
    async fn many_in_one_region() {
        let region = Region::with_capacity(500 * Mutex::<u64>::size_in_region()).unwrap();
        let locks: Vec<_> = (0..500).map(|n| Mutex::new_in(&region, n).unwrap()).collect();
        drop(region);
        let mut set = ProcessSet::new();
        for _ in 0..2 {
            set.spawn(adds_to_all(locks.clone())).await.unwrap();
        }
        while let Some(ended) = set.join_next().await {
            ended.unwrap().unwrap();
        }
        for (n, lock) in locks.iter().enumerate() {
            assert_eq!(*lock.lock().await.unwrap(), n as u64 + 2);
        }
    }
}

#[process]
async fn adds_to_all(locks: Vec<Mutex<u64>>) -> Result<(), Failure> {
    for lock in &locks {
        *lock.lock().await? += 1;
    }
    Ok(())
}
