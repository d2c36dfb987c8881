//! How a task that never waits comes to yield.

use std::task::{Context, Poll, ready};

use tokio::task::coop::poll_proceed;

/// How many messages cost as much as one step of a task's budget: most of them cost no system call.
const MESSAGES: u8 = 16;

/// The messages that are paid for already.
#[derive(Debug, Default)]
pub(super) struct Budget(u8);

impl Budget {
    /// Not ready if the task is to yield; see [`tokio::task::coop`].
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            ready!(poll_proceed(context)).made_progress();
            self.0 = MESSAGES;
        }
        self.0 -= 1;
        Poll::Ready(())
    }
}
