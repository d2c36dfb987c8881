//! A start: a process, one `u64` in, one out, its exit seen; beside the least that it can cost.
//!
//! Criterion runs one contender after the other, and shows how each develops. The ratios at the end come from
//! contenders that take turns.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use futures_util::future::join_all;
use procession::StartMethod::{ForkServer, Spawn};
use procession::{StartMethod, process};
use procession_bench::limit::{self, Forks, RoundTrip, Server};
use procession_bench::{compare, median_of, time};
use tokio::runtime::{Builder, Runtime};

const METHODS: [StartMethod; 2] = [Spawn, ForkServer];

/// How many starts of each contender a ratio comes from.
const ROUNDS: usize = 1000;

/// How many where a round is more than a start.
const BATCHES: usize = 125;

/// How many starts of one contender follow one another, where they do.
const IN_A_ROW: usize = 20;

/// How many starts it takes until the processor knows what a start needs.
const WARM_UP: usize = 10;

/// How many are started at a time, where it is not one.
const AT_A_TIME: u64 = 8;

/// What a large parent has resident, in bytes.
const LARGE: usize = 256 << 20;

#[process]
async fn square(n: u64) -> u64 {
    n * n
}

#[process]
fn plain_square(n: u64) -> u64 {
    n * n
}

/// A call that is spawned and joined: whoever awaits it in place does not see its end.
async fn ours(method: StartMethod) {
    let mut process = square(black_box(7)).start_method(method).spawn().await.expect("a start succeeds");
    assert_eq!(process.join().await.expect("it has a value"), 49);
}

async fn ours_plain(method: StartMethod) {
    let mut process =
        plain_square(black_box(7)).start_method(method).spawn().await.expect("a start succeeds");
    assert_eq!(process.join().await.expect("it has a value"), 49);
}

async fn the_limit() {
    assert_eq!(limit::square(black_box(7)).await.expect("a start succeeds"), 49);
}

async fn forked(server: &Server) {
    assert_eq!(server.square(black_box(7)).await.expect("a start succeeds"), 49);
}

async fn at_once<F: Future<Output = ()>>(one: impl Fn() -> F) {
    drop(join_all((0..AT_A_TIME).map(|_| one())).await);
}

fn main() -> std::io::Result<()> {
    if limit::was_child()? {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut criterion = Criterion::default().configure_from_args();

    let server = runtime.block_on(async { Server::start() })?;
    bench(&mut criterion, "start", &runtime, &server);
    let resident = resident();
    bench(&mut criterion, "start_256MiB", &runtime, &server);
    drop(resident);
    criterion.final_summary();

    // Without this argument, which `cargo bench` gives, criterion only tries whether everything runs.
    if std::env::args().any(|argument| argument == "--bench") {
        show_ratios(&runtime, &server);
        show_alone(&runtime, &server)?;
    }
    runtime.block_on(server.end())
}

/// Memory that is there, and not only promised.
fn resident() -> Vec<u8> {
    black_box(vec![1; LARGE])
}

fn bench(criterion: &mut Criterion, name: &str, runtime: &Runtime, server: &Server) {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    one(&mut group, "limit of a spawn", runtime, the_limit);
    one(&mut group, "limit of a fork", runtime, || forked(server));
    for method in METHODS {
        one(&mut group, &format!("{method:?}, async fn"), runtime, move || ours(method));
        one(&mut group, &format!("{method:?}, fn"), runtime, move || ours_plain(method));
    }
    one(&mut group, "limit of a spawn, 8 at a time", runtime, || at_once(the_limit));
    one(&mut group, "limit of a fork, 8 at a time", runtime, || at_once(|| forked(server)));
    for method in METHODS {
        one(&mut group, &format!("{method:?}, async fn, 8 at a time"), runtime, move || {
            at_once(move || ours(method))
        });
    }
    group.finish();
}

fn one<F: Future<Output = ()>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    runtime: &Runtime,
    run: impl Fn() -> F + Copy,
) {
    group.bench_function(name, |bencher| bencher.to_async(runtime).iter(run));
}

fn show_ratios(runtime: &Runtime, server: &Server) {
    for parent in ["small", "256 MiB"] {
        let _resident = (parent != "small").then(resident);
        println!("in a {parent} parent:");
        let (limit, fork_limit) = (|| time(runtime, the_limit()), || time(runtime, forked(server)));
        let spawn = || time(runtime, ours(Spawn));
        let fork = || time(runtime, ours(ForkServer));
        show("Spawn, async fn / its limit", ROUNDS, spawn, limit);
        show("Spawn, fn / its limit", ROUNDS, || time(runtime, ours_plain(Spawn)), limit);
        show("ForkServer, async fn / its limit", ROUNDS, fork, fork_limit);
        show("ForkServer, fn / its limit", ROUNDS, || time(runtime, ours_plain(ForkServer)), fork_limit);
        show("ForkServer / Spawn, async fn", ROUNDS, fork, spawn);
        // As in a program that starts many: nothing else has taken their place in the processor's caches.
        let (row_limit, row_fork) = (|| in_a_row(fork_limit), || in_a_row(fork));
        let row_plain = || in_a_row(|| time(runtime, ours_plain(ForkServer)));
        show("ForkServer, async fn / its limit, in a row", BATCHES, row_fork, row_limit);
        show("ForkServer, fn / its limit, in a row", BATCHES, row_plain, row_limit);
        show("ForkServer / Spawn, async fn, in a row", BATCHES, row_fork, || in_a_row(spawn));
        let spawn_many = || time(runtime, at_once(|| ours(Spawn)));
        let fork_many = || time(runtime, at_once(|| ours(ForkServer)));
        show("Spawn / its limit, 8 at a time", BATCHES, spawn_many, || time(runtime, at_once(the_limit)));
        let many_limit = || time(runtime, at_once(|| forked(server)));
        show("ForkServer / its limit, 8 at a time", BATCHES, fork_many, many_limit);
    }
    for method in METHODS {
        let large = || {
            let _resident = resident();
            warm_time(runtime, method)
        };
        let what = format!("256 MiB parent / small parent, {method:?}");
        show(&what, BATCHES, large, || warm_time(runtime, method));
    }
}

/// The median of starts that follow one another.
fn in_a_row(one: impl FnMut() -> Duration) -> Duration {
    median_of(IN_A_ROW, one)
}

fn show(what: &str, rounds: usize, first: impl FnMut() -> Duration, second: impl FnMut() -> Duration) {
    println!("{what}: {}", compare(rounds, first, second));
}

/// What a start by the fork server is made of, and itself. Each runs alone: nobody else is in the processor's caches.
fn show_alone(runtime: &Runtime, server: &Server) -> std::io::Result<()> {
    let mut forks = Forks::start()?;
    println!("fork alone: {:.1?}", forks.median_of(ROUNDS)?);
    forks.end()?;
    let mut round_trip = runtime.block_on(RoundTrip::start())?;
    println!("round trip alone: {:.1?}", median_of(ROUNDS, || time(runtime, call(&mut round_trip))));
    runtime.block_on(round_trip.end())?;
    println!("fork server limit alone: {:.1?}", median_of(ROUNDS, || time(runtime, forked(server))));
    Ok(())
}

async fn call(round_trip: &mut RoundTrip) {
    assert_eq!(round_trip.ask(black_box(7)).await.expect("the child is up"), 49);
}

/// How long a start takes after a few others: the first find nothing in the processor's caches.
fn warm_time(runtime: &Runtime, method: StartMethod) -> Duration {
    for _ in 0..WARM_UP {
        runtime.block_on(ours(method));
    }
    time(runtime, ours(method))
}
