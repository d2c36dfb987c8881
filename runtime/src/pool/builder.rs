//! How a pool is made.

use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use super::here::Here;
use super::init::Init;
use super::processes::Processes;
use super::settings::{Settings, with_frame};
use super::{Initialised, Pool, Recipe, Workers};
use crate::error::{Cause, ProcessError, Stage};
use crate::plan::StartMethod;
use crate::wire::Limits;

/// How long a worker that a range could do without is kept for the next task.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many tasks a worker may have at a time.
const MOST: usize = 256;

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
                is_local: false,
                least: workers.least,
                most: workers.most,
                concurrency: 1,
                limits: Limits::DEFAULT,
                start_method: None,
                max_tasks: None,
                max_rss: None,
                idle_timeout: IDLE_TIMEOUT,
                init: None,
            },
        }
    }

    /// Sets how many workers there are: a number, or a range, within which they are started as tasks wait and end when they
    /// have been idle for a while. As many as there are processors if nothing is said.
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

    /// Makes its workers threads of this process, for a test or a debugger: arguments and results are encoded and read back as they would
    /// be for processes.
    ///
    /// What a process is for it does not have: a task that exits or crashes takes this process along, and one that does not wait for
    /// anything cannot be ended. There are as many workers as there may be, and none is replaced.
    pub fn local(mut self) -> Self {
        self.settings.is_local = true;
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

    /// Replaces a worker, after the task that it is in, when its resident memory is found to exceed so many bytes.
    pub fn max_rss(mut self, bytes: u64) -> Self {
        self.settings.max_rss = Some(bytes);
        self
    }

    /// Sets how long a worker may be idle that a range of workers could do without; ten seconds if nothing is said.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Sets how many `async` tasks each worker has at a time; one if nothing is said. A plain `fn` has its worker for itself all the same.
    ///
    /// The death of a worker then costs all that it had started, and a time limit or a cancellation that its task does not heed costs the
    /// others beside it.
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.settings.concurrency = tasks;
        self
    }

    /// Has each worker do something first, once: load a model, open a connection. It returns nothing, or a `Result` of nothing; what tasks are
    /// to find it leaves to [`keep`](super::keep()).
    ///
    /// A worker that fails it is none: the first of them is the error of [`build`](Self::build).
    pub fn init<T: Initialised + 'static>(mut self, recipe: impl Recipe<T>) -> Self {
        self.settings.init = Some(Arc::new(Init::new(recipe)));
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
        if !(1..=MOST).contains(&settings.concurrency) {
            return refuse(&format!("a worker has one task at a time, or up to {MOST}"));
        }
        if settings.max_tasks == Some(0) {
            return refuse("a worker that may do no task is none");
        }
        let limits = with_frame(settings.limits);
        let backend: Arc<dyn Backend> = match settings.is_local {
            true => Arc::new(Here::start(settings).await?),
            false => Arc::new(Processes::start(settings).await?),
        };
        Ok(Pool::of(backend, limits))
    }
}
