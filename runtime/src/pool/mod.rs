//! Pools: processes that run many tasks, one after the other.

mod backend;
mod builder;
mod course;
mod draft;
mod enclosed;
mod far;
mod here;
mod inbox;
mod init;
mod into_call;
mod job;
mod kept;
mod map;
mod one;
mod processes;
mod recipe;
mod settings;
mod source;
mod stats;
mod task;
mod which;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use tokio::sync::Semaphore;

use self::backend::Backend;
use self::far::{Ends, Far, serve};
use self::source::{Iterated, Streamed};
use crate::call::Call;
use crate::control::Control;
use crate::error::ProcessError;
use crate::pipe::simplex_with;
use crate::wire::Limits;

pub use builder::Builder;
pub use init::Initialised;
pub use into_call::IntoCall;
pub use kept::{keep, kept};
pub use map::{Map, Ordered, Unordered};
pub use recipe::Recipe;
pub use stats::{Slow, Stats, WorkerState, WorkerStats};
pub use task::{Id, Run, Submit, Task};

/// How many single tasks may wait in a pool or run, for each worker and at least. Who submits more waits.
const QUEUE: (usize, usize) = (64, 1024);

/// Processes that run many tasks, one after the other. Python's `Pool`.
#[derive(Clone)]
#[must_use = "dropping the last handle of a pool kills its workers"]
pub struct Pool {
    handle: Arc<Handle>,
}

/// What the futures of a pool share with it.
#[derive(Debug)]
struct Shared {
    backend: Arc<dyn Backend>,
    /// Room for single tasks.
    queue: Arc<Semaphore>,
    ids: AtomicU64,
    /// Of the pipes to a process that a handle goes to.
    limits: Limits,
}

impl Shared {
    fn next_id(&self) -> Id {
        Id(self.ids.fetch_add(1, Relaxed))
    }
}

/// Ends the pool when the last of its handles is dropped.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let unfinished = self.shared.backend.unfinished();
        if unfinished > 0 {
            tracing::warn!(
                unfinished,
                "a pool is dropped while tasks of it are not done: they are cancelled"
            );
        }
        self.shared.queue.close();
        self.shared.backend.start_kill();
    }
}

impl Pool {
    /// Starts a pool of so many workers.
    ///
    /// # Errors
    /// Why one of them could not be had; then none is left.
    ///
    /// # Cancel safety
    /// Dropping it before it is ready ends the workers that have started.
    pub async fn new(workers: usize) -> Result<Self, ProcessError> {
        Self::builder().workers(workers).build().await
    }

    /// What a pool is to be, before its workers start.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn of(backend: Arc<dyn Backend>, limits: Limits) -> Self {
        let (each, least) = QUEUE;
        let room = (backend.width() * each).max(least);
        let queue = Arc::new(Semaphore::new(room));
        Self {
            handle: Arc::new(Handle {
                shared: Arc::new(Shared { backend, queue, ids: AtomicU64::new(0), limits }),
            }),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Runs a task, and gives its value. Python's `apply`.
    ///
    /// # Errors
    /// Why there is no value: the task has ended its worker, or could not be sent, or the pool is closed.
    pub fn run<T>(&self, call: Call<T>) -> Run<T> {
        Run::new(self.shared(), call)
    }

    /// Hands over a task, and gives a handle to it. Python's `apply_async`.
    ///
    /// # Errors
    /// If it could not be sent, or the pool is closed.
    pub fn submit<T>(&self, call: Call<T>) -> Submit<T> {
        Submit::new(self.shared(), call)
    }

    /// Runs a function for each item, and gives the values in order. Python's `map`; a closure that takes a tuple makes it `starmap`.
    ///
    /// The function is called here and makes the calls; they run in the workers. The items are read as they are wanted: never further
    /// ahead than keeps the workers busy, or [`Map::in_flight`] says.
    pub fn map<'a, I, F, C>(&self, function: F, items: I) -> Map<'a, C::Output>
    where
        I: IntoIterator<IntoIter: Send + 'a>,
        F: FnMut(I::Item) -> C + Send + 'a,
        C: IntoCall,
    {
        Map::new(self.shared(), Iterated { items: items.into_iter(), call: function })
    }

    /// The same for the items of a stream.
    pub fn map_stream<'a, S, F, C>(&self, function: F, items: S) -> Map<'a, C::Output>
    where
        S: Stream + Send + 'a,
        F: FnMut(S::Item) -> C + Send + 'a,
        C: IntoCall,
    {
        self.try_map_stream(function, items.map(Ok::<_, Infallible>))
    }

    /// The same for the items of a stream that can fail. Its error ends the map, behind the items that came before it, with
    /// [`Cause::Input`](crate::Cause::Input).
    pub fn try_map_stream<'a, S, F, A, E, C>(&self, function: F, items: S) -> Map<'a, C::Output>
    where
        S: Stream<Item = Result<A, E>> + Send + 'a,
        F: FnMut(A) -> C + Send + 'a,
        C: IntoCall,
        E: fmt::Display,
    {
        Map::new(self.shared(), Streamed { items: Box::pin(items), call: function })
    }

    /// What it has done, and what it is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().backend.stats()
    }

    /// Takes no more tasks, does those that it has, and ends its workers. Python's `close` and `join`.
    ///
    /// # Errors
    /// [`Cause::RestartLimit`](crate::Cause::RestartLimit) if the pool has given up by itself.
    pub fn close(&self) -> Close {
        Close { shared: Arc::clone(self.shared()), cancels_pending: false, closing: None }
    }

    /// Takes no more tasks, cancels those that it has, and kills its workers. Python's `terminate` and `join`.
    ///
    /// # Cancel safety
    /// The workers are killed when this is first polled; dropping it then only ends the waiting.
    pub async fn kill(&self) {
        self.shared().queue.close();
        self.shared().backend.start_kill();
        self.shared().backend.ended().await;
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// What travels is a way to the pool: the process that gets it has its tasks done by the workers of the one that has the pool, for as
/// long as that has it.
impl Serialize for Pool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let limits = self.shared().limits;
        let (requests, asked) = simplex_with(limits).map_err(S::Error::custom)?;
        let (tell, answers) = simplex_with(limits).map_err(S::Error::custom)?;
        let backend = Arc::clone(&self.shared().backend);
        let width = backend.width() as u64;
        Control::get().map_err(S::Error::custom)?.run(serve(backend, asked, tell));
        Ends { requests, answers, width }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ends = Ends::deserialize(deserializer)?;
        let limits = ends.requests.limits();
        Ok(Self::of(Arc::new(Far::new(ends).map_err(D::Error::custom)?), limits))
    }
}

/// A future that closes a pool, made by [`Pool::close`].
///
/// # Cancel safety
/// Once it was polled the pool is closed; dropping it then only ends the waiting.
#[must_use = "a pool is closed when this is awaited"]
pub struct Close {
    shared: Arc<Shared>,
    cancels_pending: bool,
    closing: Option<BoxFuture<'static, Result<(), ProcessError>>>,
}

impl Close {
    /// Cancels the tasks that have not started, instead of doing them.
    pub fn cancel_pending(mut self) -> Self {
        self.cancels_pending = true;
        self
    }
}

impl Future for Close {
    type Output = Result<(), ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, cancels_pending, closing } = &mut *self;
        let closing = closing.get_or_insert_with(|| {
            shared.queue.close();
            let (backend, cancels_pending) = (Arc::clone(&shared.backend), *cancels_pending);
            Box::pin(async move { backend.close(cancels_pending).await })
        });
        closing.as_mut().poll(context)
    }
}

impl fmt::Debug for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Close").finish_non_exhaustive()
    }
}

/// How many workers a pool has: a number, or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    least: usize,
    most: usize,
}

/// As many as there are processors.
impl Default for Workers {
    fn default() -> Self {
        std::thread::available_parallelism().map_or(1, usize::from).into()
    }
}

impl From<usize> for Workers {
    fn from(number: usize) -> Self {
        Self { least: number, most: number }
    }
}

impl From<RangeInclusive<usize>> for Workers {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self { least: *range.start(), most: *range.end() }
    }
}
