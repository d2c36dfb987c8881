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
use procession::{StartMethod, process};
use procession_bench::limit::{self, Forks, RoundTrip, Server};
use procession_bench::{compare, median_of, time};
use tokio::runtime::{Builder, Runtime};

/// How many starts of each contender a ratio comes from.
const ROUNDS: usize = 1000;

/// How many where a round is more than a start.
const BATCHES: usize = 125;

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

async fn ours() {
    let square = square(black_box(7)).start_method(StartMethod::Spawn).await;
    assert_eq!(square.expect("a start succeeds"), 49);
}

async fn ours_plain() {
    let square = plain_square(black_box(7)).start_method(StartMethod::Spawn).await;
    assert_eq!(square.expect("a start succeeds"), 49);
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
    one(&mut group, "limit", runtime, the_limit);
    one(&mut group, "fork server limit", runtime, || forked(server));
    one(&mut group, "async fn", runtime, ours);
    one(&mut group, "fn", runtime, ours_plain);
    one(&mut group, "limit, 8 at a time", runtime, || at_once(the_limit));
    one(&mut group, "fork server limit, 8 at a time", runtime, || at_once(|| forked(server)));
    one(&mut group, "async fn, 8 at a time", runtime, || at_once(ours));
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
        let limit = || time(runtime, the_limit());
        let forked = || forked(server);
        println!("async fn / limit, {parent} parent: {}", compare(ROUNDS, || time(runtime, ours()), limit));
        println!("fn / limit, {parent} parent: {}", compare(ROUNDS, || time(runtime, ours_plain()), limit));
        println!(
            "fork server limit / limit, {parent} parent: {}",
            compare(ROUNDS, || time(runtime, forked()), limit)
        );
        let limit = || time(runtime, at_once(the_limit));
        println!(
            "async fn / limit, {AT_A_TIME} at a time, {parent} parent: {}",
            compare(BATCHES, || time(runtime, at_once(ours)), limit)
        );
        println!(
            "fork server limit / limit, {AT_A_TIME} at a time, {parent} parent: {}",
            compare(BATCHES, || time(runtime, at_once(forked)), limit)
        );
    }
    let large = || {
        let _resident = resident();
        warm_time(runtime)
    };
    println!("256 MiB parent / small parent, async fn: {}", compare(BATCHES, large, || warm_time(runtime)));
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
fn warm_time(runtime: &Runtime) -> Duration {
    for _ in 0..WARM_UP {
        runtime.block_on(ours());
    }
    time(runtime, ours())
}
