//! Many tasks of one function, one for each item.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::Shared;
use super::course::{Course, Order};
use super::source::Source;
use crate::error::ProcessError;

/// Many tasks of one function, one for each item: made by [`Pool::map`](super::Pool::map).
///
/// Awaited, it gives all values in the order of the items, or the first error, which cancels the rest. As a stream, [`ordered`](Self::ordered)
/// or [`unordered`](Self::unordered), it gives what came of each item, errors too, and goes on after them.
///
/// | said by | if it is not said |
/// |---|---|
/// | [`in_flight`](Self::in_flight): how many items are under way | as many as keep the workers busy |
/// | [`chunk`](Self::chunk): how many go to a worker in one piece | by the time that they take |
/// | [`timeout`](Self::timeout): how long each may run | for ever |
/// | [`retry`](Self::retry): how often one is tried again that was lost with its worker | never |
/// | [`on_progress`](Self::on_progress): who hears how many are done | nobody |
///
/// It is driven by whoever polls it: where nobody does, nothing more is read, and the workers run dry.
///
/// # Cancel safety
/// Dropping it, or the stream that was made of it, cancels the tasks that are not done, and loses the values that were not given.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use procession::{Pool, process};
///
/// #[process]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let pool = Pool::new(2).await?;
/// let mut done = 0;
/// let map = pool.map(square, 0..1000).timeout(Duration::from_secs(1)).retry(2);
/// let squares = map.on_progress(|items| done = items).await?;
/// assert_eq!((squares.len(), squares[999], done), (1000, 998_001, 1000));
/// # Ok(())
/// # }
/// ```
#[must_use = "a map does nothing until it is awaited, or made a stream"]
pub struct Map<'a, T> {
    course: Course<'a, T>,
}

// No value is pinned by being in here.
impl<T> Unpin for Map<'_, T> {}

impl<'a, T> Map<'a, T> {
    pub(super) fn new(shared: &Arc<Shared>, source: impl Source<T> + Send + 'a) -> Self {
        Self { course: Course::new(shared, source) }
    }

    /// Sets how many items may be under way, at least one: the input is never read further ahead. Python's `buffersize`. If nothing is said, it is as
    /// many as keep the workers busy, at least four for each.
    ///
    /// # Examples
    /// Input without an end, and memory that stays as it is.
    /// ```
    /// # use procession::{Pool, process};
    /// # #[process]
    /// # fn square(n: u64) -> u64 {
    /// #     n * n
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// use futures_util::{StreamExt, TryStreamExt};
    ///
    /// let pool = Pool::new(2).await?;
    /// let squares = pool.map(square, 1..).in_flight(8).ordered();
    /// let first: Vec<u64> = squares.take(5).try_collect().await?;
    /// assert_eq!(first, [1, 4, 9, 16, 25]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "buffersize")]
    pub fn in_flight(mut self, items: usize) -> Self {
        self.course.options.in_flight = Some(items);
        self
    }

    /// Sets how many items go to a worker in one piece. Python's `chunksize`. If nothing is said, it is chosen from the time that they
    /// take: one of those that take long, many of those that are done in no time.
    ///
    /// It changes nothing but speed: each item has its own result, its own time limit, and its own death. Calls that have a
    /// [name](crate::Call::name) go one by one.
    #[doc(alias = "chunksize")]
    pub fn chunk(mut self, items: usize) -> Self {
        self.course.options.chunk = Some(items);
        self
    }

    /// Limits how long each item may take from its start in the worker, which is killed if it takes longer:
    /// [`Cause::TimedOut`](crate::Cause::TimedOut).
    ///
    /// A [`timeout`](crate::Call::timeout) that the item's call has goes before this.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Cause, Pool, process};
    /// use std::time::Duration;
    ///
    /// #[process]
    /// fn pause(time: Duration) -> Duration {
    ///     std::thread::sleep(time);
    ///     time
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// use futures_util::StreamExt;
    ///
    /// let pool = Pool::new(2).await?;
    /// let (limit, hour) = (Duration::from_millis(500), Duration::from_secs(3600));
    /// let pauses: Vec<_> = pool.map(pause, [Duration::ZERO, hour]).timeout(limit).ordered().collect().await;
    /// assert_eq!(pauses[0], Ok(Duration::ZERO));
    /// assert_eq!(pauses[1].as_ref().unwrap_err().cause(), &Cause::TimedOut { after: limit });
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.course.options.timeout = Some(limit);
        self
    }

    /// Tries an item again that was lost with its worker, up to so many times: the worker has died, or was killed for the item's time limit. It then
    /// may run more than once, and has one result. What the function returns is never tried again, nor a panic.
    ///
    /// One that has ended three workers is not tried again, whatever the number: [`Cause::Poisoned`](crate::Cause::Poisoned). Nor is one whose
    /// arguments have handles, since they have gone with the worker.
    ///
    /// Where a worker has [several at a time](super::Builder::concurrency), each of those that it had started is lost with it, and uses up a try.
    /// Who has ended it is not known then: it counts towards the three of an item alone that was the only one started. One that has no tries left has
    /// the cause of its last loss.
    ///
    /// # Examples
    /// ```
    /// # use std::path::PathBuf;
    /// # use procession::{Pool, process};
    /// /// Is killed the first time.
    /// #[process]
    /// fn unlucky(been_here: PathBuf) -> u32 {
    ///     if std::fs::create_dir(been_here).is_ok() {
    ///         std::process::abort();
    ///     }
    ///     7
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// # let been_here = std::env::temp_dir().join(format!("procession-retry-{}", std::process::id()));
    /// let pool = Pool::new(2).await?;
    /// assert_eq!(pool.map(unlucky, [been_here.clone()]).retry(1).await?, [7]);
    /// # std::fs::remove_dir(been_here).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry(mut self, times: u32) -> Self {
        self.course.options.retries = times;
        self
    }

    /// Calls a function with the number of items that are done, failed ones too, whenever some have been.
    ///
    /// It is called by the task that polls the map, and holds it up: a progress bar is told, a file is not written.
    pub fn on_progress(mut self, report: impl FnMut(u64) + Send + 'a) -> Self {
        self.course.options.on_progress = Some(Box::new(report));
        self
    }

    /// What came of each item, in the order of the items. Python's `imap`.
    ///
    /// An item that takes long holds up those behind it, of which no more are begun than [`in_flight`](Self::in_flight) says.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// #[process]
    /// fn invert(n: i64) -> i64 {
    ///     100 / n
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// use futures_util::StreamExt;
    ///
    /// let pool = Pool::new(2).await?;
    /// let inverses: Vec<_> = pool.map(invert, [5, 0, 20]).ordered().collect().await;
    /// assert_eq!((&inverses[0], &inverses[2]), (&Ok(20), &Ok(5)));
    /// assert!(inverses[1].as_ref().is_err_and(|error| error.is_panic()));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "imap")]
    pub fn ordered(self) -> Ordered<'a, T> {
        Ordered { course: self.course }
    }

    /// What came of each item, as soon as it has come. Python's `imap_unordered`, and `as_completed`.
    ///
    /// Which item it was the value has to say: have the function return it. An error has its number in its name.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// #[process]
    /// fn half(n: u64) -> (u64, u64) {
    ///     assert!(n % 2 == 0, "it is odd");
    ///     (n, n / 2)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// use futures_util::StreamExt;
    ///
    /// let pool = Pool::new(2).await?;
    /// let mut halves = pool.map(half, [4, 6, 7, 8]).unordered();
    /// while let Some(outcome) = halves.next().await {
    ///     match outcome {
    ///         Ok((n, half)) => assert_eq!(n, 2 * half),
    ///         Err(error) => assert_eq!(error.name(), "half[2]"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "imap_unordered")]
    #[doc(alias = "as_completed")]
    pub fn unordered(self) -> Unordered<'a, T> {
        Unordered { course: self.course }
    }
}

impl<T> Future for Map<'_, T> {
    type Output = Result<Vec<T>, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let course = &mut self.course;
        while let Some(value) = ready!(course.poll_next(context, Order::Collected)) {
            match value {
                Ok(value) => course.values.push(value),
                Err(error) => {
                    course.cancel();
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut course.values)))
    }
}

impl<T> fmt::Debug for Map<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").finish_non_exhaustive()
    }
}

macro_rules! stream {
    ($(#[$doc:meta])* $name:ident by $order:expr) => {
        $(#[$doc])*
        #[must_use = "streams do nothing unless you poll them"]
        pub struct $name<'a, T> {
            course: Course<'a, T>,
        }

        // No value is pinned by being in here.
        impl<T> Unpin for $name<'_, T> {}

        impl<T> Stream for $name<'_, T> {
            type Item = Result<T, ProcessError>;

            fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                self.course.poll_next(context, $order)
            }
        }

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

stream! {
    /// A stream of what came of a map's items, in their order: made by [`Map::ordered`].
    ///
    /// # Cancel safety
    /// Dropping it cancels the tasks that are not done. What has come and waits for its turn counts as under way, so that no more is
    /// kept than [`Map::in_flight`] says.
    Ordered by Order::Items
}

stream! {
    /// A stream of what came of a map's items, as it comes: made by [`Map::unordered`].
    ///
    /// # Cancel safety
    /// Dropping it cancels the tasks that are not done.
    Unordered by Order::Arrival
}
