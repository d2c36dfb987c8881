//! Messages through pipes, between two processes that are there: round trips, one way, long bodies, handles; each
//! beside the least that it can cost. All runtimes are current-thread.
//!
//! As in `start`, criterion shows how a contender develops, and the ratios at the end come from turns. Each comes twice:
//! by the clock, and by the time of processors in both processes, which a busy machine blurs less. Where both processes
//! run is not left to chance: on one core, or each on its own.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

mod ours;
mod samples;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use procession::{Failure, Passed, process};
use procession_bench::limit::{self, FramedOneWay, FramedRoundTrip, Rights, SharedSlabs, Slabs, Streamed};
use procession_bench::{Contender, Cores, Pinned, compare_all, cost};
use serde_bytes::ByteArray;
use tokio::runtime::{Builder, Runtime};

use samples::Sample;

/// How often contenders take turns, and how many messages a turn has.
#[derive(Debug, Clone, Copy)]
struct Turns {
    rounds: usize,
    messages: u64,
}

const ROUND_TRIPS: Turns = Turns { rounds: 100, messages: 200 };
const SMALL: Turns = Turns { rounds: 100, messages: 50_000 };

/// Lengths of bodies. A turn has several, so that both sides work at the same time.
const BODIES: [(&str, usize, Turns); 3] = [
    ("64 KiB", 64 << 10, Turns { rounds: 100, messages: 500 }),
    ("1 MiB", 1 << 20, Turns { rounds: 100, messages: 50 }),
    ("64 MiB", 64 << 20, Turns { rounds: 25, messages: 5 }),
];

#[process]
async fn echo_frames(socket: Passed<UnixStream>, core: usize) -> Result<(), Failure> {
    limit::echo_frames(socket, core).await
}

#[process]
async fn echo_rights(socket: Passed<UnixStream>, core: usize) -> Result<(), Failure> {
    limit::echo_rights(socket, core).await
}

#[process]
async fn read_bodies(socket: Passed<UnixStream>, length: usize, core: usize) -> Result<(), Failure> {
    limit::read_bodies(socket, length, core).await
}

#[process]
async fn empty_slabs(shared: SharedSlabs, core: usize) -> Result<(), Failure> {
    limit::empty_slabs(shared, core).await
}

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut bench = Bench::new(&runtime);
    for cores in [Cores::One, Cores::Two] {
        bench.round_trips(cores)?;
    }
    bench.one_way::<ByteArray<8>>()?;
    bench.one_way::<ByteArray<64>>()?;
    bench.one_way::<[u64; 8]>()?;
    bench.one_way::<ByteArray<1024>>()?;
    for (name, length, turns) in BODIES {
        bench.bodies(name, length, turns)?;
    }
    for cores in [Cores::One, Cores::Two] {
        bench.handles(cores)?;
    }
    bench.criterion.final_summary();
    Ok(())
}

/// What every group needs.
struct Bench<'a> {
    criterion: Criterion,
    runtime: &'a Runtime,
    /// Whether ratios are wanted: without `--bench`, which `cargo bench` gives, criterion only tries whether everything
    /// runs, and it can be told to let a profiler watch.
    compares: bool,
    /// Of which groups, if not of all: as criterion, of those whose names have the first argument in them.
    wanted: Option<String>,
}

impl<'a> Bench<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        let is_given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        let compares = is_given("--bench") && !is_given("--profile-time");
        let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
        Self { criterion: Criterion::default().configure_from_args(), runtime, compares, wanted }
    }

    fn round_trips(&mut self, cores: Cores) -> io::Result<()> {
        let (here, there) = (cores.here()?, cores.there()?);
        let ours = self.runtime.block_on(ours::RoundTrip::start(there))?;
        let framed = FramedRoundTrip::start(|socket| echo_frames(socket, there));
        let framed = self.runtime.block_on(framed)?;

        let group = self.group(&format!("round trip, cores: {cores:?}"), ROUND_TRIPS, here)?;
        group.both(ours, "framed", framed)
    }

    fn one_way<T: Sample>(&mut self) -> io::Result<()> {
        let (here, there) = (Cores::Two.here()?, Cores::Two.there()?);
        let (message, last) = (T::new(false), T::new(true));
        let ours = ours::OneWay::start(message.clone(), last.clone(), |pipe| T::take(pipe, there));
        let ours = self.runtime.block_on(ours)?;
        let framed = FramedOneWay::start(message, last, |socket| T::take_framed(socket, there));
        let framed = self.runtime.block_on(framed)?;

        let group = self.group(&format!("one way, {}", T::NAME), SMALL, here)?;
        group.both(ours, "framed", framed)
    }

    fn bodies(&mut self, name: &str, length: usize, turns: Turns) -> io::Result<()> {
        let (here, there) = (Cores::Two.here()?, Cores::Two.there()?);
        let mut ours = self.runtime.block_on(ours::bodies(length, there))?;
        let mut into = self.runtime.block_on(ours::Raw::start(length, there))?;
        let streamed = Streamed::start(length, |socket| read_bodies(socket, length, there));
        let mut streamed = self.runtime.block_on(streamed)?;
        let slabs = Slabs::start(length, |shared| empty_slabs(shared, there));
        let mut slabs = self.runtime.block_on(slabs)?;

        let mut group = self.group(&format!("one way, {name}"), turns, here)?;
        group.alone("ours, Bytes", &mut ours);
        group.alone("ours, into a buffer", &mut into);
        group.alone("limit: stream", &mut streamed);
        group.alone("limit: slabs", &mut slabs);
        group.compare("Bytes / stream", &mut ours, &mut streamed)?;
        group.compare("Bytes / slabs", &mut ours, &mut slabs)?;
        group.compare("into a buffer / stream", &mut into, &mut streamed)?;
        group.compare("into a buffer / slabs", &mut into, &mut slabs)?;
        drop(group);
        self.end(ours)?;
        self.end(into)?;
        self.end(streamed)?;
        self.end(slabs)
    }

    fn handles(&mut self, cores: Cores) -> io::Result<()> {
        let (here, there) = (cores.here()?, cores.there()?);
        let some_file = || File::open("/dev/null").map(OwnedFd::from);
        let ours = self.runtime.block_on(ours::Handles::start(some_file()?, there))?;
        let rights = Rights::start(some_file()?, |socket| echo_rights(socket, there));
        let rights = self.runtime.block_on(rights)?;

        let group = self.group(&format!("handle there and back, cores: {cores:?}"), ROUND_TRIPS, here)?;
        group.both(ours, "SCM_RIGHTS", rights)
    }

    fn end(&self, contender: impl Contender) -> io::Result<()> {
        self.runtime.block_on(contender.into_peer().end())
    }

    /// Contenders that are there already, measured with this thread on a core.
    fn group(&mut self, name: &str, turns: Turns, core: usize) -> io::Result<Group<'_>> {
        let mut group = self.criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3)).sample_size(30);
        let compares = self.compares && self.wanted.as_ref().is_none_or(|wanted| name.contains(wanted));
        Ok(Group {
            name: name.into(),
            group,
            turns,
            compares,
            runtime: self.runtime,
            _pinned: Pinned::to(core)?,
        })
    }
}

/// Contenders for the same work.
struct Group<'a> {
    name: String,
    group: BenchmarkGroup<'a, WallTime>,
    turns: Turns,
    compares: bool,
    runtime: &'a Runtime,
    _pinned: Pinned,
}

impl Group<'_> {
    /// For criterion.
    fn alone(&mut self, name: &str, contender: &mut impl Contender) {
        let runtime = self.runtime;
        self.group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                runtime.block_on(contender.run(times)).expect("the child is up");
                start.elapsed()
            });
        });
    }

    /// Ours, beside the least that it can cost.
    fn both(mut self, mut ours: impl Contender, name: &str, mut limit: impl Contender) -> io::Result<()> {
        self.alone("ours", &mut ours);
        self.alone(&format!("limit: {name}"), &mut limit);
        self.compare(&format!("ours / {name}"), &mut ours, &mut limit)?;
        let runtime = self.runtime;
        drop(self);
        runtime.block_on(ours.into_peer().end())?;
        runtime.block_on(limit.into_peer().end())
    }

    /// In turns.
    fn compare(&self, what: &str, first: &mut impl Contender, second: &mut impl Contender) -> io::Result<()> {
        if !self.compares {
            return Ok(());
        }
        let Turns { rounds, messages } = self.turns;
        let both = compare_all(
            rounds,
            || cost(self.runtime, first, messages).expect("the child is up"),
            || cost(self.runtime, second, messages).expect("the child is up"),
        );
        let [elapsed, used] = both.map(|comparison| comparison.of_each(messages));
        println!("{}, {what}: {elapsed}", self.name);
        println!("    of processors: {used}");
        Ok(())
    }
}
