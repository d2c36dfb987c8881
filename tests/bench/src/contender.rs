//! What takes turns with another: something that this process and a child do together, over and over.

use std::fmt;
use std::io;
use std::thread;
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

/// The child of a contender, or several, or none: they return when their links to this process are closed.
#[derive(Debug, Default)]
pub struct Peer {
    processes: Vec<Process<Result<(), Failure>>>,
    /// Those that somebody else ends.
    others: Vec<u32>,
}

impl Peer {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start(call: Call<Result<(), Failure>>) -> io::Result<Self> {
        Self::default().and(call).await
    }

    /// Starts several.
    ///
    /// # Errors
    /// If one cannot be started.
    pub async fn start_all(calls: impl IntoIterator<Item = Call<Result<(), Failure>>>) -> io::Result<Self> {
        let mut peer = Self::default();
        for call in calls {
            peer = peer.and(call).await?;
        }
        Ok(peer)
    }

    /// Starts another one beside it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn and(mut self, call: Call<Result<(), Failure>>) -> io::Result<Self> {
        self.processes.push(call.spawn().await.map_err(io::Error::other)?);
        Ok(self)
    }

    /// Counts the time of other processes, too, which somebody else ends.
    #[must_use]
    pub fn beside(mut self, pids: impl IntoIterator<Item = u32>) -> Self {
        self.others.extend(pids);
        self
    }

    /// Waits for the end of each.
    ///
    /// # Errors
    /// If one has failed.
    pub async fn end(mut self) -> io::Result<()> {
        for process in &mut self.processes {
            process.join().await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// The time of processors that it has used so far, and this process with it.
    fn processor_time(&self) -> io::Result<Duration> {
        let mut used = Duration::from(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?);
        let pids = self.processes.iter().map(Process::pid).chain(self.others.iter().copied());
        for pid in pids {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            used += Duration::from(ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?.now()?);
        }
        Ok(used)
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

/// The same, where each follows a pause in which both sides go to sleep. The clock stands still in the pauses; the processors do
/// not, since who looks again before it sleeps does so in them.
///
/// # Errors
/// If the contender fails.
pub fn cost_after_pauses(
    runtime: &Runtime,
    contender: &mut impl Contender,
    times: u64,
    pause: Duration,
) -> io::Result<[Duration; 2]> {
    let (mut elapsed, used) = (Duration::ZERO, contender.peer().processor_time()?);
    for _ in 0..times {
        thread::sleep(pause);
        let start = Instant::now();
        runtime.block_on(contender.run(1))?;
        elapsed += start.elapsed();
    }
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
