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
/// or [`unordered`](Self::unordered), it gives what came of each item.
///
/// # Cancel safety
/// Dropping it, or the stream that was made of it, cancels the tasks that are not done, and loses the values that were not given.
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

    /// Sets how many items may be under way: the input is never read further ahead. If nothing is said, it is as many as keep the workers
    /// busy, at least four for each.
    pub fn in_flight(mut self, items: usize) -> Self {
        self.course.options.in_flight = Some(items);
        self
    }

    /// Sets how many items go to a worker in one piece. Python's `chunksize`. If nothing is said, it is chosen from the time that they
    /// take: one of those that take long, many of those that are done in no time.
    ///
    /// It changes nothing but speed: each item has its own result, its own time limit, and its own death.
    pub fn chunk(mut self, items: usize) -> Self {
        self.course.options.chunk = Some(items);
        self
    }

    /// Limits how long each item may take from its start in the worker, which is killed if it takes longer.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.course.options.timeout = Some(limit);
        self
    }

    /// Tries an item again that was lost with its worker, up to so many times. It then may run more than once, and has one result. One that
    /// has ended three workers is not tried again: [`Cause::Poisoned`](crate::Cause::Poisoned).
    pub fn retry(mut self, times: u32) -> Self {
        self.course.options.retries = times;
        self
    }

    /// Calls a function with the number of items that are done, whenever some have been.
    pub fn on_progress(mut self, report: impl FnMut(u64) + Send + 'a) -> Self {
        self.course.options.on_progress = Some(Box::new(report));
        self
    }

    /// What came of each item, in the order of the items. Python's `imap`.
    pub fn ordered(self) -> Ordered<'a, T> {
        Ordered { course: self.course }
    }

    /// What came of each item, as soon as it has come. Python's `imap_unordered`.
    pub fn unordered(self) -> Unordered<'a, T> {
        Unordered { course: self.course }
    }
}

impl<T> Future for Map<'_, T> {
    type Output = Result<Vec<T>, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let course = &mut self.course;
        while let Some(value) = ready!(course.poll_next(context, Order::Collected)) {
            course.values.push(value?);
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
