//! What takes turns with another: something that this process and a child do together, over and over.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use nix::unistd::Pid;
use procession::{Call, Failure, Process};
use tokio::runtime::Runtime;

/// Something that this process and a child do together.
pub trait Contender {
    /// Does it so many times, and is done when the child is.
    fn run(&mut self, times: u64) -> impl Future<Output = io::Result<()>>;

    /// The child.
    fn peer(&self) -> &Peer;

    /// The child alone: its link to this process is closed.
    fn into_peer(self) -> Peer;
}

/// The child of a contender: it returns when its link to this process is closed.
#[derive(Debug)]
pub struct Peer {
    process: Process<Result<(), Failure>>,
}

impl Peer {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start(call: Call<Result<(), Failure>>) -> io::Result<Self> {
        Ok(Self { process: call.spawn().await.map_err(io::Error::other)? })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it has failed.
    pub async fn end(mut self) -> io::Result<()> {
        self.process.join().await.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// The time of processors that it has used so far, and this process with it.
    fn processor_time(&self) -> io::Result<Duration> {
        let pid = i32::try_from(self.process.pid()).map_err(io::Error::other)?;
        let there = ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?.now()?;
        Ok(Duration::from(there) + Duration::from(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?))
    }
}

/// What `times` of a contender take: by the clock, and of the processors in both processes. On a machine that others use
/// the second says more.
///
/// # Errors
/// If the contender fails.
pub fn cost(runtime: &Runtime, contender: &mut impl Contender, times: u64) -> io::Result<[Duration; 2]> {
    let (start, used) = (Instant::now(), contender.peer().processor_time()?);
    runtime.block_on(contender.run(times))?;
    let elapsed = start.elapsed();
    Ok([elapsed, contender.peer().processor_time()?.saturating_sub(used)])
}

/// Checks what came.
///
/// # Errors
/// If it is not what was sent.
pub fn same<T: PartialEq + fmt::Debug>(came: Option<T>, sent: T) -> io::Result<()> {
    if came.as_ref() == Some(&sent) {
        return Ok(());
    }
    Err(io::Error::other(format!("{came:?} came in place of {sent:?}")))
}
