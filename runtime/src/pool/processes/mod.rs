//! The workers of a pool as processes of their own.

mod attend;
mod board;
mod desk;
mod letter;
mod member;
mod office;
mod ring;
mod scales;
mod work;

use std::sync::Arc;

use async_trait::async_trait;

use self::office::Office;
use super::backend::Backend;
use super::job::{Job, Replies};
use super::settings::Settings;
use super::stats::Stats;
use crate::control::Control;
use crate::error::ProcessError;

/// The processes of a pool.
#[derive(Debug)]
pub(super) struct Processes(Arc<Office>);

impl Processes {
    /// Starts the first workers, and waits until they are ready. Where one fails, none is left.
    pub(super) async fn start(settings: Settings) -> Result<Self, ProcessError> {
        let control =
            Control::get().map_err(|cause| ProcessError::new(settings.name.as_str(), None, cause))?;
        let processes = Self(Arc::new(Office::new(settings)));
        // Whoever gives up waiting ends what was begun.
        let mut begun = Begun(Some(&processes));
        control.run(attend::keep(Arc::clone(&processes.0), control));
        if let Err(error) = processes.0.opened().await {
            processes.ended().await;
            return Err(error);
        }
        begun.0 = None;
        drop(begun);
        Ok(processes)
    }
}

/// Ends workers when it is dropped.
struct Begun<'a>(Option<&'a Processes>);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(processes) = self.0 {
            processes.start_kill();
        }
    }
}

#[async_trait]
impl Backend for Processes {
    fn submit(&self, jobs: Vec<Job>) {
        self.0.submit(jobs);
    }

    fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        self.0.give_up(whose, key);
    }

    fn cancel_pending(&self, is_meant: &dyn Fn(&Job) -> bool) {
        self.0.cancel_pending(is_meant);
    }

    async fn close(&self, cancels_pending: bool) -> Result<(), ProcessError> {
        self.0.close();
        if cancels_pending {
            self.cancel_pending(&|_| true);
        }
        self.ended().await;
        self.0.gave_up().map_or(Ok(()), |cause| Err(ProcessError::new(&*self.0.settings.name, None, cause)))
    }

    fn start_kill(&self) {
        self.0.start_kill();
    }

    async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    fn width(&self) -> usize {
        self.0.settings.most.saturating_mul(self.0.settings.concurrency)
    }

    fn unfinished(&self) -> usize {
        self.0.unfinished()
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }
}
