//! Futures of single tasks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};

use super::Shared;
use super::one::One;
use crate::call::Call;
use crate::error::{Cause, ProcessError};
use crate::plan::Plan;
use crate::process::Read;

/// A call on its way into a pool's queue.
struct Entering<T> {
    plan: Plan,
    read: Read<T>,
    shared: Arc<Shared>,
    /// Its turn, if it has to wait for it.
    turn: Option<Turn>,
}

type Turn = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>;

impl<T> Entering<T> {
    fn new(shared: &Arc<Shared>, call: Call<T>) -> Self {
        let (plan, read) = call.into_parts();
        Self { plan, read, shared: Arc::clone(shared), turn: None }
    }

    /// A place in the queue; none if the pool is closed.
    fn poll_permit(&mut self, context: &mut Context<'_>) -> Poll<Option<OwnedSemaphorePermit>> {
        if let Some(turn) = &mut self.turn {
            return turn.as_mut().poll(context);
        }
        let queue = Arc::clone(&self.shared.queue);
        // Where others wait for one, none is free.
        match Arc::clone(&queue).try_acquire_owned() {
            Ok(permit) => Poll::Ready(Some(permit)),
            Err(TryAcquireError::Closed) => Poll::Ready(None),
            Err(TryAcquireError::NoPermits) => {
                let turn = Box::pin(async move { queue.acquire_owned().await.ok() });
                self.turn.insert(turn).as_mut().poll(context)
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<One<T>, ProcessError>> {
        let permit = ready!(self.poll_permit(context));
        let closed = || ProcessError::new(self.plan.display_name(), None, Cause::Closed);
        let permit = permit.ok_or_else(closed)?;
        let backend = Arc::clone(&self.shared.backend);
        Poll::Ready(One::submit(backend, self.plan.take(), self.read, permit))
    }
}

/// A future that runs one task in a pool, made by [`Pool::run`](super::Pool::run).
///
/// # Cancel safety
/// Dropping it cancels the task: if it has not started it never runs; if it has, and is not done within 50 ms, its worker is
/// killed and replaced.
///
/// # Examples
/// To stop waiting is to stop the work.
/// ```
/// use std::time::Duration;
///
/// use procession::{Pool, process};
///
/// #[process]
/// fn endless() {
///     loop {
///         std::hint::spin_loop();
///     }
/// }
///
/// # #[process]
/// # fn square(n: u64) -> u64 {
/// #     n * n
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let pool = Pool::new(1).await?;
/// let given_up = tokio::time::timeout(Duration::from_millis(20), pool.run(endless())).await;
/// assert!(given_up.is_err());
/// // The only worker is free again, or there is another.
/// assert_eq!(pool.run(square(4)).await?, 16);
/// # Ok(())
/// # }
/// ```
#[must_use = "futures do nothing unless you await or poll them"]
pub struct Run<T> {
    state: RunState<T>,
}

enum RunState<T> {
    Entering(Entering<T>),
    Running(One<T>),
    Done,
}

impl<T> Run<T> {
    pub(super) fn new(shared: &Arc<Shared>, call: Call<T>) -> Self {
        Self { state: RunState::Entering(Entering::new(shared, call)) }
    }
}

impl<T> Future for Run<T> {
    type Output = Result<T, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let RunState::Entering(entering) = &mut self.state {
            let entered = ready!(entering.poll(context));
            self.state = RunState::Done;
            self.state = RunState::Running(entered?);
        }
        let RunState::Running(one) = &self.state else {
            return Poll::Ready(Err(ProcessError::new("", None, Cause::Taken)));
        };
        one.poll(context)
    }
}

impl<T> Drop for Run<T> {
    fn drop(&mut self) {
        if let RunState::Running(one) = &self.state {
            one.give_up();
        }
    }
}

impl<T> fmt::Debug for Run<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").finish_non_exhaustive()
    }
}

/// A future that hands a task to a pool, made by [`Pool::submit`](super::Pool::submit): it gives the [`Task`] when the pool has room for it.
///
/// # Cancel safety
/// If it is dropped before it is ready, the task never runs.
#[must_use = "a task is handed over when this is awaited"]
pub struct Submit<T> {
    entering: Entering<T>,
}

impl<T> Submit<T> {
    pub(super) fn new(shared: &Arc<Shared>, call: Call<T>) -> Self {
        Self { entering: Entering::new(shared, call) }
    }
}

impl<T> Future for Submit<T> {
    type Output = Result<Task<T>, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let one = ready!(self.entering.poll(context))?;
        let id = self.entering.shared.next_id();
        Poll::Ready(Ok(Task { one, id }))
    }
}

impl<T> fmt::Debug for Submit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submit").finish_non_exhaustive()
    }
}

/// What tells a task of a pool from all others of the same pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(super) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A task that was handed to a pool, and runs whether or not anybody waits for it: a future of its value. Python's `AsyncResult`.
///
/// Dropping it lets the task go on, as tokio's `JoinHandle` does; it ends with its pool at the latest. [`abort`](Self::abort) ends it before.
///
/// As a future it gives the task's value, or why there is none, once: polled again, it gives [`Cause::Taken`].
///
/// # Cancel safety
/// A `&mut Task` is a future, too: in a `select!` the branch that loses costs nothing.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use procession::{Cause, Pool, process};
///
/// #[process]
/// fn endless() {
///     loop {
///         std::hint::spin_loop();
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let pool = Pool::new(1).await?;
/// let mut task = pool.submit(endless()).await?;
/// tokio::select! {
///     ended = &mut task => ended?,
///     () = tokio::time::sleep(Duration::from_millis(20)) => assert!(!task.is_finished()),
/// }
/// task.abort();
/// let error = task.await.unwrap_err();
/// assert_eq!((error.name(), error.cause()), ("endless", &Cause::Cancelled));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "AsyncResult")]
#[doc(alias = "Future")]
#[must_use = "a task that nobody holds goes on, unseen; await it, or keep it to end it"]
pub struct Task<T> {
    one: One<T>,
    id: Id,
}

impl<T> Task<T> {
    /// What tells it from the other tasks of its pool.
    #[must_use]
    pub const fn id(&self) -> Id {
        self.id
    }

    /// Whether there is an outcome: a value, or why there is none. Python's `ready`, and a future's `done`.
    #[doc(alias = "ready")]
    #[doc(alias = "done")]
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.one.is_finished()
    }

    /// The id of the worker's process that has it, or has done it; `None` while it waits for one. That has it is not to say that it has started.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.one.pid()
    }

    /// Ends it: its outcome is [`Cause::Cancelled`], at once, unless it has one. If it has not started it never runs; if it has, and is not
    /// done within 50 ms, its worker is killed and replaced.
    #[doc(alias = "cancel")]
    pub fn abort(&self) {
        self.one.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, ProcessError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.one.poll(context)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_finished() { "finished" } else { "not finished" };
        write!(f, "Task({:?}, {}, {state})", self.one.name(), self.id)
    }
}
