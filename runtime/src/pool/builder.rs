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

/// As many processes as a system can have: `PID_MAX_LIMIT`, see `proc_sys_kernel(5)`.
const PROCESSES: usize = 1 << 22;

/// What a pool is to be, before its workers start: made by [`Pool::builder`].
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use procession::{Pool, process};
///
/// #[process]
/// fn name() -> String {
///     procession::current().name().to_owned()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let builder = Pool::builder().name("crew").workers(0..=4).idle_timeout(Duration::from_secs(30));
/// let pool = builder.max_tasks(1000).max_rss(512 << 20).build().await?;
/// assert_eq!(pool.run(name()).await?, "crew-1");
/// # Ok(())
/// # }
/// ```
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
                warm: 0,
                init: None,
            },
        }
    }

    /// Sets how many workers there are: a number, or a range, within which they are started as tasks wait and end when they
    /// have been idle for a while. As many as there are processors if nothing is said. Python's `processes` and `max_workers`.
    ///
    /// The first number of a range is how many [`build`](Self::build) waits for, and how many there always are; it may be zero.
    #[doc(alias = "processes")]
    #[doc(alias = "max_workers")]
    pub fn workers(mut self, workers: impl Into<Workers>) -> Self {
        let Workers { least, most } = workers.into();
        (self.settings.least, self.settings.most) = (least, most);
        self
    }

    /// Names the pool: its workers are called after it, with a number, as `pool-1` if nothing is said. It is what `ps`, the statistics and
    /// [`current`](crate::current()) in a task show.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Chooses how workers come into being; else it is as [`StartMethod::set_default`] says. Python's `mp_context`.
    #[doc(alias = "mp_context")]
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.settings.start_method = Some(method);
        self
    }

    /// Makes its workers threads of this process, for a test or a debugger: arguments and results are encoded and read back as they would
    /// be for processes.
    ///
    /// What a process is for it does not have: a task that exits or crashes takes this process along, and one that does not wait for
    /// anything cannot be ended. There are as many workers as there may be, and none is replaced.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// #[process]
    /// fn pid() -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// let pool = Pool::builder().workers(2).local().build().await?;
    /// assert_eq!(pool.run(pid()).await?, std::process::id());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "ThreadPool")]
    #[doc(alias = "dummy")]
    pub fn local(mut self) -> Self {
        self.settings.is_local = true;
        self
    }

    /// Keeps so many spare workers besides, started and through with what they do first, which get no tasks before another one ends: then
    /// one takes its place at once, and the tasks that wait do not wait for a start. None if nothing is said. [`build`](Self::build) does
    /// not wait for them.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// #[process]
    /// fn pid() -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// let pool = Pool::builder().workers(1).warm(1).max_tasks(1).build().await?;
    /// let (first, second) = (pool.run(pid()).await?, pool.run(pid()).await?);
    /// assert_ne!(first, second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn warm(mut self, spares: usize) -> Self {
        self.settings.warm = spares;
        self
    }

    /// Sets the limits on what goes to workers and comes back; [`Limits::DEFAULT`] if nothing is said. A call's own hold within them: a task with
    /// more than 16 MiB to say needs both, these and [`Call::max_message`](crate::Call::max_message).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Replaces each worker when it has done so many tasks. Python's `maxtasksperchild`. Without it workers stay.
    ///
    /// It is for code that leaks, and for input that is not trusted: what one task has done to its worker, the next ones do not meet. Each item of a
    /// map is a task.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Pool, process};
    /// #[process]
    /// fn pid() -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procession::ProcessError> {
    /// let pool = Pool::builder().workers(2).max_tasks(1).build().await?;
    /// let mut pids = pool.map(|_| pid(), 0..6).await?;
    /// pids.sort_unstable();
    /// pids.dedup();
    /// assert_eq!(pids.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "maxtasksperchild")]
    #[doc(alias = "max_tasks_per_child")]
    pub fn max_tasks(mut self, tasks: u64) -> Self {
        self.settings.max_tasks = Some(tasks);
        self
    }

    /// Replaces a worker, after the task that it is in, or the item of a map, when its resident memory is found to exceed so many bytes.
    ///
    /// It is looked at when results come, every few milliseconds at most, and is no limit on what a task may take: that is the system's to enforce.
    pub fn max_rss(mut self, bytes: u64) -> Self {
        self.settings.max_rss = Some(bytes);
        self
    }

    /// Sets how long a worker may be idle that a range of workers could do without; ten seconds if nothing is said.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Sets how many `async` tasks each worker has at a time, at most 256; one if nothing is said. A plain `fn` has its worker for itself all the
    /// same: tasks that had started there stand still meanwhile, and their time limits do not.
    ///
    /// It is for tasks that wait: for the network, for a file, for another process. One that computes is better alone.
    ///
    /// The death of a worker then costs all that it had started, and a time limit or a cancellation that its task does not heed costs the
    /// others beside it. With [`Map::retry`](super::Map::retry) each of them is tried again, for as long as it has tries left; none of them counts as
    /// poisonous for the death of a worker that had started others, too.
    ///
    /// # Examples
    /// Two of one worker wait for each other.
    /// ```
    /// # use procession::{Failure, Pool, process, shared::Event};
    /// #[process]
    /// async fn meet(here: Event, there: Event) {
    ///     here.set();
    ///     there.wait().await;
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder().workers(1).concurrency(2).build().await?;
    /// let (one, other) = (Event::new()?, Event::new()?);
    /// let meeting = pool.run(meet(one.clone(), other.clone()));
    /// tokio::try_join!(meeting, pool.run(meet(other, one)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.settings.concurrency = tasks;
        self
    }

    /// Has each worker do something first, once: load a model, open a connection. Python's `initializer`. It returns nothing, or a `Result` of
    /// nothing; what tasks are to find it leaves to [`keep`](super::keep()), where there is an example.
    ///
    /// It is a [`Call`](crate::Call), whose arguments are sent to each worker, or a closure that makes one each time. Its
    /// [`timeout`](crate::Call::timeout) holds.
    ///
    /// A worker that fails it is none: the first of them is the error of [`build`](Self::build), with [`Stage::Init`] and the reason if it has
    /// returned an `Err`. One that takes the place of another later, and fails, is tried again after a while.
    ///
    /// # Examples
    /// ```
    /// # use procession::{Failure, Pool, process};
    /// #[process]
    /// fn load(path: String) -> Result<(), Failure> {
    ///     std::fs::read(path)?; // And keep what was read.
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = Pool::builder().workers(2).init(load("/no/model".to_owned())).build().await.unwrap_err();
    /// assert!(error.to_string().ends_with("could not be started (init): No such file or directory (os error 2)"));
    /// # }
    /// ```
    #[doc(alias = "initializer")]
    #[doc(alias = "initargs")]
    pub fn init<T: Initialised + 'static>(mut self, recipe: impl Recipe<T>) -> Self {
        self.settings.init = Some(Arc::new(Init::new(recipe)));
        self
    }

    #[cfg(test)]
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Starts the workers, and waits until they are ready.
    ///
    /// # Errors
    /// Why one of the first workers could not be had: it could not be started, or [`init`](Self::init) has failed in it; then none is left.
    /// [`Cause::Start`] with [`Stage::Setup`] if a number is none that can be.
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
        if settings.least.saturating_add(settings.warm) > PROCESSES {
            return refuse("a pool starts with fewer workers than a system can have");
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
