//! Locks, events, barriers and blobs in shared memory, each beside the least that it can cost. All runtimes are current-thread.
//!
//! As in `pipes`, criterion shows how a contender develops, and the ratios at the end come from turns: by the clock, and by
//! the time of processors in both processes.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

mod deaths;
mod group;
mod ours;

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use procession::shared::{Blob, Mutex, Region};
use procession::{Failure, Passed, Pipe, process};
use procession_bench::limit::{self, FutexCounts, FutexLock, FutexLocks, HandedMemory, Rings};
use procession_bench::{Cores, compare};
use tokio::runtime::Builder;

use group::{Bench, Turns};

const FREE: Turns = Turns { rounds: 100, times: 100_000, of: 1 };
const CONTENDED: Turns = Turns { rounds: 50, times: 200_000, of: 1 };
const WAKE_UPS: Turns = Turns { rounds: 100, times: 200, of: 1 };
const ROUNDS: Turns = Turns { rounds: 50, times: 200, of: 1 };
const BLOBS: Turns = Turns { rounds: 50, times: 50, of: 1 };
const MANY: usize = 500;
/// Parties of a barrier, each in a process of its own.
const PARTIES: usize = 4;
const KILLS: usize = 200;

#[process]
async fn count_by_futex(pipe: Pipe<u64, u64>, memory: Passed<OwnedFd>, core: usize) -> Result<(), Failure> {
    limit::count_by_futex(pipe, memory, core).await
}

#[process]
async fn answer_rings(ours: Passed<OwnedFd>, theirs: Passed<OwnedFd>, core: usize) -> Result<(), Failure> {
    limit::answer_rings(ours, theirs, core).await
}

#[process]
async fn meet(
    pipe: Pipe<u64, u64>,
    memory: Passed<OwnedFd>,
    bells: Vec<Passed<OwnedFd>>,
    number: usize,
    core: usize,
) -> Result<(), Failure> {
    limit::meet(pipe, memory, bells, number, core).await
}

#[process]
async fn map_memory(socket: Passed<UnixStream>, core: usize) -> Result<(), Failure> {
    limit::map_memory(socket, core).await
}

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut bench = Bench::new(&runtime);
    free(&mut bench)?;
    many(&mut bench)?;
    for cores in [Cores::One, Cores::Two] {
        contended(&mut bench, cores)?;
    }
    for cores in [Cores::One, Cores::Two] {
        wake_ups(&mut bench, cores)?;
    }
    for cores in [Cores::One, Cores::Two] {
        rounds(&mut bench, cores)?;
    }
    blobs(&mut bench, "1 MiB", 1 << 20)?;
    blobs(&mut bench, "1 GiB", 1 << 30)?;
    copies(&bench)?;
    deaths(&bench)?;
    bench.criterion.final_summary();
    Ok(())
}

fn free(bench: &mut Bench<'_>) -> io::Result<()> {
    let (lock, limit) = (Mutex::new(0_u64)?, FutexLocks::new(1)?);
    let runtime = bench.runtime;
    let mut group = bench.group("free lock", FREE, Cores::One.here()?)?;
    let by_futex = |times| (0..times).for_each(|_| count_up(&limit.all()[0]));
    group.alone_here(["lock", "futex"], |times| runtime.block_on(ours::count(&lock, times)), by_futex);
    let by_try = |times| (0..times).for_each(|_| *lock.try_lock().expect("nobody else has it") += 1);
    group.alone_here(["try_lock", "futex"], by_try, by_futex);
    Ok(())
}

fn count_up(lock: &FutexLock) {
    lock.change(|n| black_box(n + 1));
}

fn many(bench: &mut Bench<'_>) -> io::Result<()> {
    let before = descriptors()?;
    let region = Region::with_capacity(MANY * Mutex::<u64>::size_in_region())?;
    let locks = (0..MANY).map(|_| Mutex::new_in(&region, 0_u64)).collect::<io::Result<Vec<_>>>()?;
    let used = descriptors()? - before;
    let limits = FutexLocks::new(MANY)?;
    let name = format!("{MANY} locks");
    println!("{name} in one region: {used} descriptors");
    let turns = Turns { times: FREE.times / MANY as u64, of: MANY as u64, ..FREE };
    let runtime = bench.runtime;
    let mut group = bench.group(&name, turns, Cores::One.here()?)?;
    let ours = |times| {
        runtime.block_on(async {
            for _ in 0..times {
                for lock in &locks {
                    ours::count(lock, 1).await;
                }
            }
        });
    };
    let by_futex = |times| (0..times).for_each(|_| limits.all()[..MANY].iter().for_each(count_up));
    group.alone_here(["lock", "futex"], ours, by_futex);
    Ok(())
}

fn descriptors() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

fn contended(bench: &mut Bench<'_>, cores: Cores) -> io::Result<()> {
    let there = cores.there()?;
    let mut ours = bench.runtime.block_on(ours::Counts::start(there))?;
    let limit = FutexCounts::start(|pipe, memory| count_by_futex(pipe, memory, there));
    let mut limit = bench.runtime.block_on(limit)?;
    // In a turn each side counts up so many times.
    let mut group = bench.group(&format!("two that count, cores: {cores:?}"), CONTENDED, cores.here()?)?;
    group.pair(["lock", "futex"], &mut ours, &mut limit)?;
    drop(group);
    bench.end(ours)?;
    bench.end(limit)
}

fn wake_ups(bench: &mut Bench<'_>, cores: Cores) -> io::Result<()> {
    let there = cores.there()?;
    let mut ours = bench.runtime.block_on(ours::Events::start(there))?;
    let limit = Rings::start(|first, second| answer_rings(first, second, there));
    let mut limit = bench.runtime.block_on(limit)?;
    let mut group =
        bench.group(&format!("wake-up there and back, cores: {cores:?}"), WAKE_UPS, cores.here()?)?;
    group.pair(["events", "eventfds"], &mut ours, &mut limit)?;
    drop(group);
    bench.end(ours)?;
    bench.end(limit)
}

fn rounds(bench: &mut Bench<'_>, cores: Cores) -> io::Result<()> {
    let (here, there) = (cores.here()?, cores.there()?);
    // This process is the first party.
    let core = |number: usize| if number.is_multiple_of(2) { here } else { there };
    let mut ours = bench.runtime.block_on(ours::Rounds::start(PARTIES, core))?;
    let limit = limit::Rounds::start(PARTIES, |pipe, memory, bells, number| {
        meet(pipe, memory, bells, number, core(number))
    });
    let mut limit = bench.runtime.block_on(limit)?;
    let mut group = bench.group(&format!("round of {PARTIES} parties, cores: {cores:?}"), ROUNDS, here)?;
    group.pair(["barrier", "eventfds"], &mut ours, &mut limit)?;
    drop(group);
    bench.end(ours)?;
    bench.end(limit)
}

fn blobs(bench: &mut Bench<'_>, name: &str, length: usize) -> io::Result<()> {
    let name = format!("blob of {name} handed over");
    if !bench.wants(&name) {
        // A gigabyte is not made for nothing.
        return Ok(());
    }
    let there = Cores::Two.there()?;
    let mut ours = bench.runtime.block_on(ours::Blobs::start(Blob::new(vec![1; length])?, there))?;
    let limit = HandedMemory::start(length, |socket| map_memory(socket, there));
    let mut limit = bench.runtime.block_on(limit)?;
    let mut group = bench.group(&name, BLOBS, Cores::Two.here()?)?;
    group.pair(["blob", "SCM_RIGHTS"], &mut ours, &mut limit)?;
    drop(group);
    bench.end(ours)?;
    bench.end(limit)
}

/// A blob is made by a copy.
fn copies(bench: &Bench<'_>) -> io::Result<()> {
    const NAME: &str = "blob of 1 GiB made";
    if !bench.compares(NAME) {
        return Ok(());
    }
    let bytes = vec![1_u8; 1 << 30];
    let mut copy = vec![2_u8; bytes.len()];
    let timed = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    let new = || timed(&mut || drop(black_box(Blob::new(&bytes).expect("there is memory for it"))));
    let fill = || timed(&mut || black_box(&mut copy).copy_from_slice(black_box(&bytes)));
    println!("{NAME} / memcpy: {}", compare(5, new, fill));
    let new = || timed(&mut || drop(black_box(Blob::new(&bytes).expect("there is memory for it"))));
    let fill = || timed(&mut || drop(black_box(bytes.clone())));
    println!("{NAME} / memcpy into new memory: {}", compare(5, new, fill));
    Ok(())
}

fn deaths(bench: &Bench<'_>) -> io::Result<()> {
    const NAME: &str = "death of an owner";
    if !bench.compares(NAME) {
        return Ok(());
    }
    let [ours, limit] = bench.runtime.block_on(deaths::kill(KILLS))?;
    let at = |times: &[Duration], part: f64| times[(times.len() as f64 * part) as usize];
    for (what, times) in [("until the next has the lock", ours), ("limit: pidfd readable", limit)] {
        let (median, most) = (at(&times, 0.5), at(&times, 0.99));
        println!("{NAME}, {what}: p50 {median:.1?}, p99 {most:.1?}");
    }
    Ok(())
}
