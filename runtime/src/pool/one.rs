//! One task, and who waits for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::OwnedSemaphorePermit;

use super::backend::Backend;
use super::job::{Job, Outcome, Replies};
use super::which::Which;
use crate::error::{Cause, ProcessError};
use crate::plan::Plan;
use crate::process::Read;
use crate::wire::Limits;

/// Where the outcome of a task arrives.
#[derive(Debug, Default)]
pub(super) struct Place {
    state: Mutex<State>,
    /// Of the worker that has it; zero if none has.
    pid: AtomicU32,
    is_finished: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    /// Its place in the pool's queue, until there is an outcome.
    permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replies for Place {
    fn deliver(&self, outcomes: Vec<Outcome>) {
        let (waker, permit) = {
            let mut state = self.state();
            state.outcome = outcomes.into_iter().next_back();
            (state.waker.take(), state.permit.take())
        };
        self.is_finished.store(true, Relaxed);
        drop(permit);
        waker.into_iter().for_each(Waker::wake);
    }

    fn placed(&self, _: u64, pid: Option<u32>) {
        self.pid.store(pid.unwrap_or(0), Relaxed);
    }
}

/// A task that a pool has.
pub(super) struct One<T> {
    place: Arc<Place>,
    backend: Arc<dyn Backend>,
    /// If it is not called after its function.
    name: Option<String>,
    limits: Limits,
    read: Read<T>,
    which: Which,
}

impl<T> One<T> {
    /// Hands a call to a pool.
    ///
    /// # Errors
    /// If its arguments cannot be sent, or it says what only a process of its own can have.
    pub(super) fn submit(
        backend: Arc<dyn Backend>,
        mut plan: Plan,
        read: Read<T>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, ProcessError> {
        let place = Arc::new(Place::default());
        place.state().permit = Some(permit);
        let replies: Arc<dyn Replies> = Arc::clone(&place) as _;
        let job = single(&mut plan, 0, 0, replies)
            .map_err(|cause| ProcessError::new(plan.display_name(), None, cause))?;
        backend.submit(vec![job]);
        let Plan { name, limits, entry, .. } = plan;
        Ok(Self { place, backend, name, limits, read, which: Which::Ours(entry) })
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<T, ProcessError>> {
        let outcome = {
            let mut state = self.place.state();
            match state.outcome.take() {
                Some(outcome) => outcome,
                None if self.is_finished() => {
                    return Poll::Ready(Err(ProcessError::new(self.name(), None, Cause::Taken)));
                }
                None => {
                    let former = state.waker.replace(context.waker().clone());
                    drop(state);
                    drop(former);
                    return Poll::Pending;
                }
            }
        };
        let Outcome { pid, result, .. } = outcome;
        let value = result.and_then(|packet| (self.read)(packet, &self.limits).map_err(Cause::Decode));
        Poll::Ready(value.map_err(|cause| ProcessError::new(self.name(), pid, cause)))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.place.is_finished.load(Relaxed)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.place.pid.load(Relaxed)).filter(|pid| *pid != 0)
    }

    /// Nobody waits for it any more: it never starts, or is ended.
    pub(super) fn give_up(&self) {
        if !self.is_finished() {
            let whose: Arc<dyn Replies> = Arc::clone(&self.place) as _;
            self.backend.give_up(&whose, None);
        }
    }

    /// The same, with an outcome for whoever waits.
    pub(super) fn abort(&self) {
        if !self.is_finished() {
            self.give_up();
            let (pid, result) = (self.pid(), Err(Cause::Cancelled));
            self.place.deliver(vec![Outcome {
                key: 0,
                count: 1,
                pid,
                result,
                which: self.which.clone(),
                name: None,
                pace: 0,
            }]);
        }
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.which.name())
    }
}

/// The job of one call.
///
/// # Errors
/// As [`One::submit`].
pub(super) fn single(
    plan: &mut Plan,
    key: u64,
    retries: u32,
    replies: Arc<dyn Replies>,
) -> Result<Job, Cause> {
    plan.check_that_it_is_a_task()?;
    let packet = plan.sendable_arguments()?;
    plan.forget_handles();
    let job = Job::new(Which::Ours(plan.entry), packet, plan.limits, replies);
    Ok(Job { name: plan.name.as_deref().map(Arc::from), key, timeout: plan.timeout, retries, ..job })
}
