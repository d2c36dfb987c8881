//! Children that work together: some send what the others receive.

use std::io;

use procession::{Call, Failure, Pipe, pipe};

use crate::{Contender, Peer, same, stay_on};

/// Children, each of which is told how many messages it has to send or to receive, and says when it has.
#[derive(Debug)]
pub struct Crowd {
    senders: Vec<Pipe<u64, u64>>,
    receivers: Vec<Pipe<u64, u64>>,
    peer: Peer,
}

/// A child's part: it stays on a core, and does something as often as it is told.
///
/// # Errors
/// Those of the pipe, and of what it does.
pub async fn each_time(
    mut pipe: Pipe<u64, u64>,
    core: usize,
    mut run: impl AsyncFnMut(u64) -> io::Result<()>,
) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(times) = pipe.recv().await? {
        run(times).await?;
        pipe.send(times).await?;
    }
    Ok(())
}

impl Crowd {
    /// Starts so many that send, and so many that receive. The part of each is [`each_time`].
    ///
    /// # Errors
    /// If one cannot be started.
    pub async fn start(
        [senders, receivers]: [usize; 2],
        send: impl Fn(Pipe<u64, u64>) -> Call<Result<(), Failure>>,
        receive: impl Fn(Pipe<u64, u64>) -> Call<Result<(), Failure>>,
    ) -> io::Result<Self> {
        let (first, theirs) = pipe()?;
        let mut peer = Peer::start(receive(theirs)).await?;
        let (mut receiving, mut sending) = (vec![first], Vec::new());
        for _ in 1..receivers {
            let (ours, theirs) = pipe()?;
            peer = peer.and(receive(theirs)).await?;
            receiving.push(ours);
        }
        for _ in 0..senders {
            let (ours, theirs) = pipe()?;
            peer = peer.and(send(theirs)).await?;
            sending.push(ours);
        }
        Ok(Self { senders: sending, receivers: receiving, peer })
    }
}

impl Contender for Crowd {
    /// The number of messages is to be a multiple of those that send, and of those that receive.
    async fn run(&mut self, times: u64) -> io::Result<()> {
        let [senders, receivers] = [&self.senders, &self.receivers].map(|all| times / all.len() as u64);
        for (pipe, times) in both(&mut self.receivers, receivers, &mut self.senders, senders) {
            pipe.send(times).await.map_err(io::Error::other)?;
        }
        for (pipe, times) in both(&mut self.receivers, receivers, &mut self.senders, senders) {
            same(pipe.recv().await.map_err(io::Error::other)?, times)?;
        }
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn into_peer(self) -> Peer {
        self.peer
    }
}

type Link = Pipe<u64, u64>;

fn both<'a>(
    some: &'a mut [Link],
    of_some: u64,
    others: &'a mut [Link],
    of_others: u64,
) -> impl Iterator<Item = (&'a mut Link, u64)> {
    some.iter_mut()
        .map(move |pipe| (pipe, of_some))
        .chain(others.iter_mut().map(move |pipe| (pipe, of_others)))
}
