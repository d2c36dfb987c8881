//! What stands behind a pool: who runs its jobs.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::job::{Job, Replies};
use super::stats::Stats;
use crate::error::ProcessError;

/// Who runs jobs: the processes of this pool, tasks of this process, or somebody far away.
///
/// What goes in and out is encoded and comes in batches: jobs, which have several items where they are short, by
/// [`submit`](Self::submit); their outcomes by [`Replies::deliver`]. A job that was taken has exactly one outcome for each of its items,
/// unless it was given up.
#[async_trait]
pub(super) trait Backend: Debug + Send + Sync {
    /// Takes jobs, and does not wait: those who submit bound how many they are. One that it takes no more has
    /// [`Cause::Closed`](crate::Cause::Closed) for its outcome.
    fn submit(&self, jobs: Vec<Job>);

    /// Gives up jobs of somebody's, or all of his: those that have not started never will, and those that have are ended. Nobody hears of
    /// them any more.
    fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>);

    /// Cancels what has not started of the jobs that are meant: these items have [`Cause::Cancelled`](crate::Cause::Cancelled), and those
    /// that have started go on.
    fn cancel_pending(&self, is_meant: &dyn Fn(&Job) -> bool);

    /// Takes no more jobs, and ends when those that it has are done; or, on demand, what of them has started.
    ///
    /// # Errors
    /// Why it had ended by itself before.
    async fn close(&self, cancels_pending: bool) -> Result<(), ProcessError>;

    /// Takes no more jobs, and ends what runs.
    fn start_kill(&self);

    /// Waits until nothing of it is left.
    async fn ended(&self);

    /// How many jobs run at a time at most.
    fn width(&self) -> usize;

    /// How many items it has that are not done.
    fn unfinished(&self) -> usize;

    /// What it has done, and what it is doing.
    fn stats(&self) -> Stats;
}
