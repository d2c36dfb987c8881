//! Our mailboxes, as contenders.

use std::hint::black_box;
use std::io;

use procession::mailbox::{Receiver, Sender};
use procession::{Failure, Message, Pipe, mailbox, process};
use procession_bench::{Contender, Crowd, Peer, each_time, same, stay_on};

use super::samples::Sample;

pub(super) const CAPACITY: usize = 1024;

/// How many messages are received at once, where many are.
const BATCH: usize = 64;

/// What was not sent need not be one that a thread may have.
fn other(error: impl ToString) -> io::Error {
    io::Error::other(error.to_string())
}

#[process]
async fn echo(questions: Receiver<u64>, answers: Sender<u64>, core: usize) -> Result<(), Failure> {
    stay_on(core)?;
    while let Some(n) = questions.recv().await {
        answers.send(n).await?;
    }
    Ok(())
}

/// A number there, and the same back.
#[derive(Debug)]
pub(super) struct RoundTrip {
    questions: Sender<u64>,
    answers: Receiver<u64>,
    peer: Peer,
}

impl RoundTrip {
    pub(super) async fn start(core: usize) -> io::Result<Self> {
        let ((questions, asked), (answered, answers)) = (mailbox(CAPACITY)?, mailbox(CAPACITY)?);
        Ok(Self { questions, answers, peer: Peer::start(echo(asked, answered, core)).await? })
    }
}

impl Contender for RoundTrip {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for n in 0..times {
            self.questions.send(n).await.map_err(other)?;
            same(self.answers.recv().await, n)?;
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

/// One task that sends to itself.
#[derive(Debug)]
pub(super) struct Alone<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    message: T,
    peer: Peer,
}

impl<T: Message> Alone<T> {
    pub(super) fn new(message: T) -> io::Result<Self> {
        let (sender, receiver) = mailbox(CAPACITY)?;
        Ok(Self { sender, receiver, message, peer: Peer::default() })
    }
}

impl<T: Message + Clone> Contender for Alone<T> {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            self.sender.send(black_box(&self.message).clone()).await.map_err(other)?;
            black_box(self.receiver.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?);
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

/// The part of a child that sends.
pub(super) async fn send<T: Message + Clone>(
    pipe: Pipe<u64, u64>,
    sender: Sender<T>,
    message: T,
    core: usize,
) -> Result<(), Failure> {
    let send = async |times| {
        for _ in 0..times {
            sender.send(black_box(&message).clone()).await.map_err(other)?;
        }
        Ok(())
    };
    each_time(pipe, core, send).await
}

/// The part of a child that receives one by one.
pub(super) async fn receive<T: Message>(
    pipe: Pipe<u64, u64>,
    receiver: Receiver<T>,
    core: usize,
) -> Result<(), Failure> {
    let receive = async |times| {
        for _ in 0..times {
            black_box(receiver.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        Ok(())
    };
    each_time(pipe, core, receive).await
}

/// The part of a child that receives many at once.
pub(super) async fn receive_many<T: Message>(
    pipe: Pipe<u64, u64>,
    receiver: Receiver<T>,
    core: usize,
) -> Result<(), Failure> {
    let mut messages = Vec::new();
    let receive = async |times| {
        let mut left = times as usize;
        while left > 0 {
            left -= receiver.recv_many(&mut messages, left.min(BATCH)).await;
            black_box(&messages);
            messages.clear();
        }
        Ok(())
    };
    each_time(pipe, core, receive).await
}

/// Messages from some that send on one core to some that receive on another.
pub(super) async fn one_way<T: Sample>(counts: [usize; 2], here: usize, there: usize) -> io::Result<Crowd> {
    let (sender, receiver) = mailbox::<T>(CAPACITY)?;
    let send = |pipe| T::send(pipe, sender.clone(), there);
    Crowd::start(counts, send, |pipe| T::receive(pipe, receiver.clone(), here)).await
}

/// The same, where those that receive take many at once.
pub(super) async fn one_way_by_many<T: Sample>(
    counts: [usize; 2],
    here: usize,
    there: usize,
) -> io::Result<Crowd> {
    let (sender, receiver) = mailbox::<T>(CAPACITY)?;
    let send = |pipe| T::send(pipe, sender.clone(), there);
    Crowd::start(counts, send, |pipe| T::receive_many(pipe, receiver.clone(), here)).await
}
