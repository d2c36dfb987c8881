//! Mailboxes between processes that live, and some that do not.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use futures::{StreamExt, poll};
use procession::mailbox::{
    Builder, Handles, Receiver, SendError, Sender, TryRecvError, TrySendError, WeakSender,
};
use procession::shared::Event;
use procession::{EncodeError, Failure, Limits, Passed, Process, ProcessSet, mailbox, process, simplex};
use procession_tests::{in_time, isolated, open_fds};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(20);

/// Receives all, and gives it.
#[process]
async fn drains(inbox: Receiver<u64>) -> Vec<u64> {
    let mut all = Vec::new();
    while let Some(n) = inbox.recv().await {
        all.push(n);
    }
    all
}

#[process]
async fn sends(outbox: Sender<u64>, from: u64, to: u64) -> Result<(), Failure> {
    for n in from..to {
        outbox.send(n).await?;
    }
    Ok(())
}

#[process]
fn sends_plainly(outbox: Sender<u64>, count: u64) -> Result<(), Failure> {
    for n in 0..count {
        outbox.blocking_send(n)?;
    }
    Ok(())
}

#[process]
fn drains_plainly(inbox: Receiver<u64>) -> u64 {
    std::iter::from_fn(|| inbox.blocking_recv()).sum()
}

/// Receives one to be acknowledged, says which and how often it came, and keeps it.
#[process]
async fn holds(inbox: Receiver<u64>, mut told: procession::pipe::Sender<(u64, u64)>) -> Result<(), Failure> {
    let delivery = inbox.recv_ack().await.ok_or(std::io::Error::other("nothing came"))?;
    told.send((*delivery, delivery.deliveries())).await?;
    std::future::pending().await
}

/// Holds the first message until it may go on, and says so; acknowledges all. Gives what it has done.
#[process]
async fn works(inbox: Receiver<u64>, takes: Sender<u32>, go_on: Event) -> Result<Vec<u64>, Failure> {
    let mut done = Vec::new();
    while let Some(delivery) = inbox.recv_ack().await {
        if done.is_empty() {
            takes.send(std::process::id()).await?;
            go_on.wait().await;
        }
        done.push(delivery.ack());
    }
    Ok(done)
}

/// Four that work, each of which holds its first message.
struct FourWorkers {
    outbox: Sender<u64>,
    /// The process id of each that holds one.
    taken: Receiver<u32>,
    go_on: Event,
    workers: Vec<Process<Result<Vec<u64>, Failure>>>,
}

impl FourWorkers {
    async fn start() -> Self {
        let (outbox, inbox) = mailbox(10).unwrap();
        let (takes, taken) = mailbox(4).unwrap();
        let go_on = Event::new().unwrap();
        let mut workers = Vec::new();
        for _ in 0..4 {
            workers.push(works(inbox.clone(), takes.clone(), go_on.clone()).spawn().await.unwrap());
        }
        Self { outbox, taken, go_on, workers }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Truth(bool),
    Number(f64),
    Text(String),
    All(Vec<Self>),
}

fn shapes() -> [Shape; 5] {
    let all = Shape::All(vec![Shape::Nothing, Shape::Text(String::new())]);
    [Shape::Truth(true), Shape::Nothing, Shape::Number(-0.5), Shape::Text("hello".to_owned()), all]
}

/// Sends all when it may; gives whether it was empty before that, after it, and when all were received.
#[process]
async fn sends_shapes(
    outbox: Sender<Shape>,
    go_on: Event,
    looked: Event,
) -> Result<(bool, bool, bool), Failure> {
    let before = outbox.is_empty();
    looked.set();
    go_on.wait().await;
    for shape in shapes() {
        outbox.send(shape).await?;
    }
    let behind = outbox.is_empty();
    looked.set();
    outbox.drained().await;
    Ok((before, behind, outbox.is_empty()))
}

async fn kill<T>(mut child: Process<T>) {
    child.signaler().kill().unwrap();
    child.wait().await.unwrap();
}

isolated! {
    /// Puts and gets of all kinds, with a bound of six.
    async fn qu01_qu02_qu04_six_ways() {
        let (outbox, inbox) = mailbox::<u64>(6).unwrap();
        assert_eq!((outbox.len(), outbox.capacity()), (0, 6));
        assert!(matches!(inbox.try_recv(), Err(TryRecvError::Empty)));
        assert!(timeout(MOMENT, inbox.recv()).await.is_err());
        outbox.send(1).await.unwrap();
        outbox.try_send(2).unwrap();
        in_time(outbox.reserve()).await.unwrap().send(3).unwrap();
        outbox.try_reserve().unwrap().send(4).unwrap();
        timeout(SECOND, outbox.send(5)).await.unwrap().unwrap();
        let permit = outbox.try_reserve().unwrap();
        assert!(outbox.is_full() && inbox.is_full() && outbox.len() == 5);
        assert!(matches!(outbox.try_send(7), Err(TrySendError::Full(7))));
        assert!(matches!(outbox.try_reserve(), Err(TrySendError::Full(()))));
        assert!(timeout(MOMENT, outbox.send(7)).await.is_err());
        drop(permit);
        outbox.send(6).await.unwrap();
        assert_eq!(outbox.len(), 6);
        for n in 1..=3 {
            assert_eq!(in_time(inbox.recv()).await, Some(n));
        }
        assert_eq!((inbox.try_recv().unwrap(), inbox.len()), (4, 2));
        let mut rest = Vec::new();
        assert_eq!(inbox.recv_many(&mut rest, 10).await, 2);
        assert_eq!(rest, [5, 6]);
        assert!(inbox.is_empty() && !inbox.is_full());
    }

    /// Many times around, between processes, each way of waiting.
    async fn many_laps() {
        for capacity in [1, 3, 64] {
            let (outbox, inbox) = mailbox::<u64>(capacity).unwrap();
            let sender = sends(outbox, 0, 2000).spawn().await.unwrap();
            assert_eq!(in_time(drains(inbox)).await.unwrap(), (0..2000).collect::<Vec<_>>());
            sender.await.unwrap().unwrap();
        }
    }

    async fn plain_functions() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        let receiver = drains_plainly(inbox).spawn().await.unwrap();
        in_time(sends_plainly(outbox, 1000)).await.unwrap().unwrap();
        assert_eq!(in_time(receiver).await.unwrap(), 999 * 500);
    }

    /// Several receivers share the work: each message comes once.
    async fn many_to_many() {
        let (outbox, inbox) = mailbox::<u64>(16).unwrap();
        let mut receivers = Vec::new();
        for _ in 0..3 {
            receivers.push(drains(inbox.clone()).spawn().await.unwrap());
        }
        drop(inbox);
        let mut senders = ProcessSet::new();
        for n in 0..3 {
            senders.spawn(sends(outbox.clone(), n * 10_000, n * 10_000 + 3000)).await.unwrap();
        }
        drop(outbox);
        while let Some(ended) = in_time(senders.join_next()).await {
            ended.unwrap().unwrap();
        }
        let mut all = Vec::new();
        for receiver in receivers {
            let received = in_time(receiver).await.unwrap();
            for sender in 0..3 {
                let of_sender = received.iter().filter(|n| **n / 10_000 == sender);
                assert!(of_sender.is_sorted(), "what one sends comes in its order");
            }
            all.extend(received);
        }
        all.sort_unstable();
        assert_eq!(all, (0..3).flat_map(|n| n * 10_000..n * 10_000 + 3000).collect::<Vec<_>>());
    }

    /// `close` lets what is queued be received, and wakes who waits, in this process and in others.
    async fn qu10_qu12_qu13_close() {
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        outbox.send(1).await.unwrap();
        outbox.send(2).await.unwrap();
        let blocked = tokio::spawn({ let outbox = outbox.clone(); async move { outbox.send(3).await } });
        let child = sends(outbox.clone(), 4, 5).spawn().await.unwrap();
        let closed = tokio::spawn({ let outbox = outbox.clone(); async move { outbox.closed().await } });
        tokio::task::yield_now().await;
        assert!(inbox.close() && !outbox.close());
        assert!(matches!(in_time(blocked).await.unwrap(), Err(SendError::Closed(3))));
        in_time(child).await.unwrap().unwrap_err();
        in_time(closed).await.unwrap();
        assert!(matches!(outbox.try_send(9), Err(TrySendError::Closed(9))));
        assert!(outbox.reserve().await.is_err());
        assert_eq!((inbox.recv().await, inbox.try_recv().unwrap()), (Some(1), 2));
        assert_eq!(inbox.recv().await, None);
        assert!(matches!(inbox.try_recv(), Err(TryRecvError::Closed)));
    }

    /// Who waits in another process hears that it was closed.
    async fn f26_close_ends_all_waits() {
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(drains(inbox.clone()).spawn().await.unwrap());
        }
        outbox.send(1).await.unwrap();
        in_time(outbox.drained()).await;
        outbox.close();
        let mut all = Vec::new();
        for child in waiting {
            all.extend(in_time(child).await.unwrap());
        }
        assert_eq!(all, [1]);
    }

    async fn close_now_gives_what_was_queued() {
        let (outbox, inbox) = mailbox::<u64>(8).unwrap();
        for n in 0..5 {
            outbox.send(n).await.unwrap();
        }
        assert_eq!(inbox.close_now(), [0, 1, 2, 3, 4]);
        assert_eq!(inbox.recv().await, None);
        assert!(outbox.is_closed() && outbox.is_empty());
    }

    /// The last sender gone, killed while it sends nothing, ends the receivers; the last receiver the senders.
    async fn last_ones_killed() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let sender = keeps_sender(outbox).spawn().await.unwrap();
        let receiving = tokio::spawn({ let inbox = inbox.clone(); async move { inbox.recv().await } });
        tokio::task::yield_now().await;
        kill(sender).await;
        assert_eq!(in_time(receiving).await.unwrap(), None);

        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let receiver = keeps_receiver(inbox).spawn().await.unwrap();
        outbox.send(1).await.unwrap();
        let sending = tokio::spawn(async move { outbox.send(2).await });
        tokio::task::yield_now().await;
        kill(receiver).await;
        assert!(matches!(in_time(sending).await.unwrap(), Err(SendError::Closed(2))));
    }

    /// A receiver that is killed while it waits takes nothing with it.
    async fn f03_reader_killed() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let mut children = Vec::new();
        for _ in 0..2 {
            children.push(drains(inbox.clone()).spawn().await.unwrap());
        }
        tokio::time::sleep(MOMENT).await;
        for child in children {
            kill(child).await;
        }
        outbox.send(1).await.unwrap();
        assert_eq!(in_time(inbox.recv()).await, Some(1));
    }

    /// What a process held comes to another when it dies, with the number of times that it came.
    async fn qu05_redelivery() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        outbox.send(7).await.unwrap();
        for times in 1..=3 {
            let (told, mut is_told) = simplex().unwrap();
            let child = holds(inbox.clone(), told).spawn().await.unwrap();
            assert_eq!(in_time(is_told.recv()).await.unwrap(), Some((7, times)));
            assert!(matches!(inbox.try_recv(), Err(TryRecvError::Empty)));
            kill(child).await;
        }
        let delivery = in_time(inbox.recv_ack()).await.unwrap();
        assert_eq!((*delivery, delivery.deliveries(), delivery.is_redelivered()), (7, 4, true));
        let drained = tokio::spawn({ let outbox = outbox.clone(); async move { outbox.drained().await } });
        drop(delivery);
        assert!(!drained.is_finished());
        assert_eq!(in_time(inbox.recv_ack()).await.unwrap().ack(), 7);
        in_time(drained).await.unwrap();
    }

    /// Four workers, ten items: all is done when the last one is acknowledged, and not when it is received.
    async fn qu05_four_workers() {
        let FourWorkers { outbox, taken, go_on, workers } = FourWorkers::start().await;
        for n in 0..4 {
            in_time(outbox.send(n)).await.unwrap();
        }
        let mut pids = Vec::new();
        for _ in 0..4 {
            pids.push(in_time(taken.recv()).await.unwrap());
        }
        pids.sort_unstable();
        let mut expected: Vec<_> = workers.iter().map(Process::pid).collect();
        expected.sort_unstable();
        // Each has one in its hands, and no other waits.
        assert_eq!((pids, outbox.len()), (expected, 0));
        let mut drained = Box::pin(outbox.drained());
        assert!(poll!(&mut drained).is_pending());
        assert!(timeout(MOMENT, &mut drained).await.is_err());
        for n in 4..10 {
            in_time(outbox.send(n)).await.unwrap();
        }
        assert!(poll!(&mut drained).is_pending());
        go_on.set();
        in_time(drained).await;
        assert!(outbox.is_empty() && !outbox.is_closed());
        outbox.close();
        let mut all = Vec::new();
        for worker in workers {
            let done = in_time(worker).await.unwrap().unwrap();
            assert!(!done.is_empty());
            all.extend(done);
        }
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    /// One of four workers is killed with a message in its hands: all is done when another one has done that.
    async fn qu05_one_of_four_workers_killed() {
        let FourWorkers { outbox, taken, go_on, mut workers } = FourWorkers::start().await;
        for n in 0..10 {
            in_time(outbox.send(n)).await.unwrap();
        }
        for _ in 0..4 {
            in_time(taken.recv()).await.unwrap();
        }
        kill(workers.remove(1)).await;
        go_on.set();
        in_time(outbox.drained()).await;
        outbox.close();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(in_time(worker).await.unwrap().unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    /// Empty at first, then not, then again, as each process sees it; and values of all shapes in the order in which they were sent.
    async fn qu15_empty() {
        let (outbox, inbox) = mailbox::<Shape>(5).unwrap();
        let (go_on, looked) = (Event::new().unwrap(), Event::new().unwrap());
        assert!(inbox.is_empty() && outbox.is_empty());
        let child = sends_shapes(outbox, go_on.clone(), looked.clone()).spawn().await.unwrap();
        in_time(looked.wait()).await;
        assert!(inbox.is_empty());
        looked.clear();
        go_on.set();
        in_time(looked.wait()).await;
        assert!(!inbox.is_empty() && inbox.len() == 5);
        for (left, shape) in (0..5).rev().zip(shapes()) {
            assert_eq!(in_time(inbox.recv()).await, Some(shape));
            assert_eq!((inbox.len(), inbox.is_empty()), (left, left == 0));
        }
        assert_eq!(in_time(child).await.unwrap().unwrap(), (true, false, true));
        assert!(inbox.is_empty());
    }

    /// What others hold may come back: a mailbox that is closed ends when it cannot any more.
    async fn closed_and_held() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        outbox.send(7).await.unwrap();
        let (told, mut is_told) = simplex().unwrap();
        let child = holds(inbox.clone(), told).spawn().await.unwrap();
        in_time(is_told.recv()).await.unwrap();
        outbox.close();
        let receiving = tokio::spawn({ let inbox = inbox.clone(); async move { inbox.recv().await } });
        assert!(timeout(MOMENT, inbox.recv()).await.is_err());
        kill(child).await;
        assert_eq!(in_time(receiving).await.unwrap(), Some(7));
        assert_eq!(in_time(inbox.recv()).await, None);
    }

    /// After so many deliveries a message is for who asks for such ones.
    async fn poisoned() {
        let (outbox, inbox) = Builder::new(4).max_deliveries(2).build::<u64>().unwrap();
        outbox.send(13).await.unwrap();
        for _ in 0..2 {
            let (told, mut is_told) = simplex().unwrap();
            let child = holds(inbox.clone(), told).spawn().await.unwrap();
            assert_eq!(in_time(is_told.recv()).await.unwrap().unwrap().0, 13);
            kill(child).await;
        }
        outbox.send(14).await.unwrap();
        let poisoned = tokio::spawn({ let inbox = inbox.clone(); async move { inbox.poisoned().await } });
        assert_eq!(in_time(poisoned).await.unwrap(), Some(13));
        assert_eq!(in_time(inbox.recv()).await, Some(14));
        drop(outbox);
        assert_eq!((in_time(inbox.recv()).await, in_time(inbox.poisoned()).await), (None, None));
    }

    /// A message of any length, with short ones before and behind it.
    async fn long_messages() {
        let (outbox, inbox) = mailbox::<Vec<u8>>(3).unwrap();
        let lengths = [0, 1, 7, 8, 1069, 1070, 1071, 1072, 1073, 5000, 70_000, 1 << 20, 3];
        let receiver = echoes(inbox, lengths.len()).spawn().await.unwrap();
        for (byte, length) in (0_u8..).zip(lengths) {
            in_time(outbox.send(vec![byte; length])).await.unwrap();
        }
        let expected: Vec<_> = (0_u8..).zip(lengths).map(|(byte, length)| (byte, length, true)).collect();
        assert_eq!(in_time(receiver).await.unwrap(), expected);
        let (outbox, _inbox) = Builder::new(1).limits(Limits::DEFAULT.max_message(100)).build::<Vec<u8>>().unwrap();
        let refused = outbox.send(vec![0; 100]).await.unwrap_err();
        assert!(matches!(refused, SendError::Encode(_, EncodeError::TooLarge { size: 101, limit: 100 })));
        assert_eq!(outbox.len(), 0);
        outbox.try_send(vec![0; 99]).unwrap();
    }

    /// A long message comes back as it was, however often.
    async fn long_messages_come_back() {
        let (outbox, inbox) = mailbox::<Vec<u8>>(1).unwrap();
        let message: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        for length in [300_000, 80_000, 70_000] {
            in_time(outbox.send(message[..length].to_vec())).await.unwrap();
            for deliveries in 1..4 {
                let delivery = in_time(inbox.recv_ack()).await.unwrap();
                assert_eq!((delivery.deliveries(), **delivery == message[..length]), (deliveries, true));
            }
            assert!(in_time(inbox.recv_ack()).await.unwrap().ack() == message[..length]);
        }
    }

    /// Mailboxes through a mailbox, and in one that nobody has received.
    async fn mailboxes_through_a_mailbox() {
        let (outbox, inbox) = Builder::new(8).build_with_handles::<(u64, Sender<u64>)>().unwrap();
        let child = answers(inbox).spawn().await.unwrap();
        let mut replies = Vec::new();
        for n in 0..40 {
            let (sender, receiver) = mailbox::<u64>(1).unwrap();
            in_time(outbox.send((n, sender))).await.unwrap();
            replies.push(receiver);
        }
        for (n, reply) in (0..40).zip(&replies) {
            assert_eq!((in_time(reply.recv()).await, in_time(reply.recv()).await), (Some(2 * n), None));
        }
        drop(outbox);
        in_time(child).await.unwrap().unwrap();
    }

    /// A sender that stands in a message that nobody has received keeps its mailbox open, until that message is lost.
    async fn senders_in_queued_messages() {
        let (outer, carried) = Builder::new(1).build_with_handles::<Sender<u64>>().unwrap();
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        outer.send(outbox).await.unwrap();
        assert_eq!((outer.len(), outer.is_full()), (1, true));
        assert!(timeout(MOMENT, inbox.recv()).await.is_err());
        drop(carried);
        assert_eq!(in_time(inbox.recv()).await, None);
        outer.closed().await;
    }

    /// Long messages, and those that nobody can receive any more, where the kernel carries them.
    async fn long_messages_with_handles() {
        let (outbox, inbox) = Builder::new(300).build_with_handles::<(Vec<u8>, Option<WeakSender<u64>>)>().unwrap();
        for length in [0, 1, 32_700, 40_000, 1 << 20] {
            in_time(outbox.send((vec![7; length], None))).await.unwrap();
            assert_eq!(in_time(inbox.recv()).await.unwrap().0, vec![7; length]);
        }
        let mut count = 0;
        while outbox.try_send((vec![1; 1000], None)).is_ok() {
            count += 1;
        }
        assert!((100..=300).contains(&count), "{count}");
        outbox.close();
        assert!(outbox.try_send((Vec::new(), None)).is_err());
        assert_eq!(inbox.close_now().len(), count);
        assert!(inbox.recv().await.is_none());
    }

    /// Of two that send messages with handles, those of each come in its order, once, and each with its own handle.
    async fn handles_in_the_order_of_each() {
        const EACH: u64 = 100;
        let (outbox, inbox) = Builder::new(16).build_with_handles().unwrap();
        let one = sends_numbered(outbox.clone(), 0, EACH).spawn().await.unwrap();
        let other = sends_numbered(outbox, 1, EACH).spawn().await.unwrap();
        let mut next = [0; 2];
        while let Some((who, n, file)) = in_time(inbox.recv()).await {
            assert_eq!(n, next[who as usize], "of {who}");
            assert_eq!(numbers_in(file), [who, n]);
            next[who as usize] += 1;
        }
        assert_eq!(next, [EACH; 2]);
        in_time(one).await.unwrap().unwrap();
        in_time(other).await.unwrap().unwrap();
    }

    /// What cannot be sent does not take up room.
    async fn qu08_what_cannot_travel() {
        let (outbox, _inbox) = mailbox::<procession::pipe::Sender<u8>>(1).unwrap();
        let (sender, _receiver) = simplex().unwrap();
        let error = outbox.send(sender).await.unwrap_err();
        assert!(format!("{error:?}").contains("build_with_handles"), "{error:?}");
        assert!(outbox.is_empty() && !outbox.is_full());
    }

    async fn weak_senders() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let weak = outbox.downgrade();
        let child = sends_weakly(weak.clone(), 5).spawn().await.unwrap();
        assert_eq!(in_time(inbox.recv()).await, Some(5));
        assert!(in_time(child).await.unwrap());
        drop(outbox);
        assert_eq!(in_time(inbox.recv()).await, None);
        assert!(weak.upgrade().is_none());
        assert!(!in_time(sends_weakly(weak, 6)).await.unwrap());
    }

    async fn a_stream() {
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        let sender = sends(outbox, 0, 50).spawn().await.unwrap();
        assert_eq!(in_time(inbox.collect::<Vec<_>>()).await, (0..50).collect::<Vec<_>>());
        sender.await.unwrap().unwrap();
    }

    /// A sender that is on its way counts, one in a message that nobody has received too.
    async fn senders_on_their_way() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let (mut carries, mut carried) = simplex().unwrap();
        carries.send(outbox).await.unwrap();
        assert!(timeout(MOMENT, inbox.recv()).await.is_err());
        let outbox: Sender<u64> = in_time(carried.recv()).await.unwrap().unwrap();
        outbox.send(1).await.unwrap();
        drop(outbox);
        assert_eq!((in_time(inbox.recv()).await, in_time(inbox.recv()).await), (Some(1), None));
    }

    /// Seven descriptors for an end, as the docs say, and one more for the other end in the same process.
    async fn descriptors() {
        let before = open_fds().len();
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        assert_eq!(open_fds().len() - before, 8);
        assert_eq!(in_time(counts_for(outbox.clone())).await.unwrap(), 7);
        drop((outbox, inbox));
    }

    async fn no_such_mailbox() {
        for capacity in [0, 40_000, usize::MAX] {
            mailbox::<u64>(capacity).unwrap_err();
        }
    }
}

/// Who has sent it, which of its messages it is, and a file with both numbers in it.
type Numbered = (u64, u64, Passed<File>);

fn numbered(who: u64, n: u64) -> Numbered {
    let file = File::from(memfd_create(c"numbered", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(&[who, n].map(u64::to_le_bytes).concat(), 0).unwrap();
    (who, n, Passed::new(file).unwrap())
}

/// The numbers that stand in its file.
fn numbers_in(file: Passed<File>) -> [u64; 2] {
    let (file, mut bytes) = (file.into_inner().unwrap(), [[0; 8]; 2]);
    file.read_exact_at(bytes.as_flattened_mut(), 0).unwrap();
    bytes.map(u64::from_le_bytes)
}

#[process]
async fn sends_numbered(outbox: Sender<Numbered, Handles>, who: u64, count: u64) -> Result<(), Failure> {
    for n in 0..count {
        outbox.send(numbered(who, n)).await?;
    }
    Ok(())
}

/// Sends twice what comes to who is to have it.
#[process]
async fn answers(inbox: Receiver<(u64, Sender<u64>), Handles>) -> Result<(), Failure> {
    while let Some((n, reply)) = inbox.recv().await {
        reply.send(2 * n).await?;
    }
    Ok(())
}

/// How many descriptors an end takes that is the only one in a process.
#[process]
async fn counts_for(outbox: Sender<u64>) -> usize {
    let with_it = open_fds().len();
    drop(outbox);
    with_it - open_fds().len()
}

#[process]
async fn keeps_sender(outbox: Sender<u64>) {
    let _outbox = outbox;
    std::future::pending().await
}

#[process]
async fn keeps_receiver(inbox: Receiver<u64>) {
    let _inbox = inbox;
    std::future::pending().await
}

#[process]
async fn sends_weakly(outbox: WeakSender<u64>, n: u64) -> bool {
    match outbox.upgrade() {
        Some(outbox) => outbox.send(n).await.is_ok(),
        None => false,
    }
}

/// Receives so many; says what each consists of, how long it is, and whether that is all.
#[process]
async fn echoes(inbox: Receiver<Vec<u8>>, count: usize) -> Vec<(u8, usize, bool)> {
    let mut all = Vec::new();
    for n in (0_u8..).take(count) {
        let message = inbox.recv().await.unwrap_or_default();
        all.push((n, message.len(), message.iter().all(|byte| *byte == n)));
    }
    all
}
