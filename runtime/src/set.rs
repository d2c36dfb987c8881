//! Many processes of one type.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::call::Call;
use crate::error::ProcessError;
use crate::process::Process;
use crate::signaler::Signaler;

/// Processes that are waited for in the order in which they end: tokio's `JoinSet`, for processes.
///
/// Dropping the set kills those that are left.
///
/// # Examples
/// ```
/// use procession::{ProcessSet, process};
///
/// #[process]
/// async fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let mut set = ProcessSet::new();
/// for n in 1..=3 {
///     set.spawn(square(n)).await?;
/// }
/// let mut sum = 0;
/// while let Some(squared) = set.join_next().await {
///     sum += squared?;
/// }
/// assert_eq!(sum, 14);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping the set kills its processes"]
pub struct ProcessSet<T> {
    processes: FuturesUnordered<Process<T>>,
}

impl<T> Default for ProcessSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> ProcessSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self { processes: FuturesUnordered::new() }
    }

    /// How many processes are in the set: those that have not been given by [`join_next`](Self::join_next).
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether no process is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Starts a process in the set.
    ///
    /// # Errors
    /// If it cannot be started; the set is as before.
    ///
    /// # Cancel safety
    /// If this is dropped before it is ready, the process is killed, and not in the set.
    pub async fn spawn(&mut self, call: Call<T>) -> Result<Signaler, ProcessError> {
        let process = call.spawn().await?;
        let signaler = process.signaler();
        self.processes.push(process);
        Ok(signaler)
    }

    /// The value of the next process that ends, or why it has none; `None` if no process is left.
    ///
    /// # Cancel safety
    /// Safe: no value is lost when this is dropped.
    pub async fn join_next(&mut self) -> Option<Result<T, ProcessError>> {
        self.processes.next().await
    }

    /// The values of all processes, in the order in which they ended.
    ///
    /// # Cancel safety
    /// The set is consumed: dropping this kills the processes that are left, and loses the values that had come.
    pub async fn join_all(mut self) -> Vec<Result<T, ProcessError>> {
        let mut ended = Vec::with_capacity(self.len());
        while let Some(value) = self.join_next().await {
            ended.push(value);
        }
        ended
    }

    /// Kills all processes, and does not wait: [`join_next`](Self::join_next) gives them.
    pub fn abort_all(&mut self) {
        for process in &self.processes {
            // An error means that it now belongs to another user.
            drop(process.start_kill());
        }
    }

    /// Kills all processes, and waits until they are reaped.
    ///
    /// # Cancel safety
    /// The processes are killed when this is first polled; dropping it then only ends the waiting.
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// Takes all processes out of the set, and lets them go on.
    pub fn detach_all(&mut self) {
        self.processes.clear();
    }
}

impl<T> Drop for ProcessSet<T> {
    fn drop(&mut self) {
        self.abort_all();
    }
}
