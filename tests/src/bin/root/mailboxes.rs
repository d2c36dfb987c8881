//! A mailbox under random kills: what was sent comes, once, in the order in which each sender has sent it.
//!
//! Those that send and receive tell it through a pipe of the system. A write is never cut, so that what comes through it comes in
//! the order in which it was done: that a message was sent is told behind that, and so is that it was received.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex as Locked};
use std::thread;
use std::time::Duration;

use futures::future::join_all;
use procession::mailbox::{Delivery, Receiver, Sender};
use procession::shared::Event;
use procession::{Failure, Passed, Process, mailbox, process};
use procession_tests::patience;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::random::Random;

const SENDERS: usize = 8;
const RECEIVERS: usize = 4;
const CAPACITY: usize = 64;
/// How long to wait for what is to come.
const LIMIT: Duration = Duration::from_secs(20);
/// How many messages there are for each kill, on the average.
const MESSAGES: u64 = 2000;

/// How messages are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Mode {
    Plain,
    Acknowledged,
}

/// Which one it is, of which sender, and bytes that are as many as that says.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    sender: u64,
    number: u64,
    bytes: ByteBuf,
}

impl Message {
    fn new(sender: u64, number: u64) -> Self {
        let length = match number % 32 {
            0 => 3000,
            1 => 1072,
            rest => rest as usize * 8,
        };
        Self { sender, number, bytes: ByteBuf::from(vec![number as u8; length]) }
    }

    fn is_whole(&self) -> bool {
        self.bytes == Self::new(self.sender, self.number).bytes
    }
}

/// What somebody tells.
#[derive(Debug, Clone, Copy)]
struct Word {
    kind: u64,
    who: u64,
    sender: u64,
    number: u64,
    deliveries: u64,
}

const SENT: u64 = 0;
const RECEIVED: u64 = 1;
/// It is about to acknowledge it.
const ACKNOWLEDGES: u64 = 2;
const BROKEN: u64 = 3;

impl Word {
    const LENGTH: usize = 40;

    fn write(self, to: &mut File) -> Result<(), Failure> {
        let words = [self.kind, self.who, self.sender, self.number, self.deliveries];
        Ok(to.write_all(&words.map(u64::to_le_bytes).concat())?)
    }

    fn read(from: &mut impl Read) -> Option<Self> {
        let mut bytes = [0; Self::LENGTH];
        from.read_exact(&mut bytes).ok()?;
        let (numbers, _) = bytes.as_chunks();
        let [kind, who, sender, number, deliveries] = std::array::from_fn(|n| u64::from_le_bytes(numbers[n]));
        Some(Self { kind, who, sender, number, deliveries })
    }
}

/// Sends until it is over, by all the ways that there are; some it gives up.
#[process]
async fn sends(
    outbox: Sender<Message>,
    over: Event,
    tells: Passed<OwnedFd>,
    sender: u64,
) -> Result<(), Failure> {
    let mut tells = File::from(tells.into_inner()?);
    let mut random = Random(sender);
    let mut number = 1;
    while !over.is_set() {
        let message = Message::new(sender, number);
        let is_sent = match random.below(4) {
            0 => outbox.try_send(message).is_ok(),
            1 => {
                let wait = Duration::from_micros(random.below(300));
                timeout(wait, outbox.send(message)).await.is_ok_and(|sent| sent.is_ok())
            }
            2 => outbox.reserve().await?.send(message).is_ok(),
            _ => outbox.send(message).await.is_ok(),
        };
        if is_sent {
            Word { kind: SENT, who: sender, sender, number, deliveries: 0 }.write(&mut tells)?;
            number += 1;
        } else {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Receives until there are no senders any more; gives some back, if that can be.
#[process]
async fn receives(
    inbox: Receiver<Message>,
    mode: Mode,
    tells: Passed<OwnedFd>,
    who: u64,
) -> Result<(), Failure> {
    let mut tells = File::from(tells.into_inner()?);
    let mut random = Random(who);
    loop {
        if random.below(8) == 0 {
            let wait = Duration::from_micros(random.below(300));
            // Given up, or not: what was received is told.
            match mode {
                Mode::Plain => {
                    if let Ok(Some(message)) = timeout(wait, inbox.recv()).await {
                        received(&message, who, 1, &mut tells)?;
                    }
                }
                Mode::Acknowledged => {
                    if let Ok(Some(delivery)) = timeout(wait, inbox.recv_ack()).await {
                        acknowledge(delivery, who, &mut random, &mut tells)?;
                    }
                }
            }
        }
        match mode {
            Mode::Plain => {
                let Some(message) = inbox.recv().await else { return Ok(()) };
                received(&message, who, 1, &mut tells)?;
            }
            Mode::Acknowledged => {
                let Some(delivery) = inbox.recv_ack().await else { return Ok(()) };
                acknowledge(delivery, who, &mut random, &mut tells)?;
            }
        }
    }
}

fn received(message: &Message, who: u64, deliveries: u64, tells: &mut File) -> Result<(), Failure> {
    let kind = if message.is_whole() { RECEIVED } else { BROKEN };
    Word { kind, who, sender: message.sender, number: message.number, deliveries }.write(tells)
}

fn acknowledge(
    delivery: Delivery<Message>,
    who: u64,
    random: &mut Random,
    tells: &mut File,
) -> Result<(), Failure> {
    let deliveries = delivery.deliveries();
    received(&delivery, who, deliveries, tells)?;
    if random.below(16) == 0 {
        return Ok(());
    }
    let Message { sender, number, .. } = *delivery;
    Word { kind: ACKNOWLEDGES, who, sender, number, deliveries }.write(tells)?;
    delivery.ack();
    Ok(())
}

/// Those that were killed, before they were.
type Killed = Arc<Locked<HashSet<u64>>>;

/// What was told of the messages of a sender.
#[derive(Debug, Default)]
struct Of {
    /// How many were sent.
    sent: u64,
    /// How often each was delivered, and who was about to acknowledge it.
    received: BTreeMap<u64, u64>,
    acknowledged: BTreeMap<u64, u64>,
}

/// What is true by what was told.
struct Told {
    mode: Mode,
    killed: Killed,
    by_sender: BTreeMap<u64, Of>,
    /// The last number that each receiver had of each sender.
    last: BTreeMap<(u64, u64), u64>,
    sent: u64,
    received: u64,
    again: u64,
    progress: watch::Sender<u64>,
}

impl Told {
    fn take(&mut self, word: Word) {
        match word.kind {
            SENT => self.sent(word),
            RECEIVED => self.received(word),
            ACKNOWLEDGES => self.acknowledges(word),
            _ => panic!("a message was not what was sent: {word:?}"),
        }
        // Each receiver may have one that it has not told of, and so may each that was killed.
        let untold = RECEIVERS + self.killed.lock().unwrap().len();
        let queued = self.sent.saturating_sub(self.received);
        assert!(queued <= (CAPACITY + untold) as u64, "{queued} are queued: more than there is room for");
    }

    fn sent(&mut self, word: Word) {
        let of = self.by_sender.entry(word.sender).or_default();
        assert_eq!(word.number, of.sent + 1, "what {word:?} tells comes in order");
        of.sent += 1;
        self.sent += 1;
    }

    fn received(&mut self, word: Word) {
        let of = self.by_sender.entry(word.sender).or_default();
        let times = of.received.insert(word.number, word.deliveries).unwrap_or_default();
        assert!(times < word.deliveries, "{word:?} came before, for the {times}. time");
        let done_by = of.acknowledged.get(&word.number);
        assert!(
            done_by.is_none_or(|who| self.killed.lock().unwrap().contains(who)),
            "{word:?} was acknowledged by {done_by:?}"
        );
        if word.deliveries == 1 {
            let last = self.last.insert((word.who, word.sender), word.number).unwrap_or_default();
            assert!(last < word.number, "{word:?} comes after {last}");
        }
        if times == 0 {
            self.received += 1;
            self.progress.send_if_modified(|received| {
                *received += 1;
                *received % 16 == 0
            });
        }
        self.again += u64::from(word.deliveries > 1);
    }

    fn acknowledges(&mut self, word: Word) {
        let of = self.by_sender.entry(word.sender).or_default();
        of.acknowledged.insert(word.number, word.who);
    }

    fn finish(self, killed_receivers: usize) {
        let Self { sent, received, again, .. } = self;
        let mut lost = 0;
        for (sender, of) in &self.by_sender {
            let done: BTreeSet<_> = match self.mode {
                Mode::Plain => of.received.keys().collect(),
                Mode::Acknowledged => of.acknowledged.keys().collect(),
            };
            lost += (1..=of.sent).filter(|number| !done.contains(number)).count();
            // The one that a killed sender was about to tell of.
            let most = of.sent + u64::from(self.killed.lock().unwrap().contains(sender));
            let last = of.received.keys().next_back().copied().unwrap_or_default();
            assert!(last <= most, "{sender} has sent {most} at most, and number {last} came");
        }
        println!("{sent} sent, {received} received, {again} once more, {lost} lost");
        let may_be_lost = if self.mode == Mode::Plain { killed_receivers } else { 0 };
        assert!(lost <= may_be_lost, "{lost} are lost, with {killed_receivers} receivers killed");
        assert!(self.mode == Mode::Plain || again > 0, "none came once more");
    }
}

/// What all of them have.
struct Scene {
    mode: Mode,
    outbox: Option<Sender<Message>>,
    inbox: Receiver<Message>,
    over: Event,
    tells: Passed<OwnedFd>,
    killed: Killed,
    killed_receivers: usize,
    random: Random,
    count: u64,
    /// How many were received.
    progress: watch::Receiver<u64>,
}

type Child = (u64, Process<Result<(), Failure>>);

impl Scene {
    async fn start(&mut self, sends_some: bool) -> Child {
        self.count += 1;
        let (number, tells) = (self.count, self.tells.clone());
        let child = if sends_some {
            let outbox = self.outbox.clone().unwrap();
            sends(outbox, self.over.clone(), tells, number).spawn().await
        } else {
            receives(self.inbox.clone(), self.mode, tells, number).spawn().await
        };
        (number, child.unwrap())
    }

    /// Waits until so many more were received.
    async fn more(&mut self, count: u64) {
        let least = *self.progress.borrow() + count;
        let more = timeout(patience(LIMIT), self.progress.wait_for(|received| *received >= least)).await;
        more.unwrap_or_else(|_| panic!("nothing comes any more: {:?}", self.inbox)).unwrap();
    }

    async fn kills(&mut self, kills: u64) {
        let mut living = Vec::new();
        for n in 0..SENDERS + RECEIVERS {
            living.push(self.start(n < SENDERS).await);
        }
        let mut stopped: Option<Pid> = None;
        for _ in 0..kills {
            let messages = self.random.below(2 * MESSAGES);
            self.more(messages).await;
            if let Some(stopped) = stopped.take() {
                // It may have been killed since.
                let _gone = kill_process(stopped, Signal::CONT);
            }
            let victim = self.random.below((SENDERS + RECEIVERS) as u64) as usize;
            self.killed.lock().unwrap().insert(living[victim].0);
            self.killed_receivers += usize::from(victim >= SENDERS);
            living[victim].1.kill().await.unwrap();
            living[victim] = self.start(victim < SENDERS).await;
            if self.random.below(3) == 0 {
                let other = &living[self.random.below((SENDERS + RECEIVERS) as u64) as usize].1;
                let pid = Pid::from_raw(other.pid().cast_signed()).unwrap();
                kill_process(pid, Signal::STOP).unwrap();
                stopped = Some(pid);
            }
        }
        self.more(MESSAGES).await;
        if let Some(stopped) = stopped {
            kill_process(stopped, Signal::CONT).unwrap();
        }
        self.ends(living).await;
    }

    /// Has all come to their end: first those that send, of which the last one ends it for the others.
    async fn ends(&mut self, mut living: Vec<Child>) {
        self.over.set();
        self.outbox = None;
        let ended =
            timeout(patience(LIMIT), join_all(living.iter_mut().map(|(_, child)| child.join()))).await;
        let ended = ended.unwrap_or_else(|_| panic!("somebody waits for ever: {:?}", self.inbox));
        ended.into_iter().for_each(|ended| ended.unwrap().unwrap());
        assert!(self.inbox.is_empty() && !self.inbox.is_full(), "something stays: {:?}", self.inbox);
    }
}

async fn run(mode: Mode, kills: u64, seed: u64) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (outbox, inbox) = mailbox::<Message>(CAPACITY).unwrap();
    let killed = Killed::default();
    let (tells, progress) = watch::channel(0);
    let mut told = Told {
        mode,
        killed: Arc::clone(&killed),
        by_sender: BTreeMap::new(),
        last: BTreeMap::new(),
        sent: 0,
        received: 0,
        again: 0,
        progress: tells,
    };
    let reads = thread::spawn(move || {
        let mut reader = BufReader::new(File::from(OwnedFd::from(reader)));
        while let Some(word) = Word::read(&mut reader) {
            told.take(word);
        }
        told
    });
    let mut scene = Scene {
        mode,
        outbox: Some(outbox),
        inbox,
        over: Event::new().unwrap(),
        tells: Passed::new(writer.into()).unwrap(),
        killed,
        killed_receivers: 0,
        random: Random(seed),
        count: 0,
        progress,
    };
    scene.kills(kills).await;
    let killed_receivers = scene.killed_receivers;
    drop(scene);
    reads.join().unwrap().finish(killed_receivers);
}

/// Kills so many of eight processes that send and four that receive, half of them while messages are to be acknowledged.
#[tokio::main]
pub(crate) async fn mailboxes(kills: u64, seed: u64) {
    run(Mode::Plain, kills.div_ceil(2), seed).await;
    run(Mode::Acknowledged, kills / 2, seed).await;
}
