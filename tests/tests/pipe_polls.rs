//! Every future of a pipe, dropped at every poll: R1, R9, CO12.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use procession::pipe::{Receiver, RecvError, Sender, simplex_with};
use procession::{Failure, Limits, Pipe, pipe, process};
use procession_tests::isolated;
use serde::{Deserialize, Serialize};

const LIMITS: Limits = Limits::DEFAULT;

/// A future that is ready is not dropped any more: no message takes so many polls as this.
const MOST: usize = 12;

/// A message that takes the way that it is to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Message {
    Small(u32),
    /// Long strings: by a slab from 256 KiB on, else on the stream, aside from the rest.
    Aside(u32, Vec<Bytes>),
    /// Nothing that could stand aside.
    Stream(u32, Vec<u32>),
}

fn message(n: u32, way: usize) -> Message {
    let bytes = |length| Bytes::from(vec![n as u8; length]);
    match way {
        0 => Message::Small(n),
        1 => Message::Aside(n, vec![bytes(300 << 10)]),
        2 => Message::Stream(n, vec![0xf000_0000 + n; 60 << 10]),
        3 => Message::Aside(n, vec![bytes(100 << 10), bytes(70_000), bytes(300 << 10), bytes(9)]),
        4 => Message::Aside(n, vec![bytes(5 << 20)]),
        5 => Message::Stream(n, vec![0xf000_0000 + n; 1 << 20]),
        _ => Message::Aside(n, vec![bytes(200 << 10); 5]),
    }
}

const WAYS: usize = 7;

fn number(message: &Message) -> u32 {
    match message {
        Message::Small(n) | Message::Aside(n, _) | Message::Stream(n, _) => *n,
    }
}

/// Polls a future until it has been pending once more than so many times, and drops it.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), times);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// The next of these, by a future that is dropped at its first poll, then at its second, and so on.
async fn by_and_by<A, T>(all: &mut A, mut next: impl AsyncFnMut(&mut A, usize) -> Option<T>) -> T {
    for times in 0.. {
        if let Some(done) = next(all, times % MOST).await {
            return done;
        }
    }
    unreachable!("it ends when the future is ready")
}

/// Receives, at its leisure, and says what it was.
#[process]
async fn reads_slowly(mut pipe: Receiver<Message>) -> Result<Vec<(u32, bool)>, Failure> {
    let mut seen = Vec::new();
    while let Some(came) = pipe.recv().await? {
        let n = number(&came);
        seen.push((n, came == message(n, n as usize % WAYS)));
        // Its work.
        std::thread::sleep(Duration::from_millis(40));
    }
    Ok(seen)
}

#[process]
async fn reads_bytes(mut pipe: Receiver<()>) -> Result<Vec<(usize, u8)>, Failure> {
    let mut seen = Vec::new();
    while let Some(bytes) = pipe.recv_bytes().await? {
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        seen.push((bytes.len(), bytes[0]));
    }
    Ok(seen)
}

#[process]
async fn writes(mut pipe: Sender<Message>, count: u32) -> Result<(), Failure> {
    for n in 0..count {
        pipe.send(message(n, n as usize % WAYS)).await?;
    }
    Ok(())
}

#[process]
async fn writes_bytes(mut pipe: Sender<()>, lengths: Vec<usize>) -> Result<(), Failure> {
    for (n, length) in lengths.into_iter().enumerate() {
        pipe.send_bytes(&vec![n as u8; length]).await?;
    }
    Ok(())
}

#[process]
async fn answers(mut pipe: Pipe<u32, Message>) -> Result<(), Failure> {
    while let Some(message) = pipe.recv().await? {
        pipe.send(number(&message)).await?;
    }
    Ok(())
}

isolated! {
    /// A send that is dropped before it is ready has sent nothing; whatever was accepted comes, once, in order.
    #[limit(300)]
    async fn r1_send_and_flush() {
        let (mut sender, receiver) = simplex_with::<Message>(LIMITS).unwrap();
        let mut child = reads_slowly(receiver).spawn().await.unwrap();
        let (mut accepted, mut dropped) = (Vec::new(), 0);
        for n in 0..48 {
            // Every other one is given up as soon as it would wait.
            let times = if n % 2 == 0 { 0 } else { n as usize % MOST / 3 };
            match polled(sender.send(message(n, n as usize % WAYS)), times).await {
                Some(sent) => {
                    sent.unwrap();
                    accepted.push((n, true));
                }
                None => dropped += 1,
            }
            if n % 5 == 0 {
                drop(polled(sender.flush(), n as usize % 3).await);
            }
        }
        assert!(dropped > 0, "nothing was dropped");
        by_and_by(&mut sender, async |sender, times| polled(sender.flush(), times).await).await.unwrap();
        drop(sender);
        assert_eq!(child.join().await.unwrap().unwrap(), accepted);
    }

    /// A receive that is dropped has received nothing, also within a message of either kind.
    #[limit(300)]
    async fn r1_recv_and_readable() {
        let (sender, mut receiver) = simplex_with::<Message>(LIMITS).unwrap();
        let mut child = writes(sender, 35).spawn().await.unwrap();
        for n in 0..35 {
            if n % 2 == 0 {
                by_and_by(&mut receiver, async |receiver, times| polled(receiver.readable(), times).await).await.unwrap();
                assert!(receiver.try_recv().unwrap() == message(n, n as usize % WAYS), "message {n}");
            } else {
                let came = by_and_by(&mut receiver, async |receiver, times| polled(receiver.recv(), times).await).await;
                assert!(came.unwrap() == Some(message(n, n as usize % WAYS)), "message {n}");
            }
        }
        let came = by_and_by(&mut receiver, async |receiver, times| polled(receiver.recv(), times).await).await;
        assert_eq!(came.unwrap(), None);
        child.join().await.unwrap().unwrap();
    }

    #[limit(300)]
    async fn r1_send_bytes() {
        let (mut sender, receiver) = simplex_with::<()>(LIMITS).unwrap();
        let mut child = reads_bytes(receiver).spawn().await.unwrap();
        let mut accepted = Vec::new();
        for n in 0..60_u8 {
            let length = [10, 100 << 10, 300 << 10, 5 << 20, 65_536][usize::from(n) % 5];
            if let Some(sent) = polled(sender.send_bytes(&vec![n; length]), usize::from(n) % 4).await {
                sent.unwrap();
                accepted.push((length, n));
            }
        }
        drop(sender);
        assert_eq!(child.join().await.unwrap().unwrap(), accepted);
    }

    #[limit(300)]
    async fn r1_recv_bytes() {
        let (sender, mut receiver) = simplex_with::<()>(LIMITS).unwrap();
        let lengths: Vec<usize> = [10, 300 << 10, 5 << 20, 0, 100 << 10, 65_536].repeat(6);
        let mut child = writes_bytes(sender, lengths.clone()).spawn().await.unwrap();
        let mut buffer = vec![0; 6 << 20];
        for (n, length) in lengths.into_iter().enumerate() {
            if n % 2 == 0 {
                let came = by_and_by(&mut receiver, async |receiver, times| polled(receiver.recv_bytes(), times).await).await;
                assert!(came.unwrap().unwrap() == vec![n as u8; length], "message {n}");
            } else {
                let mut all = (&mut receiver, &mut buffer);
                let came = by_and_by(&mut all, async |(receiver, buffer), times| {
                    polled(receiver.recv_bytes_into(buffer), times).await
                }).await;
                assert_eq!(came.unwrap(), Some(length));
                assert!(buffer[..length].iter().all(|byte| *byte == n as u8), "message {n}");
            }
        }
        child.join().await.unwrap().unwrap();
    }

    /// CO12: a poll by one process takes nothing from the next, wherever within a message it was left.
    #[limit(300)]
    async fn co12_an_end_moves_from_within_a_message() {
        for way in 0..WAYS {
            for times in [0, 3] {
                let (mut sender, mut receiver) = simplex_with::<Message>(LIMITS).unwrap();
                for n in 0..3 {
                    sender.send(Message::Small(n)).await.unwrap();
                }
                sender.send(message(way as u32, way)).await.unwrap();
                assert_eq!(receiver.recv().await.unwrap(), Some(Message::Small(0)));
                for n in 1..3 {
                    assert_eq!(receiver.try_recv().unwrap(), Message::Small(n));
                }
                let seen = if let Some(came) = polled(receiver.recv(), times).await {
                    vec![came.unwrap().unwrap()]
                } else {
                    vec![]
                };
                let mut child = reads_slowly(receiver).spawn().await.unwrap();
                let next = way as u32 + WAYS as u32;
                sender.send(message(next, way)).await.unwrap();
                drop(sender);
                let mut all: Vec<_> = seen.iter().map(|it| (number(it), *it == message(way as u32, way))).collect();
                all.extend(child.join().await.unwrap().unwrap());
                assert_eq!(all, [(way as u32, true), (next, true)], "way {way}, {times} polls");
            }
        }
    }

    /// Both ways in one task, by whichever is ready first.
    async fn r9_select_drops_the_other() {
        let (ours, theirs) = pipe::<Message, u32>().unwrap();
        let mut child = answers(theirs).spawn().await.unwrap();
        let (mut sender, mut receiver) = ours.into_split();
        let (mut sent, mut received) = (0, 0);
        while received < 36 {
            tokio::select! {
                biased;
                came = receiver.recv() => {
                    assert_eq!(came.unwrap(), Some(received));
                    received += 1;
                }
                flushed = sender.flush(), if sent < 36 => {
                    flushed.unwrap();
                    sender.send(message(sent, sent as usize % WAYS)).await.unwrap();
                    sent += 1;
                }
            }
        }
        drop(sender);
        child.join().await.unwrap().unwrap();
    }

    /// What cannot be received stays until it is asked for as what it is.
    async fn kinds_in_turn() {
        let (mut sender, mut receiver) = simplex_with::<u32>(LIMITS).unwrap();
        for n in 0..10 {
            sender.send(n).await.unwrap();
            sender.send_bytes(&[n as u8; 3]).await.unwrap();
        }
        for n in 0..10 {
            assert!(matches!(receiver.recv_bytes().await, Err(RecvError::NotBytes)));
            assert_eq!(receiver.recv().await.unwrap(), Some(n));
            assert!(matches!(receiver.recv().await, Err(RecvError::NotAMessage)));
            assert_eq!(receiver.recv_bytes().await.unwrap().unwrap(), vec![n as u8; 3]);
        }
    }
}
