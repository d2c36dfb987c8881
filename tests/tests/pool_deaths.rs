//! Workers that die wherever that hurts: requirements 1, 3, 6, 7 and 9; conformance PO06, CF04, CF05; failures F1, F7, F8, F15.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "a seed repeats a run")]

#[path = "../src/bin/root/random.rs"]
mod random;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use procession::pipe::Sender;
use procession::pool::Task;
use procession::{Cause, Failure, Limits, Passed, Pool, ProcessError, process, simplex};
use procession_tests::{
    Isolated, NotPassed, eventually_async, in_time, info, is_root, isolated, needing, patience, repetitions,
};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::{sleep, timeout};

use self::random::Random;

const SECOND: Duration = Duration::from_secs(1);

fn send(pid: u32, signal: Signal) -> bool {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).is_ok()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

/// Where, on its way through a worker, a value ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Point {
    Nowhere,
    /// When half of it was read.
    Read,
    /// When it was read, before its function begins.
    Begin,
    Run,
    /// When its function lets go of it.
    Drop,
    /// Before it is written, when half of it was, and when it was.
    Write,
    HalfWritten,
    Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Killed,
    Exits,
    Aborts,
}

#[expect(clippy::exit, reason = "it is one of the ends")]
fn end(how: How) {
    if !procession::current().is_child() {
        return;
    }
    match how {
        How::Killed => kill_process(getpid(), Signal::KILL).unwrap(),
        How::Exits => std::process::exit(3),
        How::Aborts => std::process::abort(),
    }
}

/// A value that ends its worker at one point.
#[derive(Debug)]
struct Fatal {
    point: Point,
    how: How,
    n: u64,
    is_argument: bool,
}

impl Fatal {
    fn reaches(&self, point: Point) {
        if self.point == point {
            end(self.how);
        }
    }
}

impl Drop for Fatal {
    fn drop(&mut self) {
        self.reaches(if self.is_argument { Point::Drop } else { Point::Written });
    }
}

/// Ends its worker where it is written.
struct Half<'a>(&'a Fatal);

impl Serialize for Half<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.reaches(Point::HalfWritten);
        self.0.n.serialize(serializer)
    }
}

impl Serialize for Fatal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.reaches(Point::Write);
        ((self.point, self.how), vec![7_u64; 100], Half(self)).serialize(serializer)
    }
}

/// The first half of one, which ends its worker where that is read.
struct Early(Point, How);

impl<'de> Deserialize<'de> for Early {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (point, how) = <(Point, How)>::deserialize(deserializer)?;
        if point == Point::Read {
            end(how);
        }
        Ok(Self(point, how))
    }
}

impl<'de> Deserialize<'de> for Fatal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Early(point, how), _, n) = <(Early, Vec<u64>, u64)>::deserialize(deserializer)?;
        Ok(Self { point, how, n, is_argument: procession::current().is_child() })
    }
}

#[process]
fn passes(value: Fatal) -> Fatal {
    value.reaches(Point::Begin);
    value.reaches(Point::Run);
    let (point, how, n) = (value.point, value.how, value.n);
    drop(value);
    Fatal { point, how, n, is_argument: false }
}

/// The same with what waits in between.
#[process]
async fn passes_slowly(value: Fatal) -> Fatal {
    value.reaches(Point::Begin);
    tokio::task::yield_now().await;
    value.reaches(Point::Run);
    let (point, how, n) = (value.point, value.how, value.n);
    tokio::task::yield_now().await;
    drop(value);
    Fatal { point, how, n, is_argument: false }
}

const POINTS: [Point; 7] =
    [Point::Read, Point::Begin, Point::Run, Point::Drop, Point::Write, Point::HalfWritten, Point::Written];

fn is_the_end(error: &ProcessError, how: How) -> bool {
    match how {
        How::Killed => error.signal() == Some(9),
        How::Exits => error.exit_code() == Some(3),
        How::Aborts => error.signal() == Some(6),
    }
}

/// What cannot be written.
struct Unwritable(bool);

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 {
            Err(serde::ser::Error::custom("never written"))
        } else {
            serializer.serialize_bool(false)
        }
    }
}

impl<'de> Deserialize<'de> for Unwritable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bool::deserialize(deserializer).map(Self)
    }
}

#[process]
fn takes(_it: Unwritable) {}

#[process]
async fn square(n: u64) -> u64 {
    n * n
}

#[process]
fn pid() -> u32 {
    std::process::id()
}

/// A result that goes by the board, or by the link, with a handle among its arguments or without.
#[process]
fn fills(n: u64, _handle: Option<Passed<OwnedFd>>) -> Bytes {
    Bytes::from(vec![n as u8; length(n)])
}

const fn length(n: u64) -> usize {
    if n % 4 == 3 { 6000 } else { 10 }
}

/// Steps through so many instructions of a worker, and kills it there. Gives whether it could.
#[process]
fn steps(worker: u32, count: u64, mut begun: Sender<bool>) -> Result<(), Failure> {
    let worker = nix::unistd::Pid::from_raw(worker.cast_signed());
    let may = ptrace::seize(worker, ptrace::Options::empty()).is_ok();
    begun.blocking_send(may)?;
    begun.blocking_flush()?;
    if !may {
        return Ok(());
    }
    ptrace::interrupt(worker)?;
    let stopped = |status| !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
    let mut left = count;
    while stopped(waitpid(worker, Some(WaitPidFlag::__WALL))?) {
        match left.checked_sub(1) {
            Some(rest) => {
                left = rest;
                ptrace::step(worker, None)?;
            }
            None => kill_process(Pid::from_raw(worker.as_raw()).unwrap(), Signal::KILL)?,
        }
    }
    Ok(())
}

/// Bytes of this process in memory, as `proc_pid_statm(5)` has them in its second field, in pages.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

#[process]
fn same(bytes: Bytes) -> Bytes {
    bytes
}

/// Gives many bytes back, and is killed so much later.
#[process]
fn dies_later(bytes: Bytes, later: Duration) -> Bytes {
    std::thread::spawn(move || {
        std::thread::sleep(later);
        kill_process(getpid(), Signal::KILL)
    });
    bytes
}

/// Takes so long.
#[process]
async fn echoes(n: u64, pause: Duration) -> u64 {
    if pause > Duration::from_micros(200) {
        sleep(pause).await;
    } else {
        std::thread::sleep(pause);
    }
    n
}

/// Says that it has started, and takes so long.
#[process]
fn lasts(n: u64, time: Duration, mut started: Sender<()>) -> Result<u64, Failure> {
    let begun = Instant::now();
    started.blocking_send(())?;
    started.blocking_flush()?;
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
    Ok(n)
}

/// Takes memory until there is none.
#[process]
fn devours() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
    }
}

isolated! {
    /// 3, CF04, CF05: at each point that a value comes through, alone and in a list, it costs that value.
    #[limit(180)]
    async fn rr3_at_each_point_of_a_value() {
        let pool = Pool::new(2).await.unwrap();
        for point in POINTS {
            for (how, chunk) in [(How::Killed, 1), (How::Exits, 4), (How::Aborts, 3), (How::Killed, 20)] {
                let fatal = |n| Fatal { point: if n == 5 { point } else { Point::Nowhere }, how, n, is_argument: true };
                let values: Vec<_> = match chunk {
                    3 => in_time(pool.map(|n| passes_slowly(fatal(n)), 0..12).chunk(chunk).ordered().collect()).await,
                    _ => in_time(pool.map(|n| passes(fatal(n)), 0..12).chunk(chunk).ordered().collect()).await,
                };
                assert_eq!(values.len(), 12);
                for (n, value) in (0..).zip(values) {
                    match value {
                        Ok(value) => assert!(value.n == n && n != 5, "{point:?} {how:?} {n}"),
                        Err(error) => assert!(n == 5 && is_the_end(&error, how), "{point:?} {how:?} {n}: {error}"),
                    }
                }
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    /// PO06: items that cannot be written cost themselves, in a list too.
    async fn po06_items_that_cannot_be_written() {
        let pool = Pool::new(2).await.unwrap();
        for chunk in [1, 4] {
            let map = pool.map(|n| takes(Unwritable(n % 5 == 2)), 0..20).chunk(chunk);
            let values: Vec<_> = in_time(map.ordered().collect()).await;
            assert_eq!(values.len(), 20);
            for (n, value) in (0..).zip(values) {
                match value {
                    Ok(()) => assert_ne!(n % 5, 2),
                    Err(error) => assert!(n % 5 == 2 && matches!(error.cause(), Cause::Encode(_)), "{error}"),
                }
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    /// 6: killed while many bytes are on their way, there or back: no hang, and nothing is kept.
    #[limit(1800)]
    async fn rr6_in_the_middle_of_many_bytes() {
        // A debug build takes long to copy more.
        const LENGTH: usize = if cfg!(debug_assertions) { 2 << 20 } else { 64 << 20 };
        let limits = Limits::DEFAULT.max_message(80 << 20);
        let pool = Pool::builder().workers(2).limits(limits).build().await.unwrap();
        let bytes = Bytes::from(vec![7; LENGTH]);
        let whole = in_time(pool.run(same(bytes.clone()).max_message(80 << 20))).await.unwrap();
        assert!(whole == bytes);
        drop(whole);
        let before = resident();
        let mut random = Random(u64::from(std::process::id()));
        for round in 0..12 * repetitions() {
            let later = Duration::from_micros(random.below(20_000));
            let outcome = if round % 2 == 0 {
                in_time(pool.run(dies_later(bytes.clone(), later).max_message(80 << 20))).await
            } else {
                // It is stopped, so that most of it is on its way when it is killed.
                let pids: Vec<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
                pids.iter().for_each(|pid| _ = send(*pid, Signal::STOP));
                let task: Task<Bytes> = in_time(pool.submit(same(bytes.clone()).max_message(80 << 20))).await.unwrap();
                eventually_async(10 * SECOND, || task.pid().is_some() || pool.stats().workers.is_empty()).await;
                sleep(later).await;
                let then = if round % 4 == 1 { Signal::KILL } else { Signal::CONT };
                pids.iter().for_each(|pid| _ = send(*pid, then));
                in_time(task).await
            };
            match outcome {
                Ok(value) => assert!(value == bytes),
                Err(error) => assert_eq!(error.signal(), Some(9), "{error}"),
            }
            assert_eq!(in_time(pool.run(square(round))).await.unwrap(), round * round);
        }
        eventually_async(10 * SECOND, || resident() < before + 4 * LENGTH + (64 << 20)).await;
        in_time(pool.close()).await.unwrap();
    }

    /// 7: tasks that are given up at any time: no worker that does nothing, and no result that is another's.
    #[limit(1800)]
    async fn rr7_given_up_at_any_time() {
        let pool = Pool::new(2).await.unwrap();
        let mut random = Random(u64::from(std::process::id()));
        let (mut done, mut given_up) = (0, 0);
        for n in 0..1500 * repetitions() {
            // Some have a limit, some do not end in time by far.
            let pause = if n % 250 == 7 { SECOND * 3600 } else { Duration::from_micros(random.below(300)) };
            let wait = Duration::from_micros(random.below(1500));
            let call = echoes(n, pause);
            let call = if n % 100 == 3 { call.timeout(Duration::from_micros(50)) } else { call };
            match timeout(wait, pool.run(call)).await {
                Ok(Ok(value)) => {
                    assert_eq!(value, n);
                    done += 1;
                }
                Ok(Err(error)) => assert!(error.is_timeout(), "{n}: {error}"),
                Err(_elapsed) => given_up += 1,
            }
            if n % 50 == 0 {
                assert_eq!(in_time(pool.map(square, n..n + 20)).await.unwrap(), (n..n + 20).map(|n| n * n).collect::<Vec<_>>());
            }
        }
        assert!(done > 10 && given_up > 10, "{done} done, {given_up} given up");
        in_time(pool.close()).await.unwrap();
    }

    /// A task that ends at the moment at which its worker is to be killed for it costs none of those behind it.
    #[limit(120)]
    async fn rr7_given_up_at_the_last_moment() {
        let pool = Pool::new(1).await.unwrap();
        let mut random = Random(u64::from(std::process::id()));
        for round in 0..60_u64 {
            let (sender, mut started) = simplex().unwrap();
            // What is given up has 50 ms.
            let limit = Duration::from_millis(if round % 2 == 0 { 50 } else { 10 });
            let time = (limit + Duration::from_micros(random.below(1500))).saturating_sub(Duration::from_micros(500));
            let call = lasts(round, time, sender);
            let task = in_time(pool.submit(if round % 2 == 0 { call } else { call.timeout(limit) })).await.unwrap();
            // Where the machine is slow it is late before it has said so.
            in_time(started.recv()).await.unwrap();
            let behind: Vec<_> = (0..3).map(|n| pool.run(square(n))).collect();
            let behind = async {
                let mut behind = futures::future::try_join_all(behind);
                assert!((&mut behind).now_or_never().is_none_or(|ended| ended.is_ok()));
                if round % 2 == 0 {
                    task.abort();
                }
                (behind.await, task.await)
            };
            let (behind, task) = in_time(behind).await;
            assert_eq!(behind.unwrap(), [0, 1, 4], "in round {round}");
            match task {
                Ok(value) => assert_eq!(value.unwrap(), round),
                Err(error) => assert!(error.is_timeout() || *error.cause() == Cause::Cancelled, "{error}"),
            }
        }
        in_time(pool.close()).await.unwrap();
    }

    /// 1: `.ci/chaos` kills more.
    #[limit(300)]
    fn rr1_random_kills() {
        let seed = number("PROCESSION_SEED").unwrap_or_else(|| std::process::id().into());
        println!("PROCESSION_SEED={seed}");
        let root = Command::new(env!("CARGO_BIN_EXE_root")).args(["pool", "40", &seed.to_string()]).output();
        let root = root.unwrap();
        println!("{}", String::from_utf8_lossy(&root.stdout));
        assert!(root.status.success(), "{}", String::from_utf8_lossy(&root.stderr));
    }
}

/// 3: killed after any instruction, in the middle of whatever it does: it costs what it had in hand, and with another try nothing.
#[test]
fn rr3_after_any_instruction() -> Result<(), NotPassed> {
    needing("right to trace others, as root has", is_root(), || {
        let limit = patience(60 * SECOND + 3 * SECOND * u32::try_from(wanted_steps()).unwrap());
        Isolated::new(module_path!(), "rr3_after_any_instruction").limit(limit).run_async(any_instruction)
    })
}

/// How many workers to step through.
fn wanted_steps() -> u64 {
    number("PROCESSION_STEPS").unwrap_or(30)
}

async fn any_instruction() {
    let seed = number("PROCESSION_SEED").unwrap_or_else(|| std::process::id().into());
    let kills = wanted_steps();
    println!("PROCESSION_SEED={seed}");
    let mut random = Random(seed);
    let pool = Pool::new(1).await.unwrap();
    for round in 0..kills {
        let worker = in_time(pool.run(pid())).await.unwrap();
        let (sender, mut begun) = simplex().unwrap();
        let mut stepper = in_time(steps(worker, random.below(40_000), sender).spawn()).await.unwrap();
        assert_eq!(in_time(begun.recv()).await.unwrap(), Some(true), "it may not trace");
        let (retries, chunk) = (round as u32 % 2, [1, 7][round as usize / 2 % 2]);
        let mut lost = 0;
        while info(worker).is_some() {
            let null = || Passed::new(fs::File::open("/dev/null").unwrap().into()).unwrap();
            let call = |n| fills(n, (n % 8 == 5 && retries == 0).then(null));
            let values = pool.map(call, 0..60).chunk(chunk).retry(retries).ordered();
            let values: Vec<_> = timeout(patience(60 * SECOND), values.collect()).await.unwrap();
            assert_eq!(values.len(), 60);
            for (n, value) in (0..).zip(values) {
                match value {
                    Ok(value) => assert!(value == vec![n as u8; length(n)], "{n} in round {round}"),
                    Err(error) => {
                        assert!(error.signal() == Some(9) && retries == 0, "{n} in round {round}: {error}");
                        lost += 1;
                    }
                }
            }
        }
        assert!(lost <= 1, "{lost} were lost in round {round}");
        in_time(stepper.join()).await.unwrap().unwrap();
    }
    in_time(pool.close()).await.unwrap();
}

/// A memory cgroup of this process's own, with so many bytes in it.
struct MemoryGroup {
    directory: PathBuf,
}

impl MemoryGroup {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("procession-{}", std::process::id());
        let (of_its_own, unified) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (parent, file) =
            if of_its_own.exists() { (of_its_own, "memory.limit_in_bytes") } else { (unified, "memory.max") };
        let directory = parent.join(name);
        fs::create_dir(&directory).ok()?;
        let group = Self { directory };
        fs::write(group.directory.join(file), bytes.to_string()).ok()?;
        Some(group)
    }

    fn take_in(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Whoever was killed in it may not be gone.
        for _ in 0..200 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// 9: a worker for which there is no memory is killed, and nobody else is.
#[test]
fn rr9_out_of_memory() -> Result<(), NotPassed> {
    // Gone before the test begins, in each of its processes.
    let can_be_made = { MemoryGroup::new(1 << 30).is_some() };
    needing("memory cgroup that can be made", can_be_made, || {
        Isolated::new(module_path!(), "rr9_out_of_memory").run_async(async || {
            let group = MemoryGroup::new(64 << 20).unwrap();
            let pool = Pool::new(2).await.unwrap();
            for n in (0..5).cycle().take(5 * repetitions() as usize) {
                let pids: Vec<u32> = pool.stats().workers.iter().map(|worker| worker.pid).collect();
                pids.iter().for_each(|pid| group.take_in(*pid));
                let (devoured, squares) =
                    in_time(async { tokio::join!(pool.run(devours()), pool.map(square, 0..n)) }).await;
                assert_eq!(devoured.unwrap_err().signal(), Some(9));
                assert_eq!(squares.unwrap(), (0..n).map(|n| n * n).collect::<Vec<_>>());
                eventually_async(10 * SECOND, || pool.stats().workers.len() == 2).await;
            }
            in_time(pool.close()).await.unwrap();
        })
    })
}
