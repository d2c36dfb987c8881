//! Where the outcomes of a map's items arrive.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use super::job::{Outcome, Replies};

#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    arrived: Vec<Vec<Outcome>>,
    waker: Option<Waker>,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has arrived; if nothing has, this task is woken when something does.
    pub(super) fn take(&self, context: &Context<'_>) -> Vec<Vec<Outcome>> {
        let mut state = self.state();
        if !state.arrived.is_empty() {
            return std::mem::take(&mut state.arrived);
        }
        let is_same = state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        let former = if is_same { None } else { state.waker.replace(context.waker().clone()) };
        drop(state);
        // Somebody else's code.
        drop(former);
        Vec::new()
    }
}

impl Replies for Inbox {
    fn deliver(&self, outcomes: Vec<Outcome>) {
        let waker = {
            let mut state = self.state();
            state.arrived.push(outcomes);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn placed(&self, _: u64, _: Option<u32>) {}

    fn has_numbers(&self) -> bool {
        true
    }
}
