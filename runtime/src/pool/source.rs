//! Where the items of a map come from.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::IntoCall;
use super::draft::Draft;
use crate::error::Cause;

/// What came of asking a source for items.
#[derive(Debug)]
pub(super) enum Drawn {
    /// There may be more.
    Some,
    /// There are no more.
    End,
    /// It has failed, and there are no more.
    Failed(Cause),
}

/// Items, made into calls: read when they are wanted, and not before.
pub(super) trait Source<T> {
    /// Draws up to so many items. Pending if none has come yet.
    fn poll_draw(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        most: usize,
        draft: &mut Draft<T>,
    ) -> Poll<Drawn>;

    /// How many are left, if it knows.
    fn left(&self) -> Option<usize>;
}

/// The items of an iterator.
pub(super) struct Iterated<I, F> {
    pub(super) items: I,
    pub(super) call: F,
}

// Neither is pinned by being in here.
impl<I, F> Unpin for Iterated<I, F> {}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: IntoCall> Source<C::Output> for Iterated<I, F> {
    fn poll_draw(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        most: usize,
        draft: &mut Draft<C::Output>,
    ) -> Poll<Drawn> {
        let Self { items, call } = &mut *self;
        for _ in 0..most {
            let Some(item) = items.next() else { return Poll::Ready(Drawn::End) };
            draft.add(call(item).into_call());
        }
        Poll::Ready(Drawn::Some)
    }

    fn left(&self) -> Option<usize> {
        self.items.size_hint().1
    }
}

/// The items of a stream, until it ends or fails.
pub(super) struct Streamed<S, F> {
    pub(super) items: Pin<Box<S>>,
    pub(super) call: F,
}

impl<S, F> Unpin for Streamed<S, F> {}

impl<S, F, A, E, C> Source<C::Output> for Streamed<S, F>
where
    S: Stream<Item = Result<A, E>>,
    E: Display,
    F: FnMut(A) -> C,
    C: IntoCall,
{
    fn poll_draw(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        most: usize,
        draft: &mut Draft<C::Output>,
    ) -> Poll<Drawn> {
        let Self { items, call } = &mut *self;
        for drawn in 0..most {
            match items.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(item))) => draft.add(call(item).into_call()),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Drawn::Failed(Cause::Input { reason: error.to_string() }));
                }
                Poll::Ready(None) => return Poll::Ready(Drawn::End),
                Poll::Pending if drawn == 0 => return Poll::Pending,
                // It wakes this task when it has more.
                Poll::Pending => break,
            }
        }
        Poll::Ready(Drawn::Some)
    }

    fn left(&self) -> Option<usize> {
        self.items.size_hint().1
    }
}
