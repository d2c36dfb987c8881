//! An echo server of several processes that share one listening socket.
//!
//! ```text
//! cargo run --example prefork                            # four workers, on a port that is free
//! cargo run --example prefork -- --workers 8 127.0.0.1:7
//! ```
//!
//! Each worker accepts by itself: the kernel gives a client to one of those that wait. A worker that crashes costs its
//! own clients and no others, and is replaced; the socket stays open meanwhile, so that whoever connects waits rather than
//! being refused. Every client is told first which process serves it:
//!
//! ```text
//! $ nc 127.0.0.1 40123
//! process 4711
//! ```
//!
//! Kill that process, and see what becomes of the others: nothing. Ctrl-C ends the server and all of its workers.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use futures::future::try_join_all;
use procession::{Failure, Passed, StartMethod, process};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// How often a worker is replaced at most: one that cannot serve must not take the machine by being started.
const PACE: Duration = Duration::from_secs(1);

/// Gives back what it is sent, from several processes.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:0")]
    address: SocketAddr,

    /// How many processes serve
    #[arg(long, value_name = "N", default_value_t = 4)]
    workers: u32,

    /// How many clients a process serves at a time; others are left to its neighbours, or wait
    #[arg(long, value_name = "N", default_value_t = 100)]
    clients: u32,

    /// How the processes are started
    #[arg(long, value_enum, default_value = "fork-server")]
    start_method: Method,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    ForkServer,
    Spawn,
}

impl From<Method> for StartMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::ForkServer => Self::ForkServer,
            Method::Spawn => Self::Spawn,
        }
    }
}

// ANCHOR: worker
/// Accepts clients and serves them, for ever.
#[process]
async fn worker(listener: Passed<TcpListener>, clients: u32) -> Result<(), Failure> {
    let listener = listener.into_inner()?;
    let places = Arc::new(Semaphore::new(clients as usize));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let (client, _address) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that has gone is no news.
            drop(echo(client).await);
            drop(place);
        });
    }
}
// ANCHOR_END: worker

async fn echo(mut client: TcpStream) -> io::Result<()> {
    client.write_all(format!("process {}\n", std::process::id()).as_bytes()).await?;
    let (mut from, mut to) = client.split();
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}

// ANCHOR: keep
/// Keeps one worker running. Dropping this kills it.
async fn keep(listener: &Passed<TcpListener>, options: &Options) -> anyhow::Result<Infallible> {
    loop {
        let next = Instant::now() + PACE;
        let call = worker(listener.clone(), options.clients).start_method(options.start_method.into());
        match call.await {
            Ok(ended) => eprintln!("a worker has ended: {ended:?}"),
            Err(error) => eprintln!("{error}"),
        }
        sleep_until(next).await;
    }
}
// ANCHOR_END: keep

// ANCHOR: main
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut interrupts = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(options.address).await?;
    println!("listening on {}", listener.local_addr()?);
    let listener = Passed::new(listener)?;
    let workers = (0..options.workers).map(|_| keep(&listener, &options));
    tokio::select! {
        // What is dropped then are calls that are awaited, and that kills their processes.
        _ = interrupts.recv() => Ok(()),
        Err(error) = try_join_all(workers) => Err(error),
    }
}
// ANCHOR_END: main
