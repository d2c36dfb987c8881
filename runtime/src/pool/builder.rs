//! How a pool is made.

use std::sync::Arc;

use super::processes::Processes;
use super::settings::Settings;
use super::{Pool, Workers};
use crate::error::{Cause, ProcessError, Stage};
use crate::plan::StartMethod;
use crate::wire::Limits;

/// What a pool is to be, before its workers start: made by [`Pool::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is awaited"]
pub struct Builder {
    settings: Settings,
}

impl Builder {
    pub(super) fn new() -> Self {
        let workers = Workers::default();
        Self {
            settings: Settings {
                name: "pool".into(),
                least: workers.least,
                most: workers.most,
                concurrency: 1,
                limits: Limits::DEFAULT,
                start_method: None,
                max_tasks: None,
            },
        }
    }

    /// Sets how many workers there are; as many as there are processors if nothing is said.
    pub fn workers(mut self, workers: impl Into<Workers>) -> Self {
        let Workers { least, most } = workers.into();
        (self.settings.least, self.settings.most) = (least, most);
        self
    }

    /// Names the pool: its workers are called after it, with a number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Chooses how workers come into being; else it is as [`StartMethod::set_default`] says.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.settings.start_method = Some(method);
        self
    }

    /// Sets the limits on what goes to workers and comes back: a call's own hold within them.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Replaces each worker when it has done so many tasks. Python's `maxtasksperchild`.
    pub fn max_tasks(mut self, tasks: u64) -> Self {
        self.settings.max_tasks = Some(tasks);
        self
    }

    /// Starts the workers, and waits until they are ready.
    ///
    /// # Errors
    /// Why one of the first workers could not be had; then none is left. If the numbers of workers are none that can be.
    ///
    /// # Cancel safety
    /// Dropping it before it is ready ends the workers that have started.
    pub async fn build(self) -> Result<Pool, ProcessError> {
        let Self { settings } = self;
        let refuse = |reason: &str| {
            Err(ProcessError::new(settings.name.as_str(), None, Cause::start(Stage::Setup, reason)))
        };
        if settings.most == 0 || settings.least > settings.most {
            return refuse("a pool has at least one worker, and its range is not empty");
        }
        if settings.max_tasks == Some(0) {
            return refuse("a worker that may do no task is none");
        }
        Ok(Pool::of(Arc::new(Processes::start(settings).await?)))
    }
}
