//! The course of a map: what goes in, what is under way, what has come out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::task::coop::poll_proceed;

use super::Shared;
use super::draft::{Draft, ENOUGH};
use super::inbox::Inbox;
use super::job::{Outcome, Replies};
use super::source::{Drawn, Source};
use crate::call::Reading;
use crate::error::{Cause, ProcessError};
use crate::wire::Packet;

/// How long a job of several items is to take: much longer than to hand it over, and short for who waits.
const CHUNK: Duration = Duration::from_micros(500);

/// The most items that a job has if nobody says how many.
const MOST: u64 = 4096;

/// The most that it has if somebody does: of items that are nothing but their length.
const LONGEST: u64 = (ENOUGH / size_of::<u32>()) as u64;

/// How long the items are to take that are under way for each worker.
const AHEAD: Duration = Duration::from_millis(4);

/// How many items are under way for each worker at least, and at most, if nobody says how many.
const ITEMS: (u64, u64) = (4, 1024);

/// What a map was told.
#[derive(Default)]
pub(super) struct Options<'a> {
    pub(super) in_flight: Option<usize>,
    pub(super) chunk: Option<usize>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    pub(super) on_progress: Option<Box<dyn FnMut(u64) + Send + 'a>>,
}

/// In which order outcomes are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the items. What has come out of order waits, and counts as under way.
    Items,
    /// That of the items, but for an error, which is given at once. Who collects keeps all of it anyway.
    Collected,
    /// That in which they come.
    Arrival,
}

/// A map under way.
pub(super) struct Course<'a, T> {
    shared: Arc<Shared>,
    source: Pin<Box<dyn Source<T> + Send + 'a>>,
    pub(super) options: Options<'a>,
    inbox: Arc<Inbox>,
    draft: Draft<T>,
    has_ended: bool,
    /// Why the source has failed, until it is told.
    failed: Option<Cause>,
    /// An error that ends it all.
    error: Option<ProcessError>,
    /// What has come, from the first item on that was not given.
    come: VecDeque<Option<Result<T, ProcessError>>>,
    given: u64,
    /// Those of the collected ones that were given.
    pub(super) values: Vec<T>,
    arrived: u64,
    /// How many of them progress was told of.
    reported: u64,
    /// The time that an item takes, in nanoseconds, once one is known.
    pace: Option<u64>,
}

impl<'a, T> Course<'a, T> {
    pub(super) fn new(shared: &Arc<Shared>, source: impl Source<T> + Send + 'a) -> Self {
        let inbox = Arc::new(Inbox::default());
        Self {
            shared: Arc::clone(shared),
            source: Box::pin(source),
            options: Options::default(),
            draft: Draft::new(Arc::clone(&inbox)),
            inbox,
            has_ended: false,
            failed: None,
            error: None,
            come: VecDeque::new(),
            given: 0,
            values: Vec::new(),
            arrived: 0,
            reported: 0,
            pace: None,
        }
    }

    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        order: Order,
    ) -> Poll<Option<Result<T, ProcessError>>> {
        loop {
            if let Some(outcome) = self.next_come() {
                return Poll::Ready(Some(outcome));
            }
            // Where results never cease, others have their turn, too.
            let turn = ready!(poll_proceed(context));
            let arrived = self.inbox.take(context);
            let any = !arrived.is_empty();
            for outcome in arrived.into_iter().flatten() {
                self.arrive(outcome, order);
            }
            if any {
                turn.made_progress();
                // Before anything is given: workers wait for this.
                self.draw(context, order);
                self.report();
                continue;
            }
            if self.draw(context, order) {
                continue;
            }
            if self.has_ended && self.arrived == self.draft.next {
                let failed = self.failed.take();
                return Poll::Ready(failed.map(|cause| Err(ProcessError::new("map", None, cause))));
            }
            return Poll::Pending;
        }
    }

    /// Draws as many items as may be under way; gives whether that has changed anything.
    fn draw(&mut self, context: &mut Context<'_>, order: Order) -> bool {
        if self.has_ended {
            return false;
        }
        let width = self.shared.backend.width() as u64;
        self.draft.chunk = self.chunk(width) as usize;
        (self.draft.timeout, self.draft.retries) = (self.options.timeout, self.options.retries);
        let out = if order == Order::Items { self.given } else { self.arrived };
        let room = self.window(width).saturating_sub(self.draft.next - out);
        // In lists, or not at all: each costs as much as one item.
        let chunk = self.draft.chunk as u64;
        let room = if chunk > 1 { room - room % chunk } else { room };
        if room == 0 {
            return false;
        }
        let Poll::Ready(drawn) = self.source.as_mut().poll_draw(context, room as usize, &mut self.draft)
        else {
            return false;
        };
        match drawn {
            Drawn::Some => {}
            Drawn::End => self.has_ended = true,
            Drawn::Failed(cause) => (self.has_ended, self.failed) = (true, Some(cause)),
        }
        let jobs = self.draft.take();
        if !jobs.is_empty() {
            self.shared.backend.submit(jobs);
        }
        for outcome in std::mem::take(&mut self.draft.failed) {
            self.arrive(outcome, order);
        }
        self.report();
        true
    }

    /// How many items a job is to have.
    fn chunk(&self, width: u64) -> u64 {
        let chunk = self.options.chunk.map_or_else(
            || {
                let by_pace = self.pace.map_or(1, |pace| CHUNK.as_nanos() as u64 / pace.max(1));
                // So many for each that none waits long for another's last.
                let by_number = self.source.left().map_or(MOST, |left| left as u64 / width.saturating_mul(4));
                by_pace.min(by_number).clamp(1, MOST)
            },
            |chunk| (chunk as u64).clamp(1, LONGEST),
        );
        let most = self.options.in_flight.map_or(u64::MAX, |most| most as u64);
        if self.options.chunk.is_some() {
            chunk.min(most)
        } else {
            chunk.min((most / width.saturating_mul(2)).max(1))
        }
    }

    /// How many items may be under way.
    fn window(&self, width: u64) -> u64 {
        if let Some(most) = self.options.in_flight {
            return most.max(1) as u64;
        }
        let (least, most) = ITEMS;
        let items =
            self.pace.map_or(least, |pace| (AHEAD.as_nanos() as u64 / pace.max(1)).clamp(least, most));
        width.saturating_mul(items.max(4 * self.draft.chunk as u64))
    }

    fn arrive(&mut self, outcome: Outcome, order: Order) {
        let Outcome { key, count, pid, result, which, name, pace } = outcome;
        if pace > 0 {
            // Another process may tell any.
            self.pace = Some(self.pace.map_or(pace, |before| before - before / 4 + pace / 4));
        }
        let name = name.as_deref().unwrap_or_else(|| which.name());
        let named = |key: u64, cause| ProcessError::new(format!("{name}[{key}]"), pid, cause).of_item(key);
        let Some((Reading { whole, plain }, limits)) = self.draft.read else { return };
        match result {
            Ok(Packet { bytes, .. }) if count > 1 => {
                let mut rest = &bytes[..];
                for key in key..key + u64::from(count) {
                    // It was put together here.
                    let length = rest.get_u32_le() as usize;
                    let (one, others) = rest.split_at(length);
                    rest = others;
                    let value = plain(one, &limits).map_err(Cause::Decode);
                    self.come_in(key, value.map_err(|cause| named(key, cause)), order);
                }
            }
            Ok(packet) => {
                let value = whole(packet, &limits).map_err(Cause::Decode);
                self.come_in(key, value.map_err(|cause| named(key, cause)), order);
            }
            Err(cause) => self.come_in(key, Err(named(key, cause)), order),
        }
    }

    /// Puts what came of an item where it is given from.
    fn come_in(&mut self, key: u64, value: Result<T, ProcessError>, order: Order) {
        self.arrived += 1;
        match (order, value) {
            (Order::Arrival, value) => self.come.push_back(Some(value)),
            // The first of those that come at the same time.
            (Order::Collected, Err(error)) => _ = self.error.get_or_insert(error),
            // The next one of those that are collected.
            (Order::Collected, Ok(value)) if key == self.given && self.come.is_empty() => {
                self.values.push(value);
                self.given += 1;
            }
            (Order::Items | Order::Collected, value) => {
                let Some(at) = key.checked_sub(self.given).map(|at| at as usize) else { return };
                if self.come.len() <= at {
                    self.come.resize_with(at + 1, || None);
                }
                self.come[at] = Some(value);
            }
        }
    }

    fn next_come(&mut self) -> Option<Result<T, ProcessError>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        let next = self.come.front_mut()?.take()?;
        self.come.pop_front();
        self.given += 1;
        Some(next)
    }

    /// Gives up whatever is under way, and draws nothing any more.
    pub(super) fn cancel(&mut self) {
        if self.arrived < self.draft.next {
            let whose: Arc<dyn Replies> = Arc::clone(&self.inbox) as _;
            self.shared.backend.give_up(&whose, None);
        }
        (self.has_ended, self.arrived) = (true, self.draft.next);
    }

    fn report(&mut self) {
        if let Some(report) = self.options.on_progress.as_mut().filter(|_| self.arrived > self.reported) {
            self.reported = self.arrived;
            report(self.arrived);
        }
    }
}

impl<T> Drop for Course<'_, T> {
    fn drop(&mut self) {
        self.cancel();
    }
}
