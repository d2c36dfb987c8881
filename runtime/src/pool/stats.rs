//! What a pool has done, and what it is doing.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a pool has done, and what it is doing: made by [`Pool::stats`](super::Pool::stats). Written out it is a table, and it can be serialised.
///
/// Numbers are of items: each task that was handed over singly, and each item of a map. Of a pool whose workers are [threads](super::Builder::local),
/// and of a handle in another process, only `queued`, `unfinished` and `done` are told.
///
/// # Examples
/// ```
/// use procession::{Pool, process};
///
/// #[process]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let pool = Pool::new(2).await?;
/// pool.map(square, 0..1000).await?;
/// let stats = pool.stats();
/// assert_eq!((stats.workers.len(), stats.done, stats.queued), (2, 1000, 0));
/// println!("{stats}");
/// # Ok(())
/// # }
/// ```
///
/// prints, with other numbers:
///
/// ```text
/// worker       pid  state       tasks       busy       idle      start       init      memory
/// pool-1     16138  idle          507    4.20 ms   12.21 ms    2.36 ms    0.81 us     5.1 MiB
/// pool-2     16139  idle          493    1.49 ms   12.14 ms    4.45 ms    0.83 us     5.1 MiB
/// 1000 done, 0 with workers, 0 queued, 0 workers starting
/// 30.16 us in square (pid 16138, item 0)
/// 25.95 us in square (pid 16139, item 1)
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// The workers that are there, in the order in which they were started.
    pub workers: Vec<WorkerStats>,
    /// Workers that are being started.
    pub starting: usize,
    /// Items that wait for a worker.
    pub queued: usize,
    /// Items that workers have, and that are not done.
    pub unfinished: usize,
    /// Items that are done, by workers that have ended, too.
    pub done: u64,
    /// Why workers have ended, and how many of them for each reason. One that a range could do without `was not needed any more`; one that was recycled
    /// `had done as many tasks as it may`, or `had more memory than it may`.
    pub ended: BTreeMap<String, u64>,
    /// The tasks that have taken longest, the slowest first: at most eight.
    pub slowest: Vec<Slow>,
}

/// A worker of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its name.
    pub name: String,
    /// The id of its process.
    pub pid: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// Items that it has done.
    pub tasks: u64,
    /// How long it has been running tasks that are done. The one that it is in counts when it is done.
    pub busy: Duration,
    /// The rest of the time since it was ready.
    pub idle: Duration,
    /// How long it took to start.
    pub start: Duration,
    /// How long it took to do what it does [first](super::Builder::init).
    pub init: Duration,
    /// Its resident memory, in bytes; `None` if it has just ended.
    pub memory: Option<u64>,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WorkerState {
    /// It has nothing to do.
    Idle,
    /// It runs tasks.
    Busy,
    /// It ends when it has done what it has.
    Leaving,
    /// It waits to take the place of one that ends.
    Spare,
}

/// A task that has taken long. Of those that went to their worker in one piece it is the average.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slow {
    /// Its [name](crate::Call::name), or its function's.
    pub name: String,
    /// Which item of its map it was, if it went to its worker by itself.
    pub item: Option<u64>,
    /// How long it took.
    pub took: Duration,
    /// The id of its worker's process.
    pub pid: u32,
}

/// How many of the slowest tasks are remembered.
const REMEMBERED: usize = 8;

/// The tasks that have taken longest.
#[derive(Debug, Default)]
pub(super) struct Slowest(Vec<Slow>);

impl Slowest {
    /// Remembers a task, if it is one of them.
    pub(super) fn see(&mut self, name: &str, item: Option<u64>, took: Duration, pid: u32) {
        if self.0.len() == REMEMBERED && self.0.last().is_some_and(|last| last.took >= took) {
            return;
        }
        let at = self.0.partition_point(|slow| slow.took >= took);
        self.0.insert(at, Slow { name: name.to_owned(), item, took, pid });
        self.0.truncate(REMEMBERED);
    }

    /// The slower ones of these and others.
    pub(super) fn merge(&mut self, others: &Self) {
        others.0.iter().for_each(|slow| self.see(&slow.name, slow.item, slow.took, slow.pid));
    }

    pub(super) fn into_inner(self) -> Vec<Slow> {
        self.0
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Leaving => "leaving",
            Self::Spare => "spare",
        })
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.workers.iter().map(|worker| worker.name.chars().count()).max().unwrap_or(0).max(6);
        writeln!(
            f,
            "{:width$}  {:>8}  {:7}  {:>8}  {:>9}  {:>9}  {:>9}  {:>9}  {:>10}",
            "worker", "pid", "state", "tasks", "busy", "idle", "start", "init", "memory"
        )?;
        for worker in &self.workers {
            let WorkerStats { name, pid, state, tasks, busy, idle, start, init, memory } = worker;
            let memory = memory
                .map_or_else(|| "?".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0));
            let [busy, idle, start, init] = [busy, idle, start, init].map(|time| short(*time));
            writeln!(
                f,
                "{name:width$}  {pid:>8}  {state:7}  {tasks:>8}  {busy:>9}  {idle:>9}  {start:>9}  {init:>9}  {memory:>10}"
            )?;
        }
        let Self { queued, unfinished, done, starting, .. } = self;
        write!(f, "{done} done, {unfinished} with workers, {queued} queued, {starting} workers starting")?;
        for (why, count) in &self.ended {
            write!(f, "\n{count} ended: {}", Plain(why))?;
        }
        for Slow { name, item, took, pid } in &self.slowest {
            write!(f, "\n{} in {} (pid {pid}", short(*took), Plain(name))?;
            item.map_or(Ok(()), |item| write!(f, ", item {item}"))?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// What another process may have told, without the power to move a cursor.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char.is_control() {
            true => write!(f, "{}", char.escape_default()),
            false => f.write_char(char),
        })
    }
}

fn short(time: Duration) -> String {
    match time {
        time if time >= Duration::from_secs(1) => format!("{:.2} s", time.as_secs_f64()),
        time if time >= Duration::from_millis(1) => format!("{:.2} ms", time.as_secs_f64() * 1e3),
        time => format!("{:.2} us", time.as_secs_f64() * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_are_remembered() {
        let mut slowest = Slowest::default();
        (0..100).for_each(|n| slowest.see("f", None, Duration::from_millis(n * 7 % 100), 1));
        let mut other = Slowest::default();
        other.see("g", Some(7), Duration::from_secs(1), 2);
        slowest.merge(&other);
        let slowest = slowest.into_inner();
        let times: Vec<u128> = slowest.iter().map(|slow| slow.took.as_millis()).collect();
        assert_eq!(times, [1000, 99, 98, 97, 96, 95, 94, 93]);
        assert_eq!((slowest[0].name.as_str(), slowest[0].item, slowest[0].pid), ("g", Some(7), 2));
    }

    #[test]
    fn a_table() {
        let worker = WorkerStats {
            name: "pool-1".into(),
            pid: 4711,
            state: WorkerState::Busy,
            tasks: 3,
            busy: Duration::from_millis(1500),
            idle: Duration::from_micros(1500),
            start: Duration::from_micros(800),
            init: Duration::ZERO,
            memory: Some(3 << 19),
        };
        let slow = Slow { name: "parse".into(), item: None, took: Duration::from_secs(1), pid: 4711 };
        let item = Slow { item: Some(17), name: "a\x1b[2J\nü".into(), ..slow.clone() };
        let stats = Stats {
            workers: vec![worker],
            done: 3,
            ended: BTreeMap::from([("was killed by SIGKILL".into(), 2)]),
            slowest: vec![slow, item],
            ..Stats::default()
        };
        let lines = [
            "worker       pid  state       tasks       busy       idle      start       init      memory",
            "pool-1      4711  busy            3     1.50 s    1.50 ms  800.00 us    0.00 us     1.5 MiB",
            "3 done, 0 with workers, 0 queued, 0 workers starting",
            "2 ended: was killed by SIGKILL",
            "1.00 s in parse (pid 4711)",
            "1.00 s in a\\u{1b}[2J\\nü (pid 4711, item 17)",
        ];
        assert_eq!(stats.to_string(), lines.join("\n"));
    }
}
