//! Messages through mailboxes, between processes that are there: round trips, one after the other or each after a pause, and one
//! way from some that send to some that receive; each beside the least that it can cost. All runtimes are current-thread.
//!
//! The ratios come from turns, by the clock, and by the time of processors in all processes, which a busy machine blurs less. Where
//! processes run is not left to chance: on one core, or those that send on one, and those that receive on another.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

mod ours;
mod samples;

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use procession::{Failure, Passed, Pipe, process};
use procession_bench::limit::{
    self, FramedOneWay, FramedRoundTrip, Queue, Rings, SharedQueue, SharedWords, Words,
};
use procession_bench::{
    Contender, Cores, Crowd, Peer, Pinned, compare_all, cost, cost_after_pauses, each_time,
};
use serde_bytes::ByteArray;
use tokio::runtime::{Builder, Runtime};

use ours::{CAPACITY, RoundTrip};
use samples::Sample;

/// How often contenders take turns, how many messages a turn has, and how long each of them waits before, if it does.
#[derive(Debug, Clone, Copy)]
struct Turns {
    rounds: usize,
    messages: u64,
    pause: Option<Duration>,
}

const ROUND_TRIPS: Turns = Turns { rounds: 60, messages: 400, pause: None };
/// Long enough that nobody looks any more: both sides sleep.
const FROM_SLEEP: Turns = Turns { rounds: 60, messages: 50, pause: Some(Duration::from_micros(300)) };
const ONE_WAY: Turns = Turns { rounds: 60, messages: 40_000, pause: None };

#[process]
async fn answer_rings(ours: Passed<OwnedFd>, theirs: Passed<OwnedFd>, core: usize) -> Result<(), Failure> {
    limit::answer_rings(ours, theirs, core).await
}

#[process]
async fn answer_words(shared: SharedWords, core: usize) -> Result<(), Failure> {
    limit::answer_words(shared, core).await
}

#[process]
async fn echo_frames(socket: Passed<UnixStream>, core: usize) -> Result<(), Failure> {
    limit::echo_frames(socket, core).await
}

#[process]
async fn push(pipe: Pipe<u64, u64>, queue: SharedQueue, length: usize, core: usize) -> Result<(), Failure> {
    let (queue, message) = (queue.open()?, vec![1; length]);
    let push = async |times| {
        for _ in 0..times {
            queue.push(black_box(&message)).await?;
        }
        Ok(())
    };
    each_time(pipe, core, push).await
}

#[process]
async fn pop(pipe: Pipe<u64, u64>, queue: SharedQueue, length: usize, core: usize) -> Result<(), Failure> {
    let (queue, mut message) = (queue.open()?, vec![0; length]);
    let pop = async |times| {
        for _ in 0..times {
            queue.pop(&mut message).await?;
            black_box(&message);
        }
        Ok(())
    };
    each_time(pipe, core, pop).await
}

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let bench = Bench::new(&runtime);
    for cores in [Cores::One, Cores::Two] {
        bench.round_trips(cores)?;
    }
    bench.alone::<ByteArray<64>>()?;
    bench.one_way::<ByteArray<8>>([1, 1])?;
    bench.one_way::<ByteArray<64>>([1, 1])?;
    bench.one_way::<[u64; 8]>([1, 1])?;
    bench.one_way::<ByteArray<1024>>([1, 1])?;
    bench.one_way::<ByteArray<8>>([4, 1])?;
    bench.one_way::<ByteArray<64>>([4, 1])?;
    bench.one_way::<ByteArray<1024>>([4, 1])?;
    bench.one_way::<ByteArray<64>>([2, 2])
}

/// What every group needs.
struct Bench<'a> {
    runtime: &'a Runtime,
    /// Without `--bench`, which `cargo bench` gives, it is only tried whether everything runs.
    measures: bool,
    /// Which groups, if not all: those whose names have the first argument in them.
    wanted: Option<String>,
}

impl<'a> Bench<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        let measures = std::env::args().any(|argument| argument == "--bench");
        let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
        Self { runtime, measures, wanted }
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| name.contains(wanted))
    }

    fn round_trips(&self, cores: Cores) -> io::Result<()> {
        let (name, there) = (format!("round trip, cores: {cores:?}"), cores.there()?);
        if !self.wants(&name) {
            return Ok(());
        }
        let mut ours = self.runtime.block_on(RoundTrip::start(there))?;
        let rings = Rings::start(|first, second| answer_rings(first, second, there));
        let mut rings = self.runtime.block_on(rings)?;
        let mut words = self.runtime.block_on(Words::start(|shared| answer_words(shared, there)))?;
        let framed = FramedRoundTrip::start(|socket| echo_frames(socket, there));
        let mut framed = self.runtime.block_on(framed)?;

        let _pinned = Pinned::to(cores.here()?)?;
        self.compare(&format!("{name}, ours / eventfds"), ROUND_TRIPS, &mut ours, &mut rings);
        self.compare(&format!("{name}, ours / looks, then eventfds"), ROUND_TRIPS, &mut ours, &mut words);
        self.compare(&format!("{name}, ours / framed"), ROUND_TRIPS, &mut ours, &mut framed);
        if cores == Cores::Two {
            // On one core both sleep anyway: here those above compare one that looks with one that sleeps.
            let what = format!("{name}, each after a pause, ours / eventfds");
            self.compare(&what, FROM_SLEEP, &mut ours, &mut rings);
        }
        self.end(ours)?;
        self.end(rings)?;
        self.end(words)?;
        self.end(framed)
    }

    /// What the steps of a message take where nobody else has touched the memory: the most of it that is ours.
    fn alone<T: Sample>(&self) -> io::Result<()> {
        let name = format!("there and back in one task, {}", T::NAME);
        if !self.wants(&name) {
            return Ok(());
        }
        let mut ours = ours::Alone::new(T::new(false))?;
        let open = async { SharedQueue::new(CAPACITY, size_of::<T>() / 8)?.open() };
        let mut queue =
            AloneInQueue { queue: self.runtime.block_on(open)?, peer: Peer::default(), message: [1; 8] };
        let _pinned = Pinned::to(Cores::One.here()?)?;
        self.compare(&format!("{name}, ours / queue"), ONE_WAY, &mut ours, &mut queue);
        Ok(())
    }

    fn one_way<T: Sample>(&self, [senders, receivers]: [usize; 2]) -> io::Result<()> {
        let name = format!("one way, {senders} to {receivers}, {}", T::NAME);
        if !self.wants(&name) {
            return Ok(());
        }
        let (here, there) = (Cores::Two.here()?, Cores::Two.there()?);
        let mut ours = self.runtime.block_on(ours::one_way::<T>([senders, receivers], here, there))?;
        let mut many =
            self.runtime.block_on(ours::one_way_by_many::<T>([senders, receivers], here, there))?;
        let queue = queue([senders, receivers], size_of::<T>() / 8, here, there);
        let mut queue = self.runtime.block_on(queue)?;
        let framed = FramedOneWay::start(T::new(false), T::new(true), |socket| T::take_framed(socket, here));
        let mut framed = self.runtime.block_on(framed)?;

        let _pinned = Pinned::to(there)?;
        self.compare(&format!("{name}, ours / queue"), ONE_WAY, &mut ours, &mut queue);
        self.compare(&format!("{name}, ours by recv_many / queue"), ONE_WAY, &mut many, &mut queue);
        if [senders, receivers] == [1, 1] {
            self.compare(&format!("{name}, ours / framed"), ONE_WAY, &mut ours, &mut framed);
        }
        self.end(ours)?;
        self.end(many)?;
        self.end(queue)?;
        self.end(framed)
    }

    /// In turns.
    fn compare(&self, what: &str, turns: Turns, first: &mut impl Contender, second: &mut impl Contender) {
        let turns = if self.measures { turns } else { Turns { rounds: 1, messages: 100, ..turns } };
        let both = compare_all(turns.rounds, || self.cost(turns, first), || self.cost(turns, second));
        let [elapsed, used] = both.map(|comparison| comparison.of_each(turns.messages));
        println!("{what}: {elapsed}");
        println!("    of processors: {used}");
    }

    fn cost(&self, Turns { messages, pause, .. }: Turns, contender: &mut impl Contender) -> [Duration; 2] {
        let cost = match pause {
            Some(pause) => cost_after_pauses(self.runtime, contender, messages, pause),
            None => cost(self.runtime, contender, messages),
        };
        cost.expect("the children are up")
    }

    fn end(&self, contender: impl Contender) -> io::Result<()> {
        self.runtime.block_on(contender.into_peer().end())
    }
}

/// One task that sends to itself.
struct AloneInQueue {
    queue: Queue,
    message: [u64; 8],
    peer: Peer,
}

impl Contender for AloneInQueue {
    async fn run(&mut self, times: u64) -> io::Result<()> {
        for _ in 0..times {
            self.queue.push(black_box(&self.message)).await?;
            self.queue.pop(&mut self.message).await?;
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

async fn queue(counts: [usize; 2], length: usize, here: usize, there: usize) -> io::Result<Crowd> {
    let shared = SharedQueue::new(CAPACITY, length)?;
    let send = |pipe| push(pipe, shared.clone(), length, there);
    Crowd::start(counts, send, |pipe| pop(pipe, shared.clone(), length, here)).await
}
