//! Tasks in a pool, beside the least that they can cost: two processes that take them from a queue in shared memory, and two
//! threads. All runtimes are current-thread.
//!
//! The ratios come from turns, by the clock, and by the time of processors in all processes, which a busy machine blurs less. Where
//! threads and processes run is left to the system, as it is in a program that has a pool.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

mod limits;
mod ours;

use std::io;

use procession::{Failure, process};
use procession_bench::limit::{SharedSlabs, Slabs, empty_slabs};
use procession_bench::{Contender, Cores, compare_all, cost};
use tokio::runtime::{Builder, Runtime};

use limits::{Queues, Threads, WINDOW, WORKERS, Work};
use ours::{How, Ours};

/// How often contenders take turns, and how many tasks a turn has.
#[derive(Debug, Clone, Copy)]
struct Turns {
    rounds: usize,
    tasks: u64,
}

const TRIVIAL: Turns = Turns { rounds: 20, tasks: 100_000 };
const ALONE: Turns = Turns { rounds: 30, tasks: 1000 };
const LONG: Turns = Turns { rounds: 8, tasks: 200 };
const LARGE: Turns = Turns { rounds: 20, tasks: 100 };

/// How the cost of a task develops with their number.
const GROWTH: [Turns; 4] = [
    Turns { rounds: 100, tasks: 1000 },
    Turns { rounds: 40, tasks: 10_000 },
    Turns { rounds: 16, tasks: 100_000 },
    Turns { rounds: 4, tasks: 1_000_000 },
];

const MEBIBYTE: usize = 1 << 20;

#[process]
async fn empty(shared: SharedSlabs, core: usize) -> Result<(), Failure> {
    empty_slabs(shared, core).await
}

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let bench = Bench::new(&runtime);
    bench.trivial("map", How::Map)?;
    bench.trivial("map, fn", How::MapPlain)?;
    bench.trivial("map, one by one", How::MapByOne)?;
    bench.trivial("map, fn, one by one", How::MapPlainByOne)?;
    bench.trivial("submit", How::Submit)?;
    bench.trivial("run", How::Run)?;
    bench.alone()?;
    bench.long("tasks that sleep 5 ms", How::MapSleep, Work::Sleep)?;
    bench.long("tasks that are busy for 5 ms", How::MapSpin, Work::Spin)?;
    bench.large("arguments of 1 MiB", How::Arguments(MEBIBYTE), 1)?;
    bench.large("results of 1 MiB", How::Results(MEBIBYTE), 1)?;
    bench.large("arguments and results of 1 MiB", How::Both(MEBIBYTE), 2)?;
    bench.growth("map", How::Map)?;
    bench.growth("map, one by one", How::MapByOne)
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

    fn trivial(&self, name: &str, how: How) -> io::Result<()> {
        let name = format!("trivial tasks, {name}");
        if !self.wants(&name) {
            return Ok(());
        }
        let mut ours = self.runtime.block_on(Ours::start(how, WORKERS))?;
        let mut queues = self.runtime.block_on(Queues::start(Work::Square, WINDOW))?;
        self.compare(&format!("{name}, ours / queues"), TRIVIAL, [1, 1], &mut ours, &mut queues);
        if how == How::Map {
            let mut threads = Threads::new(Work::Square);
            self.compare(&format!("{name}, ours / threads"), TRIVIAL, [1, 1], &mut ours, &mut threads);
        }
        self.end(ours)?;
        self.end(queues)
    }

    fn alone(&self) -> io::Result<()> {
        let name = "trivial tasks, each when the one before is done";
        if !self.wants(name) {
            return Ok(());
        }
        let mut ours = self.runtime.block_on(Ours::start(How::RunAlone, WORKERS))?;
        let mut queues = self.runtime.block_on(Queues::start(Work::Square, 1))?;
        self.compare(&format!("{name}, ours / queues"), ALONE, [1, 1], &mut ours, &mut queues);
        self.end(ours)?;
        self.end(queues)
    }

    fn long(&self, name: &str, how: How, work: Work) -> io::Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let mut ours = self.runtime.block_on(Ours::start(how, WORKERS))?;
        let mut threads = Threads::new(work);
        let mut queues = self.runtime.block_on(Queues::start(work, 2 * WORKERS))?;
        self.compare(&format!("{name}, ours / threads"), LONG, [1, 1], &mut ours, &mut threads);
        self.compare(&format!("{name}, ours / queues"), LONG, [1, 1], &mut ours, &mut queues);
        self.end(ours)?;
        self.end(queues)
    }

    /// With one worker: the slabs have one process to go to. There a body goes one way.
    fn large(&self, name: &str, how: How, ways: u64) -> io::Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let there = Cores::Two.there()?;
        let mut ours = self.runtime.block_on(Ours::start(how, 1))?;
        let slabs = Slabs::start(MEBIBYTE, |shared| empty(shared, there));
        let mut slabs = self.runtime.block_on(slabs)?;
        self.compare(&format!("{name}, ours / slabs"), LARGE, [1, ways], &mut ours, &mut slabs);
        self.end(ours)?;
        self.end(slabs)
    }

    fn growth(&self, name: &str, how: How) -> io::Result<()> {
        for turns in GROWTH {
            let name = format!("{} trivial tasks, {name}", turns.tasks);
            if !self.wants(&name) {
                continue;
            }
            let mut ours = self.runtime.block_on(Ours::start(how, WORKERS))?;
            let mut queues = self.runtime.block_on(Queues::start(Work::Square, WINDOW))?;
            self.compare(&format!("{name}, ours / queues"), turns, [1, 1], &mut ours, &mut queues);
            self.end(ours)?;
            self.end(queues)?;
        }
        Ok(())
    }

    /// In turns. A task is so many of the one's, and so many of the other's.
    fn compare(
        &self,
        what: &str,
        turns: Turns,
        [of_first, of_second]: [u64; 2],
        first: &mut impl Contender,
        second: &mut impl Contender,
    ) {
        let Turns { rounds, tasks } = if self.measures { turns } else { Turns { rounds: 1, tasks: 50 } };
        let both = compare_all(
            rounds,
            || cost(self.runtime, first, tasks * of_first).expect("the workers are up"),
            || cost(self.runtime, second, tasks * of_second).expect("the children are up"),
        );
        let [elapsed, used] = both.map(|comparison| comparison.of_each(tasks));
        println!("{what}: {elapsed}");
        println!("    of processors: {used}");
    }

    fn end(&self, contender: impl Contender) -> io::Result<()> {
        self.runtime.block_on(contender.into_peer().end())
    }
}
