//! What takes turns, and is measured.

use std::io;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use nix::time::ClockId;
use procession_bench::{Contender, Pinned, compare_all, cost};
use tokio::runtime::Runtime;

/// How often contenders take turns, and how often a turn does what is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns {
    pub(super) rounds: usize,
    pub(super) times: u64,
    /// How many of what is compared are done each time.
    pub(super) of: u64,
}

/// What every group needs.
pub(super) struct Bench<'a> {
    pub(super) criterion: Criterion,
    pub(super) runtime: &'a Runtime,
    /// Whether ratios are wanted: without `--bench`, which `cargo bench` gives, criterion only tries whether everything
    /// runs, and it can be told to let a profiler watch.
    compares: bool,
    /// Of which groups, if not of all: as criterion, of those whose names have the first argument in them.
    wanted: Option<String>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(runtime: &'a Runtime) -> Self {
        let is_given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        let compares = is_given("--bench") && !is_given("--profile-time");
        let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
        Self { criterion: Criterion::default().configure_from_args(), runtime, compares, wanted }
    }

    pub(super) fn end(&self, contender: impl Contender) -> io::Result<()> {
        self.runtime.block_on(contender.into_peer().end())
    }

    /// Whether a group is to be compared.
    pub(super) fn compares(&self, name: &str) -> bool {
        self.compares && self.wants(name)
    }

    /// Whether a group is to run.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| name.contains(wanted))
    }

    /// Contenders that are there already, measured with this thread on a core.
    pub(super) fn group(&mut self, name: &str, turns: Turns, core: usize) -> io::Result<Group<'_>> {
        let compares = self.compares(name);
        let mut group = self.criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2)).sample_size(20);
        let _pinned = Pinned::to(core)?;
        Ok(Group { name: name.into(), group, turns, compares, runtime: self.runtime, _pinned })
    }
}

/// Contenders for the same work.
pub(super) struct Group<'a> {
    name: String,
    group: BenchmarkGroup<'a, WallTime>,
    turns: Turns,
    compares: bool,
    pub(super) runtime: &'a Runtime,
    _pinned: Pinned,
}

impl Group<'_> {
    /// Two that have a child each: for criterion one by one, then in turns.
    pub(super) fn pair(
        &mut self,
        [ours, limit]: [&str; 2],
        first: &mut impl Contender,
        second: &mut impl Contender,
    ) -> io::Result<()> {
        self.alone(ours, first);
        self.alone(&format!("limit: {limit}"), second);
        self.compare(
            &format!("{ours} / {limit}"),
            |runtime, times| cost(runtime, first, times).expect("the child is up"),
            |runtime, times| cost(runtime, second, times).expect("the child is up"),
        );
        Ok(())
    }

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

    /// Two that this thread does alone, so many times.
    pub(super) fn alone_here(
        &mut self,
        [ours, limit]: [&str; 2],
        mut first: impl FnMut(u64),
        mut second: impl FnMut(u64),
    ) {
        self.group.bench_function(ours, |bencher| bencher.iter_custom(|times| here(&mut first, times)[0]));
        let name = format!("limit: {limit}, beside {ours}");
        self.group.bench_function(name, |bencher| bencher.iter_custom(|times| here(&mut second, times)[0]));
        let what = format!("{ours} / {limit}");
        self.compare(&what, |_, times| here(&mut first, times), |_, times| here(&mut second, times));
    }

    fn compare(
        &self,
        what: &str,
        mut first: impl FnMut(&Runtime, u64) -> [Duration; 2],
        mut second: impl FnMut(&Runtime, u64) -> [Duration; 2],
    ) {
        if !self.compares {
            return;
        }
        let Turns { rounds, times, of } = self.turns;
        let both = compare_all(rounds, || first(self.runtime, times), || second(self.runtime, times));
        // A picosecond is nothing that a `Duration` can say, and some of these take a few nanoseconds.
        let (count, unit) = match times * of {
            few @ ..1000 => (few, "for one"),
            many => (many / 1000, "for a thousand"),
        };
        let [elapsed, used] = both.map(|it| it.of_each(count));
        println!("{}, {what}, {unit}: {elapsed}", self.name);
        println!("    of processors: {used}");
    }
}

/// What something takes: by the clock, and of the processor.
fn here(run: &mut impl FnMut(u64), times: u64) -> [Duration; 2] {
    let used = || ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from);
    let (start, before) = (Instant::now(), used());
    run(times);
    [start.elapsed(), used().saturating_sub(before)]
}
