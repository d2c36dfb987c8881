//! A call to a process that is there already: one `u64` in, one out; beside the least that it can cost.
//!
//! As in `start`, criterion shows how a contender develops, and what is printed at the end comes from turns. Here turns
//! matter most: a call is several times faster while both processes share a processor than while each wakes another.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

use std::hint::black_box;

use criterion::Criterion;
use procession_bench::limit::{self, RoundTrip};
use procession_bench::{median_of, time};
use tokio::runtime::{Builder, Runtime};

/// How many calls of each contender a number comes from.
const ROUNDS: usize = 10_000;

async fn the_limit(round_trip: &mut RoundTrip) {
    assert_eq!(round_trip.ask(black_box(7)).await.expect("the child is up"), 49);
}

fn main() -> std::io::Result<()> {
    if limit::was_child()? {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut round_trip = runtime.block_on(RoundTrip::start())?;
    let mut criterion = Criterion::default().configure_from_args();

    let mut group = criterion.benchmark_group("warm");
    group.bench_function("limit", |bencher| bencher.iter(|| runtime.block_on(the_limit(&mut round_trip))));
    group.finish();
    criterion.final_summary();

    // Without this argument, which `cargo bench` gives, criterion only tries whether everything runs.
    if std::env::args().any(|argument| argument == "--bench") {
        show(&runtime, &mut round_trip);
    }
    runtime.block_on(round_trip.end())
}

/// The limit alone. Who is measured beside it takes turns with it: `compare(ROUNDS, ours, limit)`.
fn show(runtime: &Runtime, round_trip: &mut RoundTrip) {
    let limit = || time(runtime, the_limit(round_trip));
    println!("limit: {:.1?}", median_of(ROUNDS, limit));
}
