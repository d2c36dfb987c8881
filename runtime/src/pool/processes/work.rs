//! The life of a worker: it takes jobs from its desk, runs them, and leaves the results there.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use futures_util::future::{AbortHandle, Abortable, Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::desk::{Desk, Gone, Job, Lot};
use super::letter::Answer;
use crate::boot;
use crate::entry::{Body, Calls, Entry, Given};
use crate::link::Report;
use crate::pool::enclosed::Enclosed;
use crate::pool::which::Function;
use crate::wire::{EncodeError, Limits, Packet, Parcel};
use crate::{panic, sys};

/// What a worker does first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct First {
    pub(super) function: Function,
    pub(super) arguments: Enclosed,
}

/// Runs jobs until the pool wants no more of this worker.
#[procession_macros::process(crate = crate, name = "pool-worker")]
pub(super) fn work(lot: Lot, first: Option<First>) -> Result<(), String> {
    let (limits, concurrency) = (lot.limits, lot.concurrency);
    let desk = Desk::new(lot);
    let runtime = boot::runtime(0).map_err(|error| format!("no tokio runtime: {error}"))?;
    let mut worker = Worker { desk, hands: Hands { runtime, others: BTreeMap::new(), limits } };
    worker.begin(first);
    // Nothing is left to do, or nobody to do it for.
    let Gone = if concurrency > 1 { worker.run_many(concurrency) } else { worker.run_singly() };
    if !worker.desk.is_ours() {
        // A task has forked, and this is the copy: what it owes to the original it must not do.
        sys::exit_now(0);
    }
    Ok(())
}

struct Worker {
    desk: Desk,
    hands: Hands,
}

/// What runs functions.
struct Hands {
    runtime: Runtime,
    /// Those for functions that ask for threads, by how many.
    others: BTreeMap<usize, Runtime>,
    limits: Limits,
}

/// What became of an item of a job, in a worker that has several at a time.
type Ended = (Job, Instant, Option<Result<Parcel, Box<Report>>>);

impl Worker {
    fn begin(&mut self, first: Option<First>) {
        let begun = Instant::now();
        let done = first.map(|First { function, arguments }| match Desk::find(&function) {
            Some(entry) => self.hands.run(entry, arguments.into()),
            None => Err(Report::Refused { reason: "there is no such function in the worker".into() }),
        });
        let done = done.transpose().map(|done| done.map(Into::into));
        self.desk.say(Answer::Ready { done, elapsed: begun.elapsed().as_nanos() as u64 });
    }

    fn run_singly(&mut self) -> Gone {
        let mut next = None;
        loop {
            let job = next.take().map_or_else(|| self.desk.try_next(), |job| Ok(Some(job)));
            match job {
                Ok(Some(job)) => match self.perform(job, true) {
                    Ok(other) => next = other,
                    Err(gone) => return gone,
                },
                Ok(None) => {
                    // Given up too late.
                    drop(self.desk.given_up());
                    if self.desk.look() {
                        continue;
                    }
                    if let Err(gone) = self.hands.runtime.block_on(self.desk.wait()) {
                        return gone;
                    }
                }
                Err(gone) => return gone,
            }
            if !self.desk.is_ours() {
                return Gone;
            }
        }
    }

    /// Runs the items of a job; then, if it may, those of the next ones of the same function. Gives a job of another that it has come to.
    fn perform(&mut self, job: Job, takes_more: bool) -> Result<Option<Job>, Gone> {
        let body = job.entry.body;
        let mut shift = Shift::new(&mut self.desk, self.hands.limits, job, takes_more);
        match body {
            Body::Plain { run, .. } => {
                while let Some(given) = shift.next() {
                    let caught = catch_unwind(AssertUnwindSafe(|| run(given)));
                    shift.tell(caught.unwrap_or_else(|payload| Err(Box::new(told(&*payload)))));
                }
            }
            Body::Async { threads, serve, .. } => {
                while shift.has_item {
                    match self.hands.runtime(threads) {
                        Ok(runtime) => runtime.block_on(serve(&mut shift)),
                        Err(error) => {
                            drop(shift.next());
                            let reason = format!("no tokio runtime: {error}");
                            shift.tell(Err(Box::new(Report::Refused { reason })));
                        }
                    }
                }
            }
        }
        shift.next
    }

    /// The same for several at a time: those that wait for something let others go on.
    fn run_many(&mut self, most: usize) -> Gone {
        let mut running = FuturesUnordered::<LocalBoxFuture<'static, Ended>>::new();
        let mut aborts = BTreeMap::<u16, (u64, AbortHandle)>::new();
        loop {
            while running.len() < most {
                match self.desk.try_next() {
                    Ok(Some(job)) => self.start(job, Instant::now(), &running, &mut aborts),
                    Ok(None) => break,
                    Err(gone) => return gone,
                }
            }
            for (slot, turn) in self.desk.given_up() {
                if let Some((_, abort)) = aborts.get(&slot).filter(|(started, _)| *started == turn) {
                    abort.abort();
                }
            }
            let (desk, is_full) = (&mut self.desk, running.len() >= most);
            let ended = self.hands.runtime.block_on(async {
                if running.is_empty() {
                    return desk.wait().await.map(|()| None);
                }
                let heard = async { if is_full { desk.wait_for_letter().await } else { desk.wait().await } };
                match select(running.next(), std::pin::pin!(heard)).await {
                    Either::Left((ended, _)) => Ok(ended),
                    Either::Right((heard, _)) => heard.map(|()| None),
                }
            });
            match ended {
                Ok(Some(ended)) => self.end(ended, &running, &mut aborts),
                Ok(None) => {}
                Err(gone) => return gone,
            }
            if !self.desk.is_ours() {
                return Gone;
            }
        }
    }

    /// Starts the item of a job that has begun. A plain function runs at once, to its end.
    fn start(
        &mut self,
        mut job: Job,
        begun: Instant,
        running: &FuturesUnordered<LocalBoxFuture<'static, Ended>>,
        aborts: &mut BTreeMap<u16, (u64, AbortHandle)>,
    ) {
        let Body::Async { threads: 0, prepare, .. } = job.entry.body else {
            // It takes no other one, and so comes to none.
            drop(self.perform(job, false));
            return;
        };
        let (arguments, limits) = (job.arguments(), self.hands.limits);
        let _inside = self.hands.runtime.enter();
        let (abort, registration) = AbortHandle::new_pair();
        aborts.insert(job.slot, (job.turn, abort));
        running.push(
            async move {
                let run = AssertUnwindSafe(async move {
                    let function = prepare(checked(arguments, limits)?, limits).map_err(Report::Decode)?;
                    let Packet { bytes, handles } = function.await.map_err(Report::Encode)?;
                    Ok(Parcel { bytes: bytes.into(), handles })
                });
                let caught = run.catch_unwind();
                let ended = Abortable::new(caught, registration).await.ok();
                let result = ended.map(|caught| caught.unwrap_or_else(|payload| Err(told(&*payload))));
                (job, begun, result.map(|result| result.map_err(Box::new)))
            }
            .boxed_local(),
        );
    }

    fn end(
        &mut self,
        (mut job, begun, result): Ended,
        running: &FuturesUnordered<LocalBoxFuture<'static, Ended>>,
        aborts: &mut BTreeMap<u16, (u64, AbortHandle)>,
    ) {
        aborts.remove(&job.slot);
        let is_done = job.is_done();
        let elapsed = if is_done { begun.elapsed().as_nanos() as u64 } else { 0 };
        match result {
            Some(result) => self.desk.put(job.slot, job.item(), result, elapsed),
            None => {
                let reason = "it was given up".into();
                self.desk.put(job.slot, job.item(), Err(Box::new(Report::Refused { reason })), elapsed);
            }
        }
        if !is_done && self.desk.begin_next(&mut job) {
            self.start(job, begun, running, aborts);
        }
    }
}

/// Jobs of one function, whose items are run one after the other.
struct Shift<'a> {
    desk: &'a mut Desk,
    limits: Limits,
    job: Job,
    begun: Instant,
    /// Whether an item has begun that was not run.
    has_item: bool,
    /// Whether the next job is taken when this one is done.
    takes_more: bool,
    /// A job of another function that it has come to; or that there will be none.
    next: Result<Option<Job>, Gone>,
}

impl<'a> Shift<'a> {
    fn new(desk: &'a mut Desk, limits: Limits, job: Job, takes_more: bool) -> Self {
        Self { desk, limits, job, begun: Instant::now(), has_item: true, takes_more, next: Ok(None) }
    }

    /// Takes the next job, if it is of the same function.
    fn take_more(&mut self, now: Instant) {
        match self.desk.try_next() {
            Ok(Some(job)) if std::ptr::eq(job.entry, self.job.entry) => {
                self.desk.clear(std::mem::replace(&mut self.job, job));
                (self.begun, self.has_item) = (now, true);
            }
            other => self.next = other,
        }
    }
}

impl Calls for Shift<'_> {
    fn next(&mut self) -> Option<Given<'_>> {
        if !std::mem::take(&mut self.has_item) {
            return None;
        }
        Some(self.job.given(self.desk.room_for_result(), self.limits))
    }

    fn tell(&mut self, result: Result<Parcel, Box<Report>>) {
        if !self.desk.is_ours() {
            // Another item would be the original's.
            return;
        }
        let ended = self.job.is_done().then(Instant::now);
        let elapsed = ended.map_or(0, |ended| (ended - self.begun).as_nanos() as u64);
        self.desk.put(self.job.slot, self.job.item(), result, elapsed);
        self.has_item = ended.is_none() && self.desk.begin_next(&mut self.job);
        if !self.has_item && self.takes_more {
            self.take_more(ended.unwrap_or_else(Instant::now));
        }
    }
}

impl Hands {
    /// Runs a function to its end.
    fn run(&mut self, entry: &'static Entry, arguments: Packet) -> Result<Packet, Report> {
        let caught = catch_unwind(AssertUnwindSafe(|| self.run_or_unwind(entry, arguments)));
        caught.unwrap_or_else(|payload| Err(told(&*payload)))
    }

    fn run_or_unwind(&mut self, entry: &'static Entry, arguments: Packet) -> Result<Packet, Report> {
        let limits = self.limits;
        let arguments = checked(arguments, limits)?;
        match entry.body {
            Body::Plain { prepare, .. } => {
                let function = prepare(arguments, limits).map_err(Report::Decode)?;
                function().map_err(Report::Encode)
            }
            Body::Async { threads, prepare, .. } => {
                let runtime = self
                    .runtime(threads)
                    .map_err(|error| Report::Refused { reason: format!("no tokio runtime: {error}") })?;
                let function = {
                    let _inside = runtime.enter();
                    prepare(arguments, limits).map_err(Report::Decode)?
                };
                runtime.block_on(function).map_err(Report::Encode)
            }
        }
    }

    fn runtime(&mut self, threads: usize) -> std::io::Result<&Runtime> {
        use std::collections::btree_map::Entry::{Occupied, Vacant};
        if threads == 0 {
            return Ok(&self.runtime);
        }
        match self.others.entry(threads) {
            Occupied(made) => Ok(made.into_mut()),
            Vacant(place) => Ok(place.insert(boot::runtime(threads)?)),
        }
    }
}

/// Arguments that are within the limits: of those that stand in a list nobody has seen it before.
fn checked(arguments: Packet, limits: Limits) -> Result<Packet, Report> {
    let (size, limit) = (arguments.bytes.len() as u64, limits.max_message);
    if size > limit { Err(Report::Encode(EncodeError::TooLarge { size, limit })) } else { Ok(arguments) }
}

fn told(payload: &(dyn Any + Send)) -> Report {
    panic::report_of(payload)
}
