//! Mailboxes whose processes are killed, stopped, forked, or leave: requirements 22 to 24, and what CPython's queues suffer from.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "libtest captures it, and shows it where the test fails")]

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{PipeReader, Write};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{FutureExt, poll};
use procession::mailbox::{Builder, Handles, Receiver, SendError, Sender, TryRecvError, TrySendError};
use procession::{Failure, Passed, Process, ProcessSet, mailbox, pipe, process, simplex};
use procession_tests::{eventually_async, in_time, isolated, open_fds, state};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix;

const SECOND: Duration = Duration::from_secs(1);

async fn kill<T>(mut child: Process<T>) {
    child.signaler().kill().unwrap();
    child.wait().await.unwrap();
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Says that it has begun, and sends the numbers from one to another, each with who it is.
#[process]
async fn sends(outbox: Sender<(u64, u64)>, who: u64, count: u64) -> Result<(), Failure> {
    for n in 0..count {
        outbox.send((who, n)).await?;
    }
    Ok(())
}

/// Blocks in a send, of which it gives what came.
#[process]
async fn blocks(outbox: Sender<u64>, mut begins: pipe::Sender<()>) -> Result<Option<u64>, Failure> {
    begins.send(()).await?;
    match outbox.send(7).await {
        Err(SendError::Closed(message)) => Ok(Some(message)),
        _ => Ok(None),
    }
}

/// Does so on a thread that knows of no runtime.
#[process]
fn blocks_plainly(outbox: Sender<u64>) -> bool {
    matches!(outbox.blocking_send(7), Err(SendError::Closed(7)))
}

#[process]
async fn receives_one(inbox: Receiver<u64>, mut begins: pipe::Sender<()>) -> Result<Option<u64>, Failure> {
    begins.send(()).await?;
    Ok(inbox.recv().await)
}

/// Waits for a message, says so when it has found none and sleeps, and gives what comes.
#[process]
async fn sleeps_until_one(inbox: Receiver<u64>, sleeps: pipe::Sender<()>) -> Result<Option<u64>, Failure> {
    Ok(says_when_asleep(inbox.recv(), sleeps).await)
}

/// Waits for a future, and says when it sleeps: from then on nothing but a wake-up has it look again. The first that waits in a process
/// begins to watch for deaths, which has it look a second time.
async fn says_when_asleep<F: Future>(future: F, sleeps: pipe::Sender<()>) -> F::Output {
    let (mut future, mut sleeps, mut looks) = (pin!(future), Some(sleeps), 0);
    poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        looks += 1;
        if polled.is_pending()
            && looks == 2
            && let Some(mut sleeps) = sleeps.take()
        {
            // By another task, or this one would look again.
            tokio::spawn(async move { sleeps.send(()).await });
        }
        polled
    })
    .await
}

/// Passes on what comes, and says each time that it sleeps before it does.
#[process]
async fn passes_on(inbox: Receiver<u64>, outbox: Sender<Option<u64>>) -> Result<(), Failure> {
    loop {
        let mut receiving = pin!(inbox.recv());
        if poll!(&mut receiving).is_ready() {
            return Err(std::io::Error::other("there was nothing to wait for").into());
        }
        outbox.send(None).await?;
        let Some(n) = receiving.await else { return Ok(()) };
        outbox.send(Some(n)).await?;
    }
}

/// Receives one, says which, and keeps its end.
#[process]
async fn keeps(inbox: Receiver<u64>, mut told: pipe::Sender<Option<u64>>) -> Result<(), Failure> {
    told.send(inbox.recv().await).await?;
    std::future::pending().await
}

/// Floods the one, and takes from the other what comes, all at the same time.
#[process]
async fn floods(outbox: Sender<u64>, inbox: Receiver<u64>, count: u64) -> u64 {
    let sends = async {
        for n in 0..count {
            outbox.send(n).await.unwrap();
        }
        drop(outbox);
    };
    let receives = async {
        let mut sum = 0;
        for _ in 0..count {
            sum += inbox.recv().await.unwrap();
        }
        sum
    };
    tokio::join!(sends, receives).1
}

/// Holds a message and room for one, and uses up the copies of both in a fork; gives whether they are what they were, and how the fork
/// has ended. Then it leaves with the message.
#[process]
#[expect(clippy::mem_forget, reason = "it is to be held until the process has ended")]
async fn forks_inside(outbox: Sender<u64>, inbox: Receiver<u64>) -> (bool, i32) {
    let mut delivery = inbox.recv_ack().await;
    let mut permit = Some(outbox.reserve().await.unwrap());
    let code = fork_and(|| {
        let is_refused = permit.take().unwrap().send(8).is_err();
        let message = delivery.take().unwrap().ack();
        i32::from(!is_refused || message != 7)
    });
    let is_theirs = inbox.is_full() && inbox.is_empty();
    std::mem::forget(delivery);
    (is_theirs && permit.unwrap().send(9).is_ok(), code)
}

/// Runs something in a fork of this process; gives how that has ended.
#[expect(unsafe_code, reason = "it is what a user may do")]
fn fork_and(does: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child allocates nothing that others hold, and leaves by `_exit`.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let code = does();
            // SAFETY: it runs nothing of this program any more.
            unsafe { nix::libc::_exit(code) }
        }
        nix::unistd::ForkResult::Parent { child } => match nix::sys::wait::waitpid(child, None).unwrap() {
            nix::sys::wait::WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        },
    }
}

/// Receives one to be acknowledged and leaves with it.
#[process]
#[expect(clippy::exit, reason = "that is what it is about")]
async fn exits_inside(inbox: Receiver<u64>) {
    let _delivery = inbox.recv_ack().await.unwrap();
    std::process::exit(0)
}

/// Receives one to be acknowledged, says so, and keeps it.
#[process]
async fn keeps_one(inbox: Receiver<u64>, mut told: pipe::Sender<()>) -> Result<(), Failure> {
    let _delivery = inbox.recv_ack().await;
    told.send(()).await?;
    std::future::pending().await
}

/// Reserves room, says so, and keeps it.
#[process]
async fn keeps_room(outbox: Sender<u64>, mut told: pipe::Sender<()>) -> Result<(), Failure> {
    let _permit = outbox.reserve().await?;
    told.send(()).await?;
    std::future::pending().await
}

/// Takes each item of an endless input, as long as there is room for it; tells how many it has taken.
#[process]
async fn reads_ahead(outbox: Sender<u64>, mut told: pipe::Sender<u64>) -> Result<(), Failure> {
    for n in 0.. {
        told.send(n).await?;
        if outbox.send(n).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// All that can be waited for.
const WAYS: [&str; 8] = ["send", "reserve", "drained", "closed", "recv", "recv_ack", "recv_many", "poisoned"];

/// Sleeps in one of the ways of those that have both ends; gives how many messages it had of it.
#[process]
async fn waits_by(way: String, outbox: Sender<u64>, inbox: Receiver<u64>, sleeps: pipe::Sender<()>) -> usize {
    if ["send", "reserve", "drained", "closed"].contains(&&*way) {
        return wait_to_send(&way, &outbox, sleeps).await;
    }
    wait_to_receive(&way, &inbox, sleeps).await
}

#[process]
async fn sends_by(way: String, outbox: Sender<u64>, sleeps: pipe::Sender<()>) -> usize {
    wait_to_send(&way, &outbox, sleeps).await
}

#[process]
async fn receives_by(way: String, inbox: Receiver<u64>, sleeps: pipe::Sender<()>) -> usize {
    wait_to_receive(&way, &inbox, sleeps).await
}

#[process]
async fn keeps_sender(outbox: Sender<u64>) {
    let _outbox = outbox;
    std::future::pending().await
}

/// Gives how many were sent.
async fn wait_to_send(way: &str, outbox: &Sender<u64>, sleeps: pipe::Sender<()>) -> usize {
    match way {
        "send" => says_when_asleep(outbox.send(7), sleeps).await.is_ok().into(),
        "reserve" => says_when_asleep(outbox.reserve(), sleeps).await.is_ok().into(),
        "drained" => says_when_asleep(outbox.drained().map(|()| 0), sleeps).await,
        _ => says_when_asleep(outbox.closed().map(|()| 0), sleeps).await,
    }
}

/// Gives how many came.
async fn wait_to_receive(way: &str, inbox: &Receiver<u64>, sleeps: pipe::Sender<()>) -> usize {
    match way {
        "recv" => says_when_asleep(inbox.recv(), sleeps).await.is_some().into(),
        "recv_ack" => says_when_asleep(inbox.recv_ack(), sleeps).await.is_some().into(),
        "recv_many" => says_when_asleep(inbox.recv_many(&mut Vec::new(), 3), sleeps).await,
        _ => says_when_asleep(inbox.poisoned(), sleeps).await.is_some().into(),
    }
}

/// A message with a handle: which one it is, and the writing end of a pipe of its own.
type Carried = (u64, Passed<OwnedFd>);

/// Sends back what comes, with its handle.
#[process]
async fn returns(inbox: Receiver<Carried, Handles>, outbox: Sender<Carried, Handles>) -> Result<(), Failure> {
    while let Some(message) = inbox.recv().await {
        outbox.send(message).await?;
    }
    Ok(())
}

/// Numbers without a pattern, which a seed repeats.
struct Random(u64);

impl Random {
    const fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % most
    }
}

fn seed() -> u64 {
    let seed = std::env::var("PROCESSION_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("PROCESSION_SEED={seed}");
    seed
}

/// How many messages each of many sends.
fn messages() -> u64 {
    std::env::var("PROCESSION_MESSAGES").map_or(20_000, |count| count.parse().unwrap())
}

/// How many messages with handles a mailbox of them has room for.
const ROOM: usize = 6;

/// The next message; keeps the other end of its pipe.
fn carried(readers: &mut Vec<PipeReader>) -> Carried {
    let (reader, writer) = std::io::pipe().unwrap();
    readers.push(reader);
    (readers.len() as u64 - 1, Passed::new(writer.into()).unwrap())
}

/// All was received, and what the dead had in their hands takes up no room.
async fn has_all_its_room(outbox: &Sender<Carried, Handles>, readers: &mut Vec<PipeReader>) {
    in_time(outbox.drained()).await;
    for _ in 0..ROOM {
        outbox.try_send(carried(readers)).unwrap();
    }
    in_time(outbox.drained()).await;
}

/// Sends messages with handles to three workers, of which it kills one now and then, and starts another one. Gives the other ends of
/// their pipes, when nothing is on its way any more.
async fn sends_and_kills(
    (outbox, inbox): (Sender<Carried, Handles>, Receiver<Carried, Handles>),
    back: Sender<Carried, Handles>,
    kills: usize,
) -> Vec<PipeReader> {
    let (mut random, mut readers, mut killed) = (Random(seed() << 1 | 1), Vec::new(), 0);
    let start = async || returns(inbox.clone(), back.clone()).spawn().await.unwrap();
    let mut workers = vec![start().await, start().await, start().await];
    while killed < kills {
        in_time(outbox.send(carried(&mut readers))).await.unwrap();
        if random.below(8) == 0 {
            kill(workers.remove(random.below(3) as usize)).await;
            workers.push(start().await);
            killed += 1;
        }
    }
    has_all_its_room(&outbox, &mut readers).await;
    outbox.close();
    for worker in workers {
        in_time(worker).await.unwrap().unwrap();
    }
    has_all_its_room(&back, &mut readers).await;
    back.close();
    readers
}

isolated! {
    /// Forty of those that carry handles from one mailbox to another are killed: each handle comes back once, or is lost with one that
    /// was killed, and closed then. Nothing of them stays, and no room for messages is lost.
    #[limit(300)]
    async fn handles_under_random_kills() {
        const KILLS: usize = 40;
        let before = open_fds().len();
        let there = Builder::new(ROOM).build_with_handles().unwrap();
        let (back, came) = Builder::new(ROOM).build_with_handles::<Carried>().unwrap();
        let receives = async {
            let mut all = Vec::new();
            while let Some((n, handle)) = came.recv().await {
                File::from(handle.into_inner().unwrap()).write_all(&n.to_le_bytes()).unwrap();
                all.push(n);
            }
            all
        };
        let (readers, mut all) = tokio::join!(sends_and_kills(there, back, KILLS), receives);
        drop(came);
        all.sort_unstable();
        assert!(all.is_sorted_by(|one, other| one < other), "one came twice: {all:?}");
        let lost = readers.len() - all.len();
        assert!(lost <= KILLS, "{lost} of {} are lost with {KILLS} that were killed", readers.len());
        for (n, reader) in (0_u64..).zip(readers) {
            // It is the one that was sent with that number, and nobody has another: else its end does not come.
            let (mut reader, mut bytes) = (unix::pipe::Receiver::from_owned_fd(reader.into()).unwrap(), Vec::new());
            in_time(reader.read_to_end(&mut bytes)).await.unwrap();
            let expected = if all.binary_search(&n).is_ok() { n.to_le_bytes().to_vec() } else { Vec::new() };
            assert_eq!(bytes, expected, "{n}");
        }
        eventually_async(20 * SECOND, || open_fds().len() == before).await;
    }

    /// Eight that send and four that receive are killed one after the other, and stopped: the history is that of a queue.
    /// `.ci/chaos` kills more.
    #[limit(300)]
    fn random_kills() {
        let root = Command::new(env!("CARGO_BIN_EXE_root")).args(["mailboxes", "50", &seed().to_string()]).output();
        let root = root.unwrap();
        println!("{}", String::from_utf8_lossy(&root.stdout));
        assert!(root.status.success(), "{}", String::from_utf8_lossy(&root.stderr));
    }

    /// 22: eight that send, one that receives, and room for 64: all of it comes, once, and in the order of each.
    /// `PROCESSION_MESSAGES` says how many of each; `.ci/chaos` sends a million.
    #[limit(900)]
    async fn rr22_eight_senders() {
        let each = messages();
        let (outbox, inbox) = mailbox(64).unwrap();
        let mut senders = ProcessSet::new();
        for who in 0..8 {
            senders.spawn(sends(outbox.clone(), who, each)).await.unwrap();
        }
        drop(outbox);
        let mut next = [0; 8];
        while let Some((who, n)) = in_time(inbox.recv()).await {
            assert_eq!(n, next[who as usize]);
            next[who as usize] += 1;
            assert!(inbox.len() <= 64);
        }
        assert_eq!(next, [each; 8]);
        while let Some(ended) = senders.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    /// 23: the last one that receives is killed: all that wait for room get their messages back.
    async fn rr23_receiver_killed() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let (told, mut is_told) = simplex().unwrap();
        let receiver = keeps(inbox, told).spawn().await.unwrap();
        outbox.send(1).await.unwrap();
        assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(Some(1)));
        outbox.send(2).await.unwrap();
        let mut blocked = Vec::new();
        for _ in 0..3 {
            let (begins, mut begun) = simplex().unwrap();
            blocked.push(blocks(outbox.clone(), begins).spawn().await.unwrap());
            in_time(begun.recv()).await.unwrap().unwrap();
        }
        let plain = blocks_plainly(outbox.clone()).spawn().await.unwrap();
        kill(receiver).await;
        for child in blocked {
            assert_eq!(in_time(child).await.unwrap().unwrap(), Some(7));
        }
        assert!(in_time(plain).await.unwrap());
        in_time(outbox.closed()).await;
        assert!(matches!(outbox.try_send(3), Err(TrySendError::Closed(3))));
    }

    /// 24: two flood each other, with mailboxes that are full all the time.
    async fn rr24_two_that_flood() {
        let (to_one, of_one) = mailbox::<u64>(2).unwrap();
        let (to_other, of_other) = mailbox::<u64>(2).unwrap();
        let one = floods(to_other, of_one, 3000).spawn().await.unwrap();
        let other = floods(to_one, of_other, 3000).spawn().await.unwrap();
        let sums = in_time(join_all([one, other])).await;
        assert!(sums.into_iter().all(|sum| sum.unwrap() == 2999 * 1500));
    }

    /// F2: who waits idly for work and is killed keeps nobody else from it, fifty times.
    #[limit(180)]
    async fn f02_idle_worker_killed() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        for n in 0..50 {
            let (begins, mut begun) = simplex().unwrap();
            let idle = receives_one(inbox.clone(), begins).spawn().await.unwrap();
            in_time(begun.recv()).await.unwrap().unwrap();
            kill(idle).await;
            in_time(outbox.send(n)).await.unwrap();
            assert_eq!(in_time(inbox.recv()).await, Some(n));
        }
    }

    /// F2: of two that sleep one is killed, and the other one is woken by what comes next; thirty times, in every third of which
    /// it comes while the one that is killed is stopped, so that it is told and does nothing about it.
    #[limit(180)]
    async fn f02_idle_worker_killed_beside_another() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        let (passes, passed) = mailbox(4).unwrap();
        let worker = passes_on(inbox.clone(), passes).spawn().await.unwrap();
        assert_eq!(in_time(passed.recv()).await, Some(None));
        for n in 0..30 {
            let (sleeps, mut asleep) = simplex().unwrap();
            let idle = sleeps_until_one(inbox.clone(), sleeps).spawn().await.unwrap();
            in_time(asleep.recv()).await.unwrap().unwrap();
            let idle = if n % 3 == 0 {
                send(idle.pid(), Signal::STOP);
                eventually_async(20 * SECOND, || state(idle.pid()) == Some('T')).await;
                Some(idle)
            } else {
                kill(idle).await;
                None
            };
            in_time(outbox.send(n)).await.unwrap();
            assert_eq!(in_time(passed.recv()).await, Some(Some(n)));
            assert_eq!(in_time(passed.recv()).await, Some(None));
            if let Some(idle) = idle {
                kill(idle).await;
            }
        }
        outbox.close();
        in_time(worker).await.unwrap().unwrap();
    }

    /// F3: of those that wait one is killed: the others get what comes next, and nothing is lost.
    async fn f03_one_of_those_that_wait_killed() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let (begins, mut begun) = simplex().unwrap();
            waiting.push(receives_one(inbox.clone(), begins).spawn().await.unwrap());
            in_time(begun.recv()).await.unwrap().unwrap();
        }
        kill(waiting.remove(0)).await;
        in_time(outbox.send(1)).await.unwrap();
        in_time(outbox.send(2)).await.unwrap();
        let mut came = Vec::new();
        for child in waiting {
            came.push(in_time(child).await.unwrap().unwrap());
        }
        came.sort_unstable();
        assert_eq!(came, [Some(1), Some(2)]);
    }

    /// F18: an endless input is never read further ahead than there is room for.
    async fn f18_backpressure() {
        let (outbox, inbox) = mailbox::<u64>(8).unwrap();
        let (told, mut is_told) = simplex().unwrap();
        let child = reads_ahead(outbox.clone(), told).spawn().await.unwrap();
        for n in 0..200 {
            while in_time(is_told.recv()).await.unwrap().unwrap() < n + 8 {}
            // As many as it has sent, and the one that waits.
            eventually_async(20 * SECOND, || inbox.is_full()).await;
            assert!(is_told.try_recv().is_err(), "it has read further");
            assert_eq!(in_time(inbox.recv()).await, Some(n));
        }
        inbox.close();
        drop(is_told);
        drop(in_time(child).await);
    }

    /// F22: what was sent is there, as long as nobody receives it.
    async fn f22_empty_does_not_lie() {
        let (outbox, inbox) = mailbox(300).unwrap();
        for n in 0..300 {
            outbox.send(n).await.unwrap();
            assert!(inbox.len() == n + 1 && !inbox.is_empty() && outbox.len() == n + 1);
        }
    }

    /// What a dead one held comes before the end of what is there without end: also to who never sleeps, and so never waits for a death.
    async fn what_the_dead_held_does_not_wait_for_the_end() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        outbox.send(0).await.unwrap();
        let (told, mut is_told) = simplex().unwrap();
        let mut child = keeps_one(inbox.clone(), told).spawn().await.unwrap();
        in_time(is_told.recv()).await.unwrap().unwrap();
        outbox.send(1).await.unwrap();
        child.kill().await.unwrap();
        let until = Instant::now() + 30 * SECOND;
        for next in 2.. {
            assert!(Instant::now() < until, "it has not come behind {next} others");
            outbox.try_send(next).unwrap();
            if inbox.try_recv().unwrap() == 0 {
                break;
            }
        }
    }

    /// F26, QU12: to close it ends all that wait for a message, in every process.
    async fn f26_close_ends_all_that_wait() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        // It takes part from here on: who sleeps looks again when somebody joins.
        drop(outbox.try_reserve().unwrap());
        let mut waiting = Vec::new();
        for _ in 0..6 {
            let (sleeps, mut asleep) = simplex().unwrap();
            waiting.push(sleeps_until_one(inbox.clone(), sleeps).spawn().await.unwrap());
            in_time(asleep.recv()).await.unwrap().unwrap();
        }
        let here = tokio::spawn({ let inbox = inbox.clone(); async move { inbox.recv().await } });
        let plain = std::thread::spawn({ let inbox = inbox.clone(); move || inbox.blocking_recv() });
        assert!(outbox.close());
        for child in waiting {
            assert_eq!(in_time(child).await.unwrap().unwrap(), None);
        }
        assert_eq!((in_time(here).await.unwrap(), plain.join().unwrap()), (None, None));
    }

    /// F26: each way to wait ends, of a process that sleeps alone, where nothing else could wake it.
    async fn f26_close_ends_each_wait() {
        for way in WAYS {
            let is_full = ["send", "reserve", "drained"].contains(&way);
            let (outbox, inbox) = Builder::new(1).max_deliveries(1).build::<u64>().unwrap();
            // It takes part from here on: who sleeps looks again when somebody joins.
            drop(outbox.try_reserve().unwrap());
            if is_full {
                outbox.send(1).await.unwrap();
            }
            let (sleeps, mut asleep) = simplex().unwrap();
            let child = waits_by(way.to_owned(), outbox.clone(), inbox.clone(), sleeps).spawn().await.unwrap();
            in_time(asleep.recv()).await.unwrap().unwrap();
            assert!(outbox.close());
            if way == "drained" {
                // That is not the end of it: what is queued can still be received.
                assert_eq!(in_time(inbox.recv()).await, Some(1));
            }
            assert_eq!(in_time(child).await.unwrap(), 0, "{way}");
        }
    }

    /// 23: each way to wait for those that receive, of a process that is alone in it: it has to hear by itself that the last one was killed.
    async fn rr23_each_wait_of_a_sender() {
        for way in ["send", "reserve", "drained", "closed"] {
            let (outbox, inbox) = mailbox::<u64>(1).unwrap();
            let (told, mut is_told) = simplex().unwrap();
            let receiver = keeps(inbox, told).spawn().await.unwrap();
            outbox.send(1).await.unwrap();
            assert_eq!(in_time(is_told.recv()).await.unwrap(), Some(Some(1)));
            outbox.try_send(2).unwrap();
            let (sleeps, mut asleep) = simplex().unwrap();
            let child = sends_by(way.to_owned(), outbox.clone(), sleeps).spawn().await.unwrap();
            in_time(asleep.recv()).await.unwrap().unwrap();
            kill(receiver).await;
            assert_eq!(in_time(child).await.unwrap(), 0, "{way}");
        }
    }

    /// The same for those that receive, and the last one that sends.
    async fn rr23_each_wait_of_a_receiver() {
        for way in ["recv", "recv_ack", "recv_many", "poisoned"] {
            let (outbox, inbox) = Builder::new(1).max_deliveries(1).build::<u64>().unwrap();
            let sender = keeps_sender(outbox).spawn().await.unwrap();
            let (sleeps, mut asleep) = simplex().unwrap();
            let child = receives_by(way.to_owned(), inbox.clone(), sleeps).spawn().await.unwrap();
            in_time(asleep.recv()).await.unwrap().unwrap();
            kill(sender).await;
            assert_eq!(in_time(child).await.unwrap(), 0, "{way}");
        }
    }

    /// QU16: to close it again does nothing, and its descriptors are given back with its last end.
    async fn qu16_close_twice() {
        let fds = open_fds().len();
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        assert!(inbox.close() && !inbox.close() && !outbox.close());
        assert!(inbox.is_empty() && outbox.is_empty() && matches!(inbox.try_recv(), Err(TryRecvError::Closed)));
        drop((outbox, inbox));
        eventually_async(20 * SECOND, || open_fds().len() == fds).await;
    }

    /// A fork that the program makes by itself has copies of a permit and of a delivery, and neither the room nor the message.
    async fn a_fork_with_a_permit_and_a_delivery() {
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        outbox.send(7).await.unwrap();
        assert_eq!(in_time(forks_inside(outbox.clone(), inbox.clone())).await.unwrap(), (true, 0));
        // That it has ended is heard some time later.
        let mut came = Vec::new();
        for _ in 0..2 {
            let delivery = in_time(inbox.recv_ack()).await.unwrap();
            came.push((*delivery, delivery.deliveries()));
            delivery.ack();
        }
        came.sort_unstable();
        assert_eq!(came, [(7, 2), (9, 1)]);
        outbox.try_send(1).unwrap();
        outbox.try_send(2).unwrap();
    }

    async fn exit_with_a_delivery() {
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        outbox.send(7).await.unwrap();
        in_time(exits_inside(inbox.clone())).await.unwrap_err();
        let delivery = in_time(inbox.recv_ack()).await.unwrap();
        assert!(delivery.is_redelivered() && delivery.ack() == 7);
    }

    /// Room that a dead one has reserved is for who waits for it, and for who asks only.
    async fn permits_of_the_dead() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        for n in 0..4 {
            let (told, mut is_told) = simplex().unwrap();
            let child = keeps_room(outbox.clone(), told).spawn().await.unwrap();
            in_time(is_told.recv()).await.unwrap().unwrap();
            assert!(matches!(outbox.try_send(9), Err(TrySendError::Full(9))));
            if n % 2 == 0 {
                let sending = tokio::spawn({ let outbox = outbox.clone(); async move { outbox.send(n).await } });
                kill(child).await;
                in_time(sending).await.unwrap().unwrap();
            } else {
                kill(child).await;
                outbox.try_send(n).unwrap();
            }
            assert_eq!(in_time(inbox.recv()).await, Some(n));
        }
    }

    /// What was received on one thread is acknowledged on another.
    async fn acknowledged_on_another_thread() {
        let (outbox, inbox) = mailbox::<u64>(1).unwrap();
        for n in 0..20 {
            in_time(outbox.send(n)).await.unwrap();
            let delivery = in_time(inbox.recv_ack()).await.unwrap();
            let thread = std::thread::spawn(move || if n % 2 == 0 { Some(delivery.ack()) } else { None });
            assert_eq!(thread.join().unwrap(), (n % 2 == 0).then_some(n));
            if n % 2 == 1 {
                assert_eq!(in_time(inbox.recv_ack()).await.unwrap().ack(), n);
            }
        }
    }

    /// One that is stopped while it waits, or has room, or has a message in its hands, keeps others from nothing else.
    async fn stopped_ones() {
        let (outbox, inbox) = mailbox::<u64>(3).unwrap();
        let (told, mut is_told) = simplex().unwrap();
        let has_room = keeps_room(outbox.clone(), told).spawn().await.unwrap();
        in_time(is_told.recv()).await.unwrap().unwrap();
        let (begins, mut begun) = simplex().unwrap();
        let waits = receives_one(inbox.clone(), begins).spawn().await.unwrap();
        in_time(begun.recv()).await.unwrap().unwrap();
        send(has_room.pid(), Signal::STOP);
        send(waits.pid(), Signal::STOP);
        for n in 0..100 {
            in_time(outbox.send(n)).await.unwrap();
            in_time(outbox.send(n)).await.unwrap();
            assert!(matches!(outbox.try_send(n), Err(TrySendError::Full(_))));
            assert_eq!((in_time(inbox.recv()).await, in_time(inbox.recv()).await), (Some(n), Some(n)));
        }
        send(waits.pid(), Signal::CONT);
        in_time(outbox.send(7)).await.unwrap();
        assert_eq!(in_time(waits).await.unwrap().unwrap(), Some(7));
        kill(has_room).await;
    }
}
