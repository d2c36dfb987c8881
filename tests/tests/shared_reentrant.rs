//! The lock that its owner locks again: Python's `RLock`, SY03 and SY04.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use futures::poll;
use procession::pipe::{Receiver, Sender};
use procession::shared::{ReentrantGuard, ReentrantMutex, Region, TryLockError};
use procession::{Failure, Process, process, simplex};
use procession_tests::{eventually_async, in_time, isolated};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

fn is_locked(lock: &ReentrantMutex<u64>) -> bool {
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

/// Locks again and again until there are so many guards, each of the one before.
fn reentered<'a>(guard: ReentrantGuard<'a, u64>, depth: usize) -> Vec<ReentrantGuard<'a, u64>> {
    let mut guards = vec![guard];
    while guards.len() < depth {
        guards.push(guards[guards.len() - 1].reenter());
    }
    guards
}

/// A function that locks by itself what its caller has locked.
fn add(total: &ReentrantGuard<'_, u64>, left: u64) {
    let total = total.reenter();
    total.set(total.get() + 1);
    if left > 1 {
        add(&total, left - 1);
    }
}

#[process]
async fn adds(total: ReentrantMutex<u64>, times: u64) -> Result<(), Failure> {
    for _ in 0..times {
        add(&total.lock().await?, 3);
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[process]
fn adds_plainly(total: ReentrantMutex<u64>, times: u64) -> Result<(), Failure> {
    for _ in 0..times {
        add(&total.blocking_lock().unwrap(), 3);
    }
    Ok(())
}

/// Says whether it has to wait, and then takes ten times what it finds.
#[process]
async fn waits(total: ReentrantMutex<u64>, mut says: Sender<bool>) -> Result<usize, Failure> {
    let mut waiting = Box::pin(total.lock());
    let is_free = poll!(&mut waiting).is_ready();
    says.send(!is_free).await?;
    let guard = waiting.await?;
    guard.set(guard.get() * 10);
    Ok(guard.depth())
}

/// Locks several times, changes the value by each guard, and keeps them.
#[process]
async fn keeps(total: ReentrantMutex<u64>, mut says: Sender<usize>) -> Result<(), Failure> {
    let guards = reentered(total.lock().await?, 4);
    guards.iter().for_each(|guard| guard.set(guard.get() + 100));
    says.send(guards[0].depth()).await?;
    std::future::pending::<()>().await;
    Ok(())
}

/// A process that has it several times.
async fn keeper(total: &ReentrantMutex<u64>) -> Process<Result<(), Failure>> {
    let (says, mut said) = simplex().unwrap();
    let child = keeps(total.clone(), says).spawn().await.unwrap();
    assert_eq!(in_time(said.recv()).await.unwrap(), Some(4));
    assert_eq!(total.owner(), Some(child.pid()));
    child
}

/// Has it as often as it is told to, and gives one guard back each time that it is told so.
#[process]
async fn gives_back(
    total: ReentrantMutex<u64>,
    depth: usize,
    mut told: Receiver<()>,
    mut says: Sender<usize>,
) -> Result<(), Failure> {
    let mut guards = reentered(total.lock().await?, depth);
    says.send(guards.len()).await?;
    while let Some(guard) = guards.pop() {
        told.recv().await?;
        guard.set(guard.get() + 1);
        drop(guard);
        says.send(guards.len()).await?;
    }
    Ok(())
}

/// A task that waits for it: what it finds, and how often it has it.
async fn waiting_task(total: &ReentrantMutex<u64>) -> JoinHandle<(u64, usize)> {
    let (total, (waits, waiting)) = (total.clone(), oneshot::channel());
    let task = tokio::spawn(async move {
        let mut lock = Box::pin(total.lock());
        assert!(poll!(&mut lock).is_pending());
        waits.send(()).unwrap();
        let guard = lock.await.unwrap();
        (guard.get(), guard.depth())
    });
    waiting.await.unwrap();
    task
}

/// All orders of some numbers.
fn orders(numbers: &[usize]) -> Vec<Vec<usize>> {
    let [first, rest @ ..] = numbers else { return vec![Vec::new()] };
    let with_first = |order: Vec<usize>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, *first);
            order
        })
    };
    orders(rest).into_iter().flat_map(with_first).collect()
}

isolated! {
    /// SY04: four deep, and back in every order: it is locked until the last one is gone, whichever that is.
    #[once]
    async fn sy04_in_any_order() {
        let total = ReentrantMutex::new(0_u64).unwrap();
        let me = Some(std::process::id());
        let mut tokens = 0;
        for order in orders(&[0, 1, 2, 3]) {
            let mut guards: Vec<_> = reentered(total.lock().await.unwrap(), 4).into_iter().map(Some).collect();
            let token = guards[0].as_ref().unwrap().token();
            assert!(token > tokens);
            tokens = token;
            guards[3].as_ref().unwrap().set(0);
            for (before, place) in order.into_iter().enumerate() {
                assert!(is_locked(&total));
                assert_eq!(total.owner(), me);
                let guard = guards[place].take().unwrap();
                assert_eq!((guard.depth(), guard.token()), (4 - before, token));
                // What one has set, all others have.
                assert_eq!(guard.get(), before as u64);
                guard.set(before as u64 + 1);
                assert!(guards.iter().flatten().all(|other| other.get() == before as u64 + 1));
            }
            assert_eq!(total.owner(), None);
            assert_eq!(total.try_lock().unwrap().get(), 4);
            tokens += 1;
        }
    }

    /// SY04: functions that call each other, in several processes: nobody comes between.
    async fn sy04_functions_that_call_each_other() {
        let total = ReentrantMutex::new(0_u64).unwrap();
        let mut one = adds(total.clone(), 300).spawn().await.unwrap();
        let mut other = adds_plainly(total.clone(), 300).spawn().await.unwrap();
        for _ in 0..300 {
            let guard = in_time(total.lock()).await.unwrap();
            let before = guard.get();
            assert_eq!(before % 3, 0);
            add(&guard, 3);
            assert_eq!((guard.get(), guard.depth()), (before + 3, 1));
            drop(guard);
            tokio::task::yield_now().await;
        }
        in_time(one.join()).await.unwrap().unwrap();
        in_time(other.join()).await.unwrap().unwrap();
        assert_eq!(total.lock().await.unwrap().get(), 2700);
    }

    /// Another process waits until the last guard is gone, and finds what that one has left.
    async fn another_process_waits_for_the_last() {
        let total = ReentrantMutex::new(0_u64).unwrap();
        let mut guards = reentered(total.lock().await.unwrap(), 3);
        let (says, mut said) = simplex().unwrap();
        let mut child = waits(total.clone(), says).spawn().await.unwrap();
        assert_eq!(in_time(said.recv()).await.unwrap(), Some(true));
        // The first one first, as whoever has made it may not be the last to need it.
        while !guards.is_empty() {
            let guard = guards.remove(0);
            guard.set(guards.len() as u64 + 7);
            assert_eq!(total.owner(), Some(std::process::id()));
            drop(guard);
            // A chance to come in too early, which takes a moment.
            if !guards.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert_eq!(in_time(child.join()).await.unwrap().unwrap(), 1);
        assert_eq!(in_time(total.lock()).await.unwrap().get(), 70);
    }

    /// The same the other way round: this one waits for the last guard of another process.
    async fn waits_for_the_last_of_another_process() {
        let total = ReentrantMutex::new(0_u64).unwrap();
        let ((mut tell, told), (says, mut said)) = (simplex().unwrap(), simplex().unwrap());
        let mut child = gives_back(total.clone(), 3, told, says).spawn().await.unwrap();
        assert_eq!(in_time(said.recv()).await.unwrap(), Some(3));
        let mut waiting = Box::pin(total.lock());
        for left in [2, 1] {
            tell.send(()).await.unwrap();
            assert_eq!(in_time(said.recv()).await.unwrap(), Some(left));
            assert!(poll!(&mut waiting).is_pending() && is_locked(&total));
        }
        tell.send(()).await.unwrap();
        assert_eq!(in_time(waiting).await.unwrap().get(), 3);
        in_time(child.join()).await.unwrap().unwrap();
    }

    /// The owner is killed when it has locked several times: the next one is told, and has what was committed before.
    async fn killed_while_it_has_it_several_times() {
        let total = ReentrantMutex::new(5_u64).unwrap();
        let child = keeper(&total).await;
        let mut waiting = Box::pin(total.lock());
        assert!(poll!(&mut waiting).is_pending());
        child.signaler().kill().unwrap();
        let died = in_time(waiting).await.unwrap_err();
        assert_eq!((died.guard().get(), died.guard().depth()), (5, 1));
        // Who does not say that it is right leaves it to the next one.
        drop(died);
        let Err(TryLockError::OwnerDied(died)) = total.try_lock() else { panic!("nobody has recovered it") };
        // What is said is so when the last guard is gone, and not before.
        let guard = died.recover();
        let again = guard.reenter();
        guard.set(6);
        drop(guard);
        assert!(is_locked(&total));
        again.set(again.get() + 1);
        drop(again);
        assert_eq!(total.try_lock().unwrap().get(), 7);
        drop(child);
    }

    /// `try_lock` finds out by itself, where nobody waits; so does a plain function.
    async fn killed_while_nobody_waits() {
        let total = ReentrantMutex::new(5_u64).unwrap();
        for blocks in [false, true] {
            keeper(&total).await.kill().await.unwrap();
            let guard = if blocks {
                total.blocking_lock().unwrap_err().recover()
            } else {
                match total.try_lock() {
                    Err(TryLockError::OwnerDied(died)) => died.recover(),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(guard.get(), 5);
        }
        assert_eq!(total.try_lock().unwrap().get(), 5);
    }

    /// Guards are kept across waits, and go from thread to thread with their tasks.
    #[threads(2)]
    async fn guards_across_waits() {
        fn is_send<T: Send>(value: T) -> T { value }
        let total = ReentrantMutex::new(0_u64).unwrap();
        let tasks = (0..4).map(|_| {
            let total = total.clone();
            tokio::spawn(is_send(async move {
                for _ in 0..100 {
                    let guard = total.lock().await.unwrap();
                    let before = guard.get();
                    tokio::task::yield_now().await;
                    let again = guard.reenter();
                    drop(guard);
                    tokio::task::yield_now().await;
                    again.set(before + 1);
                }
            }))
        });
        in_time(futures::future::try_join_all(tasks)).await.unwrap();
        assert_eq!(total.lock().await.unwrap().get(), 400);
    }

    /// Guards of several threads: each counts, the last one unlocks, and no change is lost.
    #[once]
    fn guards_of_several_threads() {
        let total = ReentrantMutex::new(0_u64).unwrap();
        let guard = total.try_lock().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let guard = guard.reenter();
                scope.spawn(move || {
                    for _ in 0..1000 {
                        guard.reenter().update(|total| *total += 1);
                    }
                });
            }
            drop(guard);
        });
        assert_eq!((total.owner(), total.try_lock().unwrap().get()), (None, 4000));
    }

    /// A second `lock` waits, by another task and by the same one: it is guards that lock again.
    #[once]
    async fn a_second_lock_waits() {
        let total = ReentrantMutex::new(0_u64).unwrap();
        let guard = total.lock().await.unwrap();
        assert!(is_locked(&total) && is_locked(&total.clone()));
        let mut same = Box::pin(total.lock());
        assert!(poll!(&mut same).is_pending());
        let task = waiting_task(&total).await;
        let again = guard.reenter();
        drop(guard);
        assert!(poll!(&mut same).is_pending());
        again.set(7);
        drop(again);
        let first = in_time(same).await.unwrap();
        assert_eq!((first.get(), first.depth()), (7, 1));
        assert!(!task.is_finished());
        first.set(8);
        drop(first);
        assert_eq!(in_time(task).await.unwrap(), (8, 1));
    }

    /// SY03: a task that is cancelled when it has it several times, and one that is while it waits.
    async fn sy03_cancelled() {
        let total = ReentrantMutex::new(7_u64).unwrap();
        let mine = total.clone();
        let holder = tokio::spawn(async move {
            let guards = reentered(mine.lock().await.unwrap(), 3);
            guards[1].set(8);
            std::future::pending::<()>().await;
        });
        eventually_async(20 * SECOND, || is_locked(&total)).await;
        timeout(Duration::from_millis(5), total.lock()).await.unwrap_err();
        let mut first = Box::pin(total.lock());
        assert!(poll!(&mut first).is_pending());
        let second = waiting_task(&total).await;
        holder.abort();
        eventually_async(20 * SECOND, || total.owner().is_none()).await;
        // It was the first one's turn.
        drop(first);
        assert_eq!(in_time(second).await.unwrap(), (8, 1));
        assert!(!is_locked(&total));
    }

    /// SY03: what a panic leaves half done is not the value: not by `update`, and not by any guard that it drops.
    #[once]
    async fn sy03_panic() {
        let total = ReentrantMutex::new(7_u64).unwrap();
        let guard = total.lock().await.unwrap();
        let again = guard.reenter();
        let panics = std::panic::AssertUnwindSafe(|| again.update(|total| {
            *total = 9;
            panic!("as it was told to");
        }));
        std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!((guard.get(), guard.update(|total| { *total += 1; *total })), (7, 8));
        drop((guard, again));
        assert_eq!(total.try_lock().unwrap().get(), 8);
        let mine = total.clone();
        let task = tokio::spawn(async move {
            let guards = reentered(mine.lock().await.unwrap(), 3);
            guards[2].set(9);
            panic!("as it was told to");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(in_time(total.lock()).await.unwrap().get(), 8);
    }

    /// The guard of `recover` and that of `lock` are of one type, so that both may come out of one `match`.
    async fn recovered_in_one_match() {
        let total = ReentrantMutex::new(5_u64).unwrap();
        for _ in 0..2 {
            let guard = match in_time(total.lock()).await {
                Ok(guard) => guard,
                Err(died) => died.recover(),
            };
            assert_eq!(guard.reenter().get(), 5);
        }
    }

    /// In a region, beside others, and as they are shown.
    #[once]
    async fn in_a_region() {
        let region = Region::with_capacity(1000).unwrap();
        let (one, other) =
            (ReentrantMutex::new_in(&region, 1_u64).unwrap(), ReentrantMutex::new_in(&region, 2_u64).unwrap());
        let guard = one.lock().await.unwrap();
        assert_eq!(format!("{guard:?}"), "1");
        assert_eq!(format!("{one:?}"), format!("ReentrantMutex {{ owner: Some({}), .. }}", std::process::id()));
        assert!(is_locked(&one) && !is_locked(&other));
        assert_eq!(format!("{other:?}"), "ReentrantMutex { owner: None, .. }");
    }
}
