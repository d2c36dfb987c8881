//! Waiting at a mailbox: who is woken, who is not, and what comes of those that give up.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::future::{Future, poll_fn};
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use procession::mailbox::{Builder, Delivery, Receiver, SendError, Sender, TryRecvError, TrySendError};
use procession::{Failure, Process, mailbox, pipe, process, simplex};
use procession_tests::{eventually_async, in_time, isolated, open_fds};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

/// Has a task wait for something: when this is ready, it has found that there is nothing to be had yet, and sleeps.
async fn asleep<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (sleeps, slept) = oneshot::channel();
    let mut sleeps = Some(sleeps);
    let mut future = Box::pin(future);
    let task = tokio::spawn(poll_fn(move |context| {
        let polled = future.as_mut().poll(context);
        sleeps.take().map(|sleeps| sleeps.send(polled.is_pending()));
        polled
    }));
    assert!(slept.await.unwrap(), "there was nothing to wait for");
    task
}

/// Receives one to be acknowledged, says so, and keeps it.
#[process]
async fn holds(inbox: Receiver<u64>, mut told: pipe::Sender<u64>) -> Result<(), Failure> {
    let delivery = inbox.recv_ack().await.ok_or(std::io::Error::other("nothing came"))?;
    told.send(*delivery).await?;
    std::future::pending().await
}

/// A process that holds the next message.
async fn holder(inbox: &Receiver<u64>) -> Process<Result<(), Failure>> {
    let (told, mut is_told) = simplex().unwrap();
    let child = holds(inbox.clone(), told).spawn().await.unwrap();
    in_time(is_told.recv()).await.unwrap().unwrap();
    child
}

async fn kill<T>(mut child: Process<T>) {
    child.signaler().kill().unwrap();
    child.wait().await.unwrap();
}

#[process]
async fn waits_until_drained(outbox: Sender<u64>) {
    outbox.drained().await;
}

/// The memory of the only region that this process has.
fn memory_of_region() -> File {
    let fds = open_fds();
    let (number, _) = fds.iter().find(|(_, target)| target.contains("memfd:procession-region")).unwrap();
    File::open(format!("/proc/self/fd/{number}")).unwrap()
}

/// How many take part in it: those that have a slot.
fn members(memory: &File) -> usize {
    let mut slots = [0; 8 * 254];
    memory.read_exact_at(&mut slots, 64).unwrap();
    let words = slots.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    words.filter(|word| word & ((1 << 46) - 1) != 0).count()
}

/// Panics when it is read, if it is odd.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Even(u64);

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u64::deserialize(deserializer)?;
        assert!(n % 2 == 0, "an odd one");
        Ok(Self(n))
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

#[process]
async fn passes_on(inbox: Receiver<u64>, outbox: Sender<u64>) {
    while let Some(n) = inbox.recv().await {
        outbox.send(n).await.unwrap();
        // Its work.
        std::thread::sleep(Duration::from_micros(200));
    }
}

isolated! {
    /// Who waits for poisoned messages takes no turn from who waits for others.
    async fn poisoned_and_others() {
        let (outbox, inbox) = Builder::new(4).max_deliveries(1).build::<u64>().unwrap();
        let poisoned = asleep({ let inbox = inbox.clone(); async move { inbox.poisoned().await } }).await;
        let receiving = asleep({ let inbox = inbox.clone(); async move { inbox.recv().await } }).await;
        outbox.send(1).await.unwrap();
        assert_eq!(in_time(receiving).await.unwrap(), Some(1));

        outbox.send(2).await.unwrap();
        let delivery = in_time(inbox.recv_ack()).await.unwrap();
        let receiving = asleep({ let inbox = inbox.clone(); async move { inbox.recv().await } }).await;
        drop(delivery);
        assert_eq!(in_time(poisoned).await.unwrap(), Some(2));
        assert!(!receiving.is_finished());
    }

    /// Who waits for poisoned messages is told that none can come any more.
    async fn poisoned_ends() {
        let (outbox, inbox) = Builder::new(4).max_deliveries(1).build::<u64>().unwrap();
        // The first that waits begins to watch for deaths, which has it look once more.
        let receiving = asleep({ let inbox = inbox.clone(); async move { inbox.recv().await } }).await;
        outbox.send(0).await.unwrap();
        in_time(receiving).await.unwrap();
        outbox.send(1).await.unwrap();
        outbox.close();
        let poisoned = asleep({ let inbox = inbox.clone(); async move { inbox.poisoned().await } }).await;
        assert_eq!(inbox.try_recv().unwrap(), 1);
        assert_eq!(in_time(poisoned).await.unwrap(), None);
    }

    /// No room is given where nothing can be sent.
    async fn nothing_to_reserve_where_it_is_closed() {
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        assert!(inbox.close());
        assert!(matches!(outbox.reserve().await, Err(SendError::Closed(()))));
        assert!(matches!(outbox.try_reserve(), Err(TrySendError::Closed(()))));
        assert!(matches!(outbox.try_send(1), Err(TrySendError::Closed(1))));
    }

    /// A message whose `Deserialize` panics takes up room no longer; one that is to be acknowledged comes back.
    async fn panics_within_a_message() {
        let (outbox, inbox) = Builder::new(1).max_deliveries(2).build::<Even>().unwrap();
        outbox.send(Even(1)).await.unwrap();
        assert!(AssertUnwindSafe(inbox.recv()).catch_unwind().await.is_err());
        assert!(!outbox.is_full(), "its room is lost");
        in_time(outbox.send(Even(3))).await.unwrap();
        for _ in 0..2 {
            assert!(AssertUnwindSafe(in_time(inbox.recv_ack())).catch_unwind().await.is_err());
        }
        assert!(outbox.is_full() && matches!(inbox.try_recv(), Err(TryRecvError::Empty)));
        assert!(AssertUnwindSafe(in_time(inbox.poisoned())).catch_unwind().await.is_err());
        in_time(outbox.send(Even(4))).await.unwrap();
        assert_eq!(in_time(inbox.recv_ack()).await.unwrap().ack(), Even(4));
    }

    /// Who only ever asks whether there is something gets what a dead one held, whoever has seen first that it is dead.
    #[once]
    async fn deaths_that_others_have_seen() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        let memory = memory_of_region();
        outbox.try_send(7).unwrap();
        let waits = waits_until_drained(outbox.clone()).spawn().await.unwrap();
        let holder = holder(&inbox).await;
        eventually_async(20 * SECOND, || members(&memory) == 3).await;
        assert!(matches!(inbox.try_recv_ack(), Err(TryRecvError::Empty)));
        kill(holder).await;
        eventually_async(20 * SECOND, || members(&memory) == 2).await;
        let delivery = inbox.try_recv_ack().unwrap();
        assert_eq!((*delivery, delivery.deliveries()), (7, 2));
        delivery.ack();
        in_time(waits).await.unwrap();
    }

    /// QU01, QU02: a future that is dropped at any of its polls has sent nothing, and received nothing.
    #[limit(120)]
    async fn dropped_at_every_poll() {
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        let (back, returned) = mailbox::<u64>(2).unwrap();
        let child = passes_on(inbox, back).spawn().await.unwrap();
        let sends = async {
            let (mut accepted, mut dropped) = (Vec::new(), 0);
            for n in 0..600_u64 {
                let times = n as usize % 3;
                let is_sent = match n % 3 {
                    0 => polled(outbox.send(n), times).await.map(Result::unwrap),
                    1 => polled(outbox.reserve(), times).await.map(|permit| permit.unwrap().send(n).unwrap()),
                    _ => {
                        let _drained = polled(outbox.drained(), times).await;
                        polled(outbox.send(n), times).await.map(Result::unwrap)
                    }
                };
                if is_sent.is_some() { accepted.push(n) } else { dropped += 1 }
            }
            drop(outbox);
            (accepted, dropped)
        };
        let receives = async {
            let (mut all, mut times) = (Vec::new(), 0);
            loop {
                times += 1;
                let came = match times % 3 {
                    0 => polled(returned.recv(), times % 4).await,
                    1 => polled(returned.recv_ack(), times % 4).await.map(|it| it.map(Delivery::ack)),
                    _ => polled(returned.recv_many(&mut all, 3), times % 4).await.and_then(|count| (count == 0).then_some(None)),
                };
                match came {
                    Some(Some(n)) => all.push(n),
                    Some(None) => return all,
                    None => {}
                }
            }
        };
        let ((accepted, dropped), all) = in_time(async { tokio::join!(sends, receives) }).await;
        assert!(dropped > 0 && accepted.len() > 100, "{dropped} were dropped");
        assert_eq!(all, accepted);
        in_time(child).await.unwrap();
    }

    /// Each runtime has those woken that wait in it; one that nobody drives keeps no others from what they wait for.
    fn several_runtimes() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let idle = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // It begins to wait, and then nobody drives it.
        let waits = idle.block_on(asleep({ let inbox = inbox.clone(); async move { inbox.recv().await } }));
        let threads = [runtime::Builder::new_current_thread(), runtime::Builder::new_multi_thread()].map(|mut builder| {
            let inbox = inbox.clone();
            let counts = async move { inbox.fold(0_u64, async |count, _| count + 1).await };
            std::thread::spawn(move || builder.enable_all().build().unwrap().block_on(counts))
        });
        for n in 0..300 {
            outbox.blocking_send(n).unwrap();
        }
        runtime::Runtime::new().unwrap().block_on(in_time(outbox.drained()));
        outbox.close();
        let all: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!((all, idle.block_on(waits).unwrap()), (300, None));
    }

    /// Whoever waits until all is done with hears that nobody is there any more who could.
    async fn drained_without_receivers() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        outbox.send(1).await.unwrap();
        let holder = holder(&inbox).await;
        drop(inbox);
        outbox.send(2).await.unwrap();
        let draining = asleep({ let outbox = outbox.clone(); async move { outbox.drained().await } }).await;
        kill(holder).await;
        in_time(draining).await.unwrap();
        assert!(outbox.is_closed());
    }
}
