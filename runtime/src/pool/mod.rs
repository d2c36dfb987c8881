//! Pools: processes that run many tasks, one after the other.
//!
//! A call that is awaited by itself has a process of its own, and pays for its start: the better part of a millisecond. A pool keeps some processes,
//! its *workers*, and hands them one call after another, its *tasks*. What a process is for it has all the same: a task that crashes, hangs or is
//! killed costs itself, and its worker is replaced.
//!
//! ```
//! use procession::{Pool, process};
//!
//! #[process]
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), procession::ProcessError> {
//! let pool = Pool::new(3).await?;
//! assert_eq!(pool.run(square(7)).await?, 49);
//! assert_eq!(pool.map(square, 1..=5).await?, [1, 4, 9, 16, 25]);
//! pool.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Which one to take
//!
//! | you have | take | Python's |
//! |---|---|---|
//! | one task, and wait for it here | [`run`](Pool::run) | `apply` |
//! | one task, and something to do meanwhile | [`submit`](Pool::submit), which gives a [`Task`] | `apply_async` |
//! | one function and many items, and want all values | [`map`](Pool::map), awaited | `map`, `starmap` |
//! | the same, and want each value as soon as it is there | `map(..).`[`unordered()`](Map::unordered) | `imap_unordered` |
//! | the same, in the order of the items | `map(..).`[`ordered()`](Map::ordered) | `imap` |
//! | items that come from a stream | [`map_stream`](Pool::map_stream), [`try_map_stream`](Pool::try_map_stream) | |
//! | something to load before the first task | [`Builder::init`], [`keep`](keep()), [`kept`](kept()) | `initializer` |
//!
//! The first argument of a map is a `#[process]` function, or a closure that makes a call: `|(a, b)| add(a, b)`. The closure runs in this process,
//! and the call that it makes in a worker.
//!
//! # When something goes wrong
//!
//! | what happens | the task has | its worker | the other tasks |
//! |---|---|---|---|
//! | the function returns an `Err` | that value: no error of a task | goes on | go on |
//! | it panics | [`Panicked`](crate::Cause::Panicked) | goes on | go on |
//! | it exits, crashes, or is killed | [`Exited`](crate::Cause::Exited), [`Signaled`](crate::Cause::Signaled), [`StackOverflow`](crate::Cause::StackOverflow) | is replaced | go on |
//! | it runs longer than its limit | [`TimedOut`](crate::Cause::TimedOut) | is killed, and replaced | go on |
//! | nobody waits for it any more: its [`Run`] or [`Map`] was dropped | | has 50 ms to be done, then is killed | go on |
//! | [`Task::abort`] | [`Cancelled`](crate::Cause::Cancelled) | the same | go on |
//! | its arguments or its value cannot be sent | [`Encode`](crate::Cause::Encode), [`Decode`](crate::Cause::Decode), [`TooLarge`](crate::Cause::TooLarge) | goes on | go on |
//! | an item has ended three workers, with [`Map::retry`] | [`Poisoned`](crate::Cause::Poisoned) | is replaced | go on |
//! | eight workers in a row fail before they have done anything | [`RestartLimit`](crate::Cause::RestartLimit) | | the same: the pool is closed |
//!
//! "Go on" means all of them: those that wait behind the task in the same worker have not started, and go to another. Only with
//! [`concurrency`](Builder::concurrency) does a worker have several that have started, and its death costs them all.
//!
//! A map that is awaited ends with its first error and cancels the rest; as a stream it gives each error in its place, and goes on.
//!
//! # Time
//!
//! A time limit ([`Map::timeout`], or [`Call::timeout`] of a single task) starts when the function starts in its worker. What the task has waited in
//! the queue does not count, nor the start of the worker. It ends the work itself. So does `tokio::time::timeout` around a `run` or a `map`, which
//! counts from now on: it drops the future, and that cancels the task.
//!
//! # The end
//!
//! | | takes new tasks | those that wait | those that run |
//! |---|---|---|---|
//! | [`close`](Pool::close) | no | are done | are done |
//! | [`close().cancel_pending()`](Close::cancel_pending) | no | are cancelled | are done |
//! | [`kill`](Pool::kill) | no | are cancelled | are killed |
//! | the last handle is dropped | | are cancelled | are killed; a warning by `tracing` if there are any |
//! | this process ends, in whatever way | | | are killed |
//!
//! `close` and `kill` are awaited until no worker is left. What is submitted afterwards is [`Cause::Closed`](crate::Cause::Closed).
//!
//! # How many at a time
//!
//! As many tasks run as there are workers: as many as processors, if [`Builder::workers`] says nothing. What is submitted singly waits in a queue of
//! 64 for each worker, and at least 1024; then `run` and `submit` wait for room. A map reads its items as the workers want them, never further ahead
//! than [`Map::in_flight`], so that an endless iterator can go in and memory stays as it is.
//!
//! # What travels
//!
//! Arguments and values are encoded as those of any call, within the [`Limits`] of the pool ([`Builder::limits`], 16 MiB if nothing is said) and of
//! the call. Handles may be among them: ends of pipes, files, locks; a [`Pool`], too, so that a task or another child has its work done by the same
//! workers.
//!
//! What a task has *not* for itself is the process. Environment, directory and output are the worker's, which are this program's, and a call that
//! asks for others is refused. And nothing is forgotten between two tasks: statics, thread-locals, open files and what is left on the heap are there
//! for the next. Where this must not be, because the input is hostile or the code leaks, let workers be replaced: [`Builder::max_tasks`],
//! [`Builder::max_rss`].
//!
//! # What it takes
//!
//! For each worker a process, 160 KiB of shared memory, and five descriptors in this one. A task that is short costs no call of the system while the
//! worker is busy. The pool needs no tokio runtime of its own: its futures work in any executor.

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

/// Processes that run many tasks, one after the other. Python's `Pool` and `ProcessPoolExecutor`.
///
/// It is a handle: its clones are the same pool, and so is one that has gone to another process as an argument, a result or a field of a message.
/// When the last of those in this process is dropped the pool is killed; [`close`](Self::close) it to have it finish. The [module](self) says what
/// holds of pools.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use procession::{Pool, process};
///
/// #[process]
/// fn parse(text: String) -> usize {
///     match text.as_str() {
///         "crash" => std::process::abort(),
///         "hang" => loop {
///             std::hint::spin_loop();
///         },
///         text => text.len(),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// use futures_util::StreamExt;
///
/// let pool = Pool::new(2).await?;
/// let texts = ["one", "crash", "three", "hang", "five"].map(str::to_owned);
/// let mut lengths = pool.map(parse, texts).timeout(Duration::from_millis(500)).ordered();
/// let mut found = Vec::new();
/// while let Some(length) = lengths.next().await {
///     found.push(length.map_err(|error| error.cause().to_string()));
/// }
/// assert_eq!(found[0], Ok(3));
/// assert!(found[1].as_ref().is_err_and(|cause| cause.starts_with("was killed by SIGABRT")));
/// assert_eq!(found[2], Ok(5));
/// assert_eq!(found[3], Err("exceeded its time limit of 500ms and was killed".to_owned()));
/// assert_eq!(found[4], Ok(4));
/// pool.close().await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "ProcessPoolExecutor")]
#[doc(alias = "multiprocessing")]
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
    /// Starts a pool of so many workers, and waits until they are there.
    ///
    /// [`builder`](Self::builder) says more about them, and has as many as there are processors if it is not told a number.
    ///
    /// # Errors
    /// Why one of them could not be had; then none is left. [`Cause::Start`](crate::Cause::Start) if the number is zero.
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
        let room = backend.width().saturating_mul(each).clamp(least, Semaphore::MAX_PERMITS);
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

    /// Runs a task in a worker, and gives its value. Python's `apply`.
    ///
    /// It begins when it is first polled; where the queue is full it waits for room. What a call says of itself holds: its
    /// [`timeout`](Call::timeout), its [`name`](Call::name) in errors, its limits. The name of the process is the worker's.
    ///
    /// # Errors
    /// Why there is no value: the task has ended its worker, or took too long; it or its value could not be sent; the call asks for an environment, a
    /// directory, streams or limits of its own; the pool is [closed](crate::Cause::Closed).
    ///
    /// # Cancel safety
    /// Dropping it cancels the task: see [`Run`].
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// #[process]
    /// fn add(a: u64, b: u64) -> u64 {
    ///     a + b
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// let pool = Pool::new(2).await?;
    /// let (one, other) = tokio::try_join!(pool.run(add(1, 2)), pool.run(add(3, 4)))?;
    /// assert_eq!((one, other), (3, 7));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "apply")]
    pub fn run<T>(&self, call: Call<T>) -> Run<T> {
        Run::new(self.shared(), call)
    }

    /// Hands over a task, and gives a handle to it. Python's `apply_async`, and an executor's `submit`.
    ///
    /// When this is ready the pool has the task, and runs it whether or not anybody waits for the [`Task`]. Where the queue is full it is
    /// ready when there is room, so that whoever submits in a loop cannot fill the memory.
    ///
    /// # Errors
    /// If its arguments could not be sent, it asks for what a task cannot have, or the pool is [closed](crate::Cause::Closed). What comes of it is
    /// the [`Task`]'s.
    ///
    /// # Cancel safety
    /// If it is dropped before it is ready, the task never runs.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// # #[process]
    /// # fn square(n: u64) -> u64 {
    /// #     n * n
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// let pool = Pool::new(2).await?;
    /// let task = pool.submit(square(12)).await?;
    /// // Something else is done here, and then:
    /// assert_eq!(task.await?, 144);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "apply_async")]
    pub fn submit<T>(&self, call: Call<T>) -> Submit<T> {
        Submit::new(self.shared(), call)
    }

    /// Runs a function for each item, and gives the values in order. Python's `map`; a closure that takes a tuple makes it `starmap`.
    ///
    /// The function is a `#[process]` function, or a closure that calls one. It is called here, when the item is read, and makes the call; what runs
    /// in a worker is the call. So a closure may capture what cannot travel, and all of its items may be calls of different functions with the same
    /// result.
    ///
    /// The items are read as they are wanted: never further ahead than keeps the workers busy, or [`Map::in_flight`] says. Nothing is read before the
    /// map is polled, and what the iterator does it does in the task that polls: one that blocks belongs behind [`map_stream`](Self::map_stream).
    ///
    /// Awaited, it gives all values, or the first error; [`ordered`](Map::ordered) and [`unordered`](Map::unordered) make it a stream, which gives
    /// what came of each item.
    ///
    /// # Errors
    /// The first error of an item, whose name is the function's, or the call's if it has one, with the item's number: `parse[17]`. It comes as soon as it is there, and cancels the
    /// rest. What the function itself returns is a value, even an `Err`: a map over a function that gives a `Result` gives a `Vec` of `Result`s.
    ///
    /// # Cancel safety
    /// Dropping it cancels what is not done: see [`Map`].
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// #[process]
    /// fn add(a: u64, b: u64) -> u64 {
    ///     a + b
    /// }
    ///
    /// #[process]
    /// fn parse(text: String) -> Result<u64, String> {
    ///     text.parse().map_err(|_error| format!("{text} is no number"))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::new(2).await?;
    /// // Items that are tuples: a closure takes them apart.
    /// assert_eq!(pool.map(|(a, b)| add(a, b), [(1, 2), (3, 4)]).await?, [3, 7]);
    /// // An argument that is the same for all.
    /// assert_eq!(pool.map(|n| add(n, 10), 0..3).await?, [10, 11, 12]);
    ///
    /// // The first `?` is for the pool, the second for the function.
    /// let parsed = pool.map(parse, ["1", "2"].map(str::to_owned)).await?;
    /// let numbers: Vec<u64> = parsed.into_iter().collect::<Result<_, _>>()?;
    /// assert_eq!(numbers, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "starmap")]
    #[doc(alias = "map_async")]
    #[doc(alias = "starmap_async")]
    pub fn map<'a, I, F, C>(&self, function: F, items: I) -> Map<'a, C::Output>
    where
        I: IntoIterator<IntoIter: Send + 'a>,
        F: FnMut(I::Item) -> C + Send + 'a,
        C: IntoCall,
    {
        Map::new(self.shared(), Iterated { items: items.into_iter(), call: function })
    }

    /// Runs a function for each item of a stream, and gives the values in order.
    ///
    /// As [`map`](Self::map), for items that are waited for: lines that are read, messages that arrive. The stream is polled when there is room for
    /// an item, so that what feeds it feels how fast the workers are.
    ///
    /// # Examples
    /// A mailbox is a stream: what other processes send is worked on as it comes.
    /// ```
    /// # use procession::{Pool, mailbox, process};
    /// # #[process]
    /// # fn square(n: u64) -> u64 {
    /// #     n * n
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::new(2).await?;
    /// let (outbox, numbers) = mailbox(8)?;
    /// let send = async {
    ///     for n in 1..=20 {
    ///         outbox.send(n).await?;
    ///     }
    ///     outbox.close();
    ///     Ok::<_, Box<dyn std::error::Error>>(())
    /// };
    /// let (sent, squares) = tokio::join!(send, pool.map_stream(square, numbers));
    /// sent?;
    /// assert_eq!(squares?.iter().sum::<u64>(), 2870);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_stream<'a, S, F, C>(&self, function: F, items: S) -> Map<'a, C::Output>
    where
        S: Stream + Send + 'a,
        F: FnMut(S::Item) -> C + Send + 'a,
        C: IntoCall,
    {
        self.try_map_stream(function, items.map(Ok::<_, Infallible>))
    }

    /// Runs a function for each item of a stream that can fail, and gives the values in order.
    ///
    /// # Errors
    /// As [`map`](Self::map). An error of the stream is [`Cause::Input`](crate::Cause::Input), with its text. It is given when the items that came
    /// before it are done, and ends the map; the pool goes on.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Cause, Pool, process};
    /// # #[process]
    /// # fn length(text: String) -> usize {
    /// #     text.len()
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// use futures_util::{StreamExt, stream};
    ///
    /// let pool = Pool::new(2).await?;
    /// let lines = stream::iter([Ok("one".to_owned()), Ok("three".to_owned()), Err("the tape is torn")]);
    /// let mut lengths = pool.try_map_stream(length, lines).ordered();
    /// assert_eq!(lengths.next().await.transpose()?, Some(3));
    /// assert_eq!(lengths.next().await.transpose()?, Some(5));
    /// let torn = lengths.next().await.map(|length| length.unwrap_err());
    /// assert!(torn.is_some_and(|error| matches!(error.cause(), Cause::Input { .. })));
    /// assert!(lengths.next().await.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_map_stream<'a, S, F, A, E, C>(&self, function: F, items: S) -> Map<'a, C::Output>
    where
        S: Stream<Item = Result<A, E>> + Send + 'a,
        F: FnMut(A) -> C + Send + 'a,
        C: IntoCall,
        E: fmt::Display,
    {
        Map::new(self.shared(), Streamed { items: Box::pin(items), call: function })
    }

    /// What it has done, and what it is doing: numbers of this moment. Printed, it is a table.
    ///
    /// It reads a file of `/proc` for each worker, and waits for nothing. Of a handle in another process it tells what was asked by that handle
    /// alone.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().backend.stats()
    }

    /// Takes no more tasks, does those that it has, and ends its workers. Python's `close` and `join`; an executor's `shutdown`.
    ///
    /// It closes the pool for all of its handles, is ready when no worker is left, and may be called again. [`Close::cancel_pending`] does not wait
    /// for tasks that have not started. A handle in another process closes itself alone.
    ///
    /// # Errors
    /// [`Cause::RestartLimit`](crate::Cause::RestartLimit) if the pool has given up by itself. Errors of tasks are none of its own.
    ///
    /// # Cancel safety
    /// Once it was polled the pool is closed; dropping it then only ends the waiting.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Cause, Pool, process};
    /// # #[process]
    /// # fn square(n: u64) -> u64 {
    /// #     n * n
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// let pool = Pool::new(1).await?;
    /// let task = pool.submit(square(5)).await?;
    /// pool.close().await?;
    /// assert_eq!(task.await?, 25);
    /// let refused = pool.run(square(6)).await.unwrap_err();
    /// assert_eq!(refused.cause(), &Cause::Closed);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "join")]
    #[doc(alias = "shutdown")]
    pub fn close(&self) -> Close {
        Close { shared: Arc::clone(self.shared()), cancels_pending: false, closing: None }
    }

    /// Takes no more tasks, cancels those that it has, and kills its workers. Python's `terminate` and `join`.
    ///
    /// It is ready when no worker is left. Whoever waits for a task of the pool has [`Cause::Cancelled`](crate::Cause::Cancelled).
    ///
    /// # Cancel safety
    /// The workers are killed when this is first polled; dropping it then only ends the waiting.
    #[doc(alias = "terminate")]
    #[doc(alias = "kill_workers")]
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
/// long as that has it. When that process ends, or drops its handle, the tasks that it has asked for are given up.
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
    /// Cancels the tasks that have not started, instead of doing them. Python's `cancel_futures`.
    #[doc(alias = "cancel_futures")]
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

/// How many workers a pool has: a number, or a range, as [`Builder::workers`] takes it.
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
