//! Locks to read and to write, in shared memory.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use procession::pipe::Sender;
use procession::shared::{Mutex, Region, RwLock, Semaphore, TryLockError};
use procession::{Failure, Pipe, Process, ProcessSet, pipe, process, simplex};
use procession_tests::{eventually_async, in_time, isolated, state};
use rustix::process::{Pid, Signal, kill_process};

const SECOND: Duration = Duration::from_secs(1);

/// Two numbers that are equal whenever anybody sees them, and how often they were written.
type Pair = RwLock<[u64; 2]>;

fn signal<T>(process: &Process<T>, signal: Signal) {
    kill_process(Pid::from_raw(process.pid().cast_signed()).unwrap(), signal).unwrap();
}

async fn kill<T>(mut child: Process<T>) {
    signal(&child, Signal::KILL);
    child.wait().await.unwrap();
}

/// Reads, says so, and goes on reading.
#[process]
async fn keeps_reading(pair: Pair, mut told: Sender<[u64; 2]>) -> Result<(), Failure> {
    let guard = pair.read().await?;
    told.send(*guard).await?;
    std::future::pending().await
}

async fn reader(pair: &Pair) -> Process<Result<(), Failure>> {
    let (told, mut is_told) = simplex().unwrap();
    let child = keeps_reading(pair.clone(), told).spawn().await.unwrap();
    in_time(is_told.recv()).await.unwrap().unwrap();
    child
}

/// Writes half of it, says so, and comes no further.
#[process]
async fn keeps_writing(pair: Pair, mut told: Sender<()>) -> Result<(), Failure> {
    let mut guard = pair.write().await?;
    guard[0] += 100;
    told.send(()).await?;
    std::future::pending().await
}

async fn writer(pair: &Pair) -> Process<Result<(), Failure>> {
    let (told, mut is_told) = simplex().unwrap();
    let child = keeps_writing(pair.clone(), told).spawn().await.unwrap();
    in_time(is_told.recv()).await.unwrap().unwrap();
    child
}

/// Says whether it could read at once, and when it can.
#[process]
async fn parks(pair: Pair, mut told: Sender<bool>) -> Result<[u64; 2], Failure> {
    let reading = pair.read();
    tokio::pin!(reading);
    told.send(futures::poll!(&mut reading).is_ready()).await?;
    let value = *reading.await?;
    told.send(true).await?;
    Ok(value)
}

#[process]
async fn writes(pair: Pair, times: u64) -> Result<u64, Failure> {
    let mut token = 0;
    for n in 0..times {
        let mut guard = pair.write().await?;
        assert!(guard.token() > token);
        token = guard.token();
        assert_eq!(guard[0], guard[1]);
        guard[0] += 1;
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
        guard[1] += 1;
        drop(guard);
        // Those that read have their turn.
        tokio::task::yield_now().await;
    }
    Ok(token)
}

#[process]
async fn reads(pair: Pair, times: u64) -> Result<u64, Failure> {
    let mut last = 0;
    for _ in 0..times {
        let guard = pair.read().await?;
        assert_eq!(guard[0], guard[1]);
        assert!(guard[0] >= last);
        last = guard[0];
    }
    Ok(last)
}

#[process]
fn reads_plainly(pair: Pair, times: u64) -> Result<u64, Failure> {
    for _ in 0..times {
        let mut guard = pair.blocking_write()?;
        guard[0] += 1;
        guard[1] += 1;
        drop(guard);
        let guard = pair.blocking_read()?;
        assert_eq!(guard[0], guard[1]);
    }
    Ok(times)
}

/// Whether anybody is inside: +1 for each that reads, -1 for one that writes. Only changed and looked at while inside.
#[process]
async fn goes_inside(lock: RwLock<()>, inside: Mutex<i64>, times: u64) -> Result<(), Failure> {
    for n in 0..times {
        if n % 5 == 0 {
            let _guard = lock.write().await?;
            assert_eq!(std::mem::replace(&mut *inside.lock().await?, -1), 0);
            tokio::task::yield_now().await;
            assert_eq!(std::mem::replace(&mut *inside.lock().await?, 0), -1);
        } else {
            let _guard = lock.read().await?;
            {
                let mut inside = inside.lock().await?;
                assert!(*inside >= 0);
                *inside += 1;
            }
            tokio::task::yield_now().await;
            *inside.lock().await? -= 1;
        }
    }
    Ok(())
}

/// Reads and writes for ever, whatever has become of those before it.
#[process]
async fn goes_on(pair: Pair) -> Result<(), Failure> {
    for n in 0_u64.. {
        if n % 3 == 0 {
            let mut guard = match pair.write().await {
                Ok(guard) => guard,
                Err(died) => died.recover(),
            };
            assert_eq!(guard[0], guard[1]);
            guard[0] += 1;
            guard[1] += 1;
        } else {
            let guard = match pair.read().await {
                Ok(guard) => guard,
                Err(died) => died.recover(),
            };
            assert_eq!(guard[0], guard[1]);
        }
    }
    Ok(())
}

#[process]
async fn answers(mut pipe: Pipe<u64, Pair>) -> Result<(), Failure> {
    while let Some(pair) = pipe.recv().await? {
        pair.write().await?[1] += 1;
        pipe.send(pair.read().await?.iter().sum()).await?;
    }
    Ok(())
}

/// Until this process has heard the bells that it has rung itself: the runtime looks for what has come when it has nothing else to
/// do, as here.
async fn heard() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

isolated! {
    /// Readers of several processes at the same time; a writer comes when the last has gone.
    async fn readers_share() {
        let pair = Pair::new([7, 7]).unwrap();
        let child = reader(&pair).await;
        let here = pair.read().await.unwrap();
        let too = pair.try_read().unwrap();
        assert_eq!((*here, *too), ([7, 7], [7, 7]));
        let mut reading = pair.reading();
        reading.sort_unstable();
        let mut both = vec![std::process::id(), child.pid()];
        both.sort_unstable();
        assert_eq!(reading, both);
        assert!(matches!(pair.try_write(), Err(TryLockError::WouldBlock)));
        assert_eq!(pair.writer(), None);
        drop((here, too));
        assert_eq!(pair.reading(), [child.pid()]);
        assert!(matches!(pair.try_write(), Err(TryLockError::WouldBlock)));
        let writing = pair.write();
        tokio::pin!(writing);
        assert!(futures::poll!(&mut writing).is_pending());
        kill(child).await;
        let mut guard = in_time(writing).await.unwrap();
        *guard = [8, 8];
        assert_eq!((pair.writer(), pair.reading()), (Some(std::process::id()), vec![]));
        assert!(matches!(pair.try_read(), Err(TryLockError::WouldBlock)));
        drop(guard);
        assert_eq!(*pair.try_read().unwrap(), [8, 8]);
    }

    /// What writers do in two steps no reader sees in between, and no write is lost.
    async fn writers_exclude() {
        let pair = Pair::new([0, 0]).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..2 {
            set.spawn(writes(pair.clone(), 3_000)).await.unwrap();
            set.spawn(reads(pair.clone(), 3_000)).await.unwrap();
        }
        let mut most = 0;
        while let Some(ended) = in_time(set.join_next()).await {
            most = most.max(ended.unwrap().unwrap());
        }
        assert_eq!(*pair.read().await.unwrap(), [6_000, 6_000]);
        assert_eq!(most, 6_000, "the last writer's token");
    }

    /// Nobody is inside together with a writer.
    async fn nobody_beside_a_writer() {
        let region = Region::with_capacity(8192).unwrap();
        let lock = RwLock::new_in(&region, ()).unwrap();
        let inside = Mutex::new_in(&region, 0).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..4 {
            set.spawn(goes_inside(lock.clone(), inside.clone(), 500)).await.unwrap();
        }
        while let Some(ended) = in_time(set.join_next()).await {
            ended.unwrap().unwrap();
        }
        assert_eq!(*inside.lock().await.unwrap(), 0);
    }

    /// A writer is killed inside: the next ones get the last committed value, and learn of it, until one says it is right.
    async fn writer_killed() {
        let pair = Pair::new([5, 5]).unwrap();
        let child = writer(&pair).await;
        assert_eq!(pair.writer(), Some(child.pid()));
        assert!(matches!(pair.try_read(), Err(TryLockError::WouldBlock)));
        let (reading, writing) = (pair.read(), pair.write());
        tokio::pin!(reading, writing);
        assert!(futures::poll!(&mut reading).is_pending() && futures::poll!(&mut writing).is_pending());
        kill(child).await;
        let died = in_time(reading).await.unwrap_err();
        assert_eq!(**died.guard(), [5, 5]);
        assert!(futures::poll!(&mut writing).is_pending());
        drop(died);
        let died = in_time(writing).await.unwrap_err();
        assert_eq!(**died.guard(), [5, 5]);
        drop(died);
        assert!(matches!(pair.try_read(), Err(TryLockError::OwnerDied(_))));
        let mut guard = pair.write().await.unwrap_err().recover();
        *guard = [6, 6];
        drop(guard);
        assert_eq!(*pair.read().await.unwrap(), [6, 6]);
    }

    /// Where nobody waits, nobody watches: who tries finds out that the writer is dead. A reader can say that the value is right.
    async fn writer_killed_while_nobody_waits() {
        let pair = Pair::new([5, 5]).unwrap();
        kill(writer(&pair).await).await;
        let Err(TryLockError::OwnerDied(died)) = pair.try_read() else { panic!("its writer died") };
        let guard = died.recover();
        assert_eq!((*guard, *pair.try_read().unwrap()), ([5, 5], [5, 5]));
        assert!(matches!(pair.try_write(), Err(TryLockError::WouldBlock)));
        drop(guard);
        drop(pair.try_write().unwrap());
        kill(writer(&pair).await).await;
        let Err(TryLockError::OwnerDied(died)) = pair.try_write() else { panic!("its writer died") };
        drop(died.recover());
        drop(pair.try_write().unwrap());
    }

    /// A reader is killed inside: it keeps nobody from writing, here or elsewhere, whether they wait or not.
    async fn reader_killed() {
        let pair = Pair::new([0, 0]).unwrap();
        let child = reader(&pair).await;
        assert!(matches!(pair.try_write(), Err(TryLockError::WouldBlock)));
        kill(child).await;
        drop(pair.try_write().unwrap());
        let child = reader(&pair).await;
        let writes = writes(pair.clone(), 1).spawn().await.unwrap();
        eventually_async(30 * SECOND, || pair.writer() == Some(writes.pid())).await;
        kill(child).await;
        in_time(writes).await.unwrap().unwrap();
        assert_eq!(*pair.read().await.unwrap(), [1, 1]);
        // One that reads in the slot of the dead one is one.
        let child = reader(&pair).await;
        assert_eq!(pair.reading(), [child.pid()]);
        kill(child).await;
    }

    /// A writer that waits for readers to go keeps new ones out; when it gives up they come in, here and elsewhere.
    async fn waiting_writer_gives_up() {
        let pair = Pair::new([3, 3]).unwrap();
        let held = pair.read().await.unwrap();
        let mut writing = Box::pin(pair.write());
        assert!(futures::poll!(&mut writing).is_pending());
        assert_eq!(pair.writer(), Some(std::process::id()));
        assert!(matches!(pair.try_read(), Err(TryLockError::WouldBlock)));
        let (told, mut is_told) = simplex().unwrap();
        let elsewhere = parks(pair.clone(), told).spawn().await.unwrap();
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(false));
        let here = pair.read();
        tokio::pin!(here);
        assert!(futures::poll!(&mut here).is_pending());
        drop(writing);
        assert_eq!(*in_time(here).await.unwrap(), [3, 3]);
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(true));
        assert_eq!(in_time(elsewhere).await.unwrap().unwrap(), [3, 3]);
        drop(held);
        drop(pair.try_write().unwrap());
    }

    /// One that is to write gives up before it has its turn: the next one has it.
    async fn waiting_writer_behind_a_writer_gives_up() {
        let pair = Pair::new([0, 0]).unwrap();
        let held = pair.write().await.unwrap();
        let mut first = Box::pin(pair.write());
        assert!(futures::poll!(&mut first).is_pending());
        let other = pair.clone();
        let second = tokio::spawn(async move { *other.write().await.unwrap() = [1, 1] });
        tokio::task::yield_now().await;
        drop(held);
        heard().await;
        drop(first);
        in_time(second).await.unwrap();
        assert_eq!(*pair.read().await.unwrap(), [1, 1]);
    }

    /// A reader that is stopped while it waits keeps no writer out.
    async fn stopped_while_it_waits() {
        let pair = Pair::new([0, 0]).unwrap();
        let held = pair.write().await.unwrap();
        let (told, mut is_told) = simplex().unwrap();
        let stopped = parks(pair.clone(), told).spawn().await.unwrap();
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(false));
        signal(&stopped, Signal::STOP);
        eventually_async(30 * SECOND, || state(stopped.pid()) == Some('T')).await;
        drop(held);
        *in_time(pair.write()).await.unwrap() = [4, 4];
        signal(&stopped, Signal::CONT);
        assert_eq!(in_time(stopped).await.unwrap().unwrap(), [4, 4]);
    }

    /// What a panic leaves half done, or is rolled back, is not committed.
    async fn not_committed() {
        let pair = Pair::new([0, 0]).unwrap();
        let mut guard = pair.write().await.unwrap();
        guard[0] = 1;
        guard.rollback();
        let other = pair.clone();
        let panics = tokio::spawn(async move {
            let mut guard = other.write().await.unwrap();
            guard[0] = 1;
            panic!("half done");
        });
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(*pair.read().await.unwrap(), [0, 0]);
    }

    /// Plain functions.
    async fn plain_functions() {
        let pair = Pair::new([0, 0]).unwrap();
        let mut set = ProcessSet::new();
        for _ in 0..3 {
            set.spawn(reads_plainly(pair.clone(), 300)).await.unwrap();
        }
        while let Some(ended) = in_time(set.join_next()).await {
            ended.unwrap().unwrap();
        }
        assert_eq!(*pair.read().await.unwrap(), [900, 900]);
    }

    /// One of each in one region, through a pipe.
    async fn through_a_pipe() {
        let size = Pair::size_in_region() + Semaphore::size_in_region();
        let region = Region::with_capacity(size).unwrap();
        let pair = Pair::new_in(&region, [1, 1]).unwrap();
        let seats = Semaphore::new_in(&region, 1).unwrap();
        let (mut near, far) = pipe::<Pair, u64>().unwrap();
        let child = answers(far).spawn().await.unwrap();
        for n in 0..3 {
            near.send(pair.clone()).await.unwrap();
            assert_eq!(in_time(near.recv()).await.unwrap(), Some(3 + n));
        }
        drop(near);
        in_time(child).await.unwrap().unwrap();
        assert_eq!((*pair.read().await.unwrap(), seats.available_permits()), ([1, 4], 1));
    }

    /// Processes that are killed anywhere: what is committed is whole, and nobody waits for a dead one.
    #[limit(300)]
    async fn hammered_and_killed() {
        let pair = Pair::new([0, 0]).unwrap();
        let mut living = Vec::new();
        for n in 0..60_u64 {
            living.push(goes_on(pair.clone()).spawn().await.unwrap());
            if living.len() == 4 {
                // Anywhere in what it does.
                tokio::time::sleep(Duration::from_micros(n * 7919 % 20_000)).await;
                let before = pair.read().await.map_or_else(|died| **died.guard(), |guard| *guard);
                kill(living.remove(0)).await;
                // The others go on.
                let mut value = before;
                while value[0] < before[0] + 3 {
                    value = in_time(pair.read()).await.map_or_else(|died| **died.guard(), |guard| *guard);
                    assert_eq!(value[0], value[1]);
                    tokio::task::yield_now().await;
                }
            }
        }
        for child in living {
            kill(child).await;
        }
        drop(in_time(pair.write()).await.unwrap_or_else(|died| died.recover()));
        let value = *pair.try_write().unwrap();
        assert_eq!((value[0], value), (value[1], *pair.try_read().unwrap()));
        assert!(pair.reading().is_empty());
    }
}
