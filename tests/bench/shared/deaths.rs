//! How long it takes after the death of an owner until the next one has the lock.

use std::io;
use std::time::{Duration, Instant};

use procession::shared::Mutex;
use procession::{Failure, Pipe, Process, pipe, process};
use procession_bench::limit;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Locks, says so, and stays.
#[process]
async fn keeps(lock: Mutex<u64>, mut pipe: Pipe<u64, ()>) -> Result<(), Failure> {
    let _guard = lock.lock().await?;
    pipe.send(1).await?;
    std::future::pending().await
}

/// Kills so many owners; gives the times, in order, until the next one had the lock, and until the pidfd of another that was
/// killed in turns with them was readable.
pub(super) async fn kill(count: usize) -> io::Result<[Vec<Duration>; 2]> {
    let lock = Mutex::new(0)?;
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut owner = owner(&lock).await?;
        let mut next = std::pin::pin!(lock.lock());
        // Polled once, it sleeps, and watches.
        tokio::select! { biased; _ = &mut next => return Err(other("the lock is free")), () = std::future::ready(()) => {} }
        let start = killed(&owner)?;
        let Err(died) = next.await else { return Err(other("the owner has not died")) };
        ours.push(start.elapsed());
        drop(died.recover());
        owner.wait().await.map_err(io::Error::other)?;

        let mut owner = self::owner(&lock).await?;
        let pid = Pid::from_raw(owner.pid().cast_signed()).ok_or_else(|| other("a child has a number"))?;
        let pidfd = limit::watched(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
        let start = killed(&owner)?;
        drop(pidfd.readable().await?);
        limits.push(start.elapsed());
        owner.wait().await.map_err(io::Error::other)?;
        drop(lock.lock().await.map_err(|died| drop(died.recover())));
    }
    ours.sort_unstable();
    limits.sort_unstable();
    Ok([ours, limits])
}

fn other(what: &str) -> io::Error {
    io::Error::other(what)
}

/// A child that has the lock.
async fn owner(lock: &Mutex<u64>) -> io::Result<Process<Result<(), Failure>>> {
    let (mut pipe, theirs) = pipe::<(), u64>()?;
    let child = keeps(lock.clone(), theirs).spawn().await.map_err(io::Error::other)?;
    pipe.recv().await.map_err(io::Error::other)?;
    Ok(child)
}

fn killed(child: &Process<Result<(), Failure>>) -> io::Result<Instant> {
    let start = Instant::now();
    child.signaler().kill()?;
    Ok(start)
}
