//! The least that tasks can cost: two processes that take them from a queue in shared memory, and two threads that count.
//! Neither would survive a death, nor cancel, nor bound anything but the queue.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use nix::time::ClockId;
use procession::{Failure, process};
use procession_bench::limit::{Queue, SharedQueue};
use procession_bench::{Contender, Peer, same};
use serde::{Deserialize, Serialize};

/// How many processes or threads do the work.
pub(super) const WORKERS: usize = 2;

/// How many tasks are under way at a time where they go one by one.
pub(super) const WINDOW: usize = 512;

/// How long a task takes that does something.
pub(super) const LONG: Duration = Duration::from_millis(5);

/// What is to be done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Work {
    Square,
    Sleep,
    Spin,
}

impl Work {
    pub(super) fn perform(self, n: u64) -> u64 {
        match self {
            Self::Square => return n.wrapping_mul(n),
            Self::Sleep => thread::sleep(LONG),
            Self::Spin => spin(),
        }
        n
    }
}

/// Uses a processor for a while: what others take from it meanwhile does not count.
fn spin() {
    let used = || ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::MAX, Duration::from);
    let end = used().saturating_add(LONG);
    while used() < end {
        std::hint::spin_loop();
    }
}

/// What says that there are no more tasks.
const NONE: u64 = u64::MAX;

#[process]
async fn take_tasks(tasks: SharedQueue, results: SharedQueue, work: Work) -> Result<(), Failure> {
    let (tasks, results) = (tasks.open()?, results.open()?);
    let mut message = [0; 2];
    loop {
        tasks.pop(&mut message).await?;
        if message[0] == NONE {
            return Ok(());
        }
        message[1] = work.perform(message[0]);
        results.push(&message).await?;
    }
}

/// Processes, which take their tasks one by one from one queue, and put what came of them into another.
#[derive(Debug)]
pub(super) struct Queues {
    tasks: Queue,
    results: Queue,
    /// How many are under way at most.
    window: usize,
    peer: Peer,
}

impl Queues {
    pub(super) async fn start(work: Work, window: usize) -> io::Result<Self> {
        let new = || SharedQueue::new((WINDOW + WORKERS).next_power_of_two(), 2);
        let (tasks, results) = (new()?, new()?);
        let children = (0..WORKERS).map(|_| take_tasks(tasks.clone(), results.clone(), work));
        let peer = Peer::start_all(children).await?;
        Ok(Self { tasks: tasks.open()?, results: results.open()?, window, peer })
    }
}

impl Contender for Queues {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        let (mut given, mut done, mut message) = (0, 0, [0; 2]);
        while done < times {
            while given < times && given - done < self.window as u64 {
                self.tasks.push(&[given, 0]).await?;
                given += 1;
            }
            // Half of them: the others keep the processes busy meanwhile.
            for _ in 0..(given - done).div_ceil(2) {
                self.results.pop(&mut message).await?;
                black_box(&message);
                done += 1;
            }
        }
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        // There is room: nothing is under way.
        (0..WORKERS).for_each(|_| drop(self.tasks.push(&[NONE, 0]).now_or_never()));
        self.peer
    }
}

/// Threads, which take the next number each time.
#[derive(Debug)]
pub(super) struct Threads {
    work: Work,
    peer: Peer,
}

impl Threads {
    pub(super) fn new(work: Work) -> Self {
        Self { work, peer: Peer::default() }
    }
}

impl Contender for Threads {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        let (next, work) = (AtomicU64::new(0), self.work);
        let take = || {
            let mut done = 0_u64;
            loop {
                let n = next.fetch_add(1, Relaxed);
                if n >= times {
                    return done;
                }
                black_box(work.perform(black_box(n)));
                done += 1;
            }
        };
        let done = thread::scope(|scope| {
            let threads: VecDeque<_> = (0..WORKERS).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        });
        same(Some(done), times)
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}
