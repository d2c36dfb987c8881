//! Our pools, as contenders.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use procession::{Pool, process};
use procession_bench::{Contender, Peer, same};

use super::limits::{WINDOW, Work};

#[process]
async fn square(n: u64) -> u64 {
    n.wrapping_mul(n)
}

#[process]
fn square_plainly(n: u64) -> u64 {
    n.wrapping_mul(n)
}

#[process]
fn sleep(n: u64) -> u64 {
    Work::Sleep.perform(n)
}

#[process]
fn spin(n: u64) -> u64 {
    Work::Spin.perform(n)
}

#[process]
fn length_of(body: Bytes) -> u64 {
    body.len() as u64
}

#[process]
fn body_of(length: u64) -> Bytes {
    vec![1; length as usize].into()
}

#[process]
fn same_body(body: Bytes) -> Bytes {
    body
}

/// How tasks come to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// By `map`, of an `async fn`.
    Map,
    /// Of a plain `fn`.
    MapPlain,
    /// Each by itself.
    MapByOne,
    MapPlainByOne,
    /// Of one that sleeps.
    MapSleep,
    /// Of one that is busy.
    MapSpin,
    /// By `submit`, some hundred at a time.
    Submit,
    /// By `run`, as many.
    Run,
    /// One when the one before is done.
    RunAlone,
    /// By `map`, with long arguments; with long results; with both.
    Arguments(usize),
    Results(usize),
    Both(usize),
}

/// A pool.
#[derive(Debug)]
pub(super) struct Ours {
    pool: Pool,
    how: How,
    peer: Peer,
}

impl Ours {
    pub(super) async fn start(how: How, workers: usize) -> io::Result<Self> {
        let pool = Pool::new(workers).await.map_err(io::Error::other)?;
        let pids = pool.stats().workers.into_iter().map(|worker| worker.pid);
        Ok(Self { peer: Peer::default().beside(pids), pool, how })
    }

    async fn map(&self, times: u64) -> Result<usize, procession::ProcessError> {
        let (pool, body) = (&self.pool, |length| Bytes::from(vec![1; length]));
        let bodies = |length| std::iter::repeat_n(body(length), times as usize);
        Ok(match self.how {
            How::Map => pool.map(square, 0..times).await?.len(),
            How::MapPlain => pool.map(square_plainly, 0..times).await?.len(),
            How::MapByOne => pool.map(square, 0..times).chunk(1).await?.len(),
            How::MapPlainByOne => pool.map(square_plainly, 0..times).chunk(1).await?.len(),
            How::MapSleep => pool.map(sleep, 0..times).await?.len(),
            How::MapSpin => pool.map(spin, 0..times).await?.len(),
            How::Submit => self.submit(times).await?,
            How::Run => {
                let tasks = stream::iter(0..times).map(|n| pool.run(square(n))).buffer_unordered(WINDOW);
                tasks.try_fold(0, async |count, _| Ok(count + 1)).await?
            }
            How::RunAlone => {
                for n in 0..times {
                    black_box(pool.run(square(n)).await?);
                }
                times as usize
            }
            How::Arguments(length) => pool.map(length_of, bodies(length)).await?.len(),
            How::Results(length) => {
                let lengths = std::iter::repeat_n(length as u64, times as usize);
                pool.map(body_of, lengths).unordered().try_fold(0, async |count, _| Ok(count + 1)).await?
            }
            How::Both(length) => {
                let bodies = pool.map(same_body, bodies(length)).unordered();
                bodies.try_fold(0, async |count, _| Ok(count + 1)).await?
            }
        })
    }

    async fn submit(&self, times: u64) -> Result<usize, procession::ProcessError> {
        let (mut waiting, mut done) = (VecDeque::new(), 0);
        for n in 0..times {
            waiting.push_back(self.pool.submit(square(n)).await?);
            if waiting.len() == WINDOW {
                for task in waiting.drain(..WINDOW / 2) {
                    black_box(task.await?);
                    done += 1;
                }
            }
        }
        for task in waiting {
            black_box(task.await?);
            done += 1;
        }
        Ok(done)
    }
}

impl Contender for Ours {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        let done = self.map(times).await.map_err(io::Error::other)?;
        same(Some(done as u64), times)
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}
