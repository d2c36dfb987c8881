//! A call to a process that is there already: one `u64` in, one out; beside the least that it can cost: a question to a child that
//! answers all the time, and the first one to a child that was forked and has been asked nothing, as a spare is.
//!
//! As in `start`, criterion shows how a contender develops, and what is printed at the end comes from turns. Here turns
//! matter most: a call is several times faster while both processes share a processor than while each wakes another.
#![expect(clippy::print_stdout, reason = "a program that prints what it has measured")]

use std::hint::black_box;
use std::thread::sleep;
use std::time::Duration;

use criterion::Criterion;
use procession::process;
use procession_bench::limit::{self, Forked, RoundTrip, Server};
use procession_bench::{compare, time};
use tokio::runtime::{Builder, Runtime};

/// How many calls of each contender a ratio comes from.
const ROUNDS: usize = 1000;

/// How many spares there are, and how many calls they serve before others are waited for: what is measured is a call to
/// one that is there.
const SPARES: usize = 16;
const CALLS: usize = 8;

/// How long the machine rests when the spares are there again.
const REST: Duration = Duration::from_millis(5);

#[process]
async fn square(n: u64) -> u64 {
    n * n
}

async fn ours() {
    assert_eq!(square(black_box(7)).await.expect("a spare serves it"), 49);
}

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

fn show(runtime: &Runtime, round_trip: &mut RoundTrip) {
    let mut calls = 0;
    let mut call = || {
        if calls % CALLS == 0 {
            runtime.block_on(procession::warm(SPARES)).expect("spares can be started");
            sleep(REST);
        }
        calls += 1;
        time(runtime, ours())
    };
    let limit = || time(runtime, the_limit(round_trip));
    println!("a call to a spare / a framed round trip: {}", compare(ROUNDS, &mut call, limit));
    let mut fresh = Fresh::new(runtime);
    println!("a call to a spare / the first one to a child: {}", compare(ROUNDS, call, || fresh.ask()));
    fresh.end();
}

/// Children of the least fork server, each of which is asked once.
struct Fresh<'a> {
    runtime: &'a Runtime,
    server: Server,
    children: Vec<Forked>,
}

impl<'a> Fresh<'a> {
    fn new(runtime: &'a Runtime) -> Self {
        let server = runtime.block_on(async { Server::start() }).expect("a server can be started");
        Self { runtime, server, children: Vec::new() }
    }

    fn ask(&mut self) -> Duration {
        if self.children.is_empty() {
            self.refill();
        }
        let mut child = self.children.pop().expect("some were started");
        let taken = time(self.runtime, async {
            assert_eq!(child.ask(black_box(7)).await.expect("the child is up"), 49);
        });
        assert!(self.runtime.block_on(child.wait()).expect("it ends").success());
        taken
    }

    fn refill(&mut self) {
        for _ in 0..CALLS {
            let child = self.runtime.block_on(self.server.child());
            self.children.push(child.expect("a child can be started"));
        }
        sleep(REST);
    }

    fn end(self) {
        drop(self.children);
        self.runtime.block_on(self.server.end()).expect("the server ends");
    }
}
