//! Workers that are no processes: threads of this one, for tests and debuggers.

use std::any::Any;
use std::collections::VecDeque;
use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::job::{Job, Post, Replies};
use super::kept::{Entered, Kept, Within};
use super::settings::Settings;
use super::stats::Stats;
use super::which::Which;
use crate::entry::{Body, Entry};
use crate::error::{Cause, ProcessError, Stage};
use crate::panic::report_of;
use crate::wire::{Limits, Packet};

/// The threads of a pool.
#[derive(Debug)]
pub(super) struct Here(Arc<Room>);

#[derive(Debug)]
struct Room {
    settings: Settings,
    state: Mutex<State>,
    /// There is a job, or there will be none.
    wanted: Notify,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// Whether it takes no more jobs.
    is_closed: bool,
    queue: VecDeque<Job>,
    running: Vec<Arc<Running>>,
    workers: usize,
    done: u64,
}

/// A job that a worker has started.
struct Running {
    job: Job,
    stop: CancellationToken,
    /// Whether nobody waits for it any more.
    given_up: AtomicBool,
    /// Whether the items of it that have not started never are to.
    is_cancelled: AtomicBool,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.job.fmt(f)
    }
}

impl Here {
    pub(super) async fn start(settings: Settings) -> Result<Self, ProcessError> {
        let name = settings.name.clone();
        let failed = |cause| ProcessError::new(&*name, Some(std::process::id()), cause);
        let workers = settings.most;
        let state = Mutex::new(State { workers, ..State::default() });
        let room = Room { settings, state, wanted: Notify::new(), ended: CancellationToken::new() };
        let here = Self(Arc::new(room));
        let mut ready = FuturesUnordered::new();
        for number in 1..=workers {
            let (say, hear) = oneshot::channel();
            ready.push(hear);
            let member = Member { room: Arc::clone(&here.0), kept: Arc::default() };
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            if let Err(error) = thread.spawn(move || member.live(say)) {
                // Those that have no thread are gone already.
                (number..=workers).for_each(|_| here.0.leave());
                return Err(failed(Cause::system(Stage::Setup, "cannot start a thread", &error)));
            }
        }
        while let Some(ready) = ready.next().await {
            let gone = || Cause::StatusLost { reason: "its thread has ended".into() };
            ready.map_err(|_gone| gone()).flatten().map_err(failed)?;
        }
        Ok(here)
    }
}

/// Also where one of them could not be had, or nobody waits for them any more.
impl Drop for Here {
    fn drop(&mut self) {
        self.start_kill();
    }
}

impl Room {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when there will be none.
    async fn next(&self) -> Option<Arc<Running>> {
        loop {
            let wanted = self.wanted.notified();
            {
                let mut state = self.state();
                if let Some(job) = state.queue.pop_front() {
                    let (stop, given_up, is_cancelled) = Default::default();
                    let running = Arc::new(Running { job, stop, given_up, is_cancelled });
                    state.running.push(Arc::clone(&running));
                    // One that is told of several jobs tells the next.
                    if !state.queue.is_empty() {
                        self.wanted.notify_one();
                    }
                    return Some(running);
                }
                if state.is_closed {
                    return None;
                }
            }
            wanted.await;
        }
    }

    fn done(&self, running: &Arc<Running>) {
        let mut state = self.state();
        state.done += u64::from(running.job.count);
        state.running.retain(|other| !Arc::ptr_eq(other, running));
    }

    /// A worker is gone.
    fn leave(&self) {
        let left = {
            let mut state = self.state();
            state.workers -= 1;
            state.workers
        };
        if left == 0 {
            self.ended.cancel();
        }
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.wanted.notify_waiters();
    }
}

#[async_trait]
impl Backend for Here {
    fn submit(&self, jobs: Vec<Job>) {
        let mut post = Post::default();
        {
            let mut state = self.0.state();
            if state.is_closed {
                jobs.iter().for_each(|job| job.fail_all(&Cause::Closed, &mut post));
            } else {
                jobs.iter().for_each(|_| self.0.wanted.notify_one());
                state.queue.extend(jobs);
            }
        }
        post.deliver();
    }

    fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        let mut state = self.0.state();
        state.queue.retain(|job| !job.is_of(whose, key));
        for running in state.running.iter().filter(|running| running.job.is_of(whose, key)) {
            running.given_up.store(true, Relaxed);
            running.stop.cancel();
        }
    }

    fn cancel_pending(&self, is_meant: &dyn Fn(&Job) -> bool) {
        let mut post = Post::default();
        {
            let mut state = self.0.state();
            let (pending, others): (VecDeque<_>, _) = state.queue.drain(..).partition(is_meant);
            state.queue = others;
            pending.iter().for_each(|job| job.fail_all(&Cause::Cancelled, &mut post));
            let running = state.running.iter().filter(|running| is_meant(&running.job));
            running.for_each(|running| running.is_cancelled.store(true, Relaxed));
        }
        post.deliver();
    }

    async fn close(&self, cancels_pending: bool) -> Result<(), ProcessError> {
        self.0.close();
        if cancels_pending {
            self.cancel_pending(&|_| true);
        }
        self.ended().await;
        Ok(())
    }

    fn start_kill(&self) {
        self.0.close();
        self.cancel_pending(&|_| true);
        self.0.state().running.iter().for_each(|running| running.stop.cancel());
    }

    async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    fn width(&self) -> usize {
        self.0.settings.most.saturating_mul(self.0.settings.concurrency)
    }

    fn unfinished(&self) -> usize {
        let state = self.0.state();
        let jobs = state.queue.iter().chain(state.running.iter().map(|running| &running.job));
        jobs.map(|job| job.count as usize).sum()
    }

    fn stats(&self) -> Stats {
        let state = self.0.state();
        let count = |jobs: &mut dyn Iterator<Item = &Job>| jobs.map(|job| job.count as usize).sum();
        let queued = count(&mut state.queue.iter());
        let unfinished = count(&mut state.running.iter().map(|running| &running.job));
        Stats { queued, unfinished, done: state.done, ..Stats::default() }
    }
}

/// A worker: a thread with a runtime of its own.
struct Member {
    room: Arc<Room>,
    kept: Arc<Kept>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.room.leave();
    }
}

impl Member {
    fn live(self, ready: oneshot::Sender<Result<(), Cause>>) {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return drop(ready.send(Err(Cause::system(Stage::Setup, "cannot make a runtime", &error))));
            }
        };
        runtime.block_on(async {
            let begun = self.begin().await;
            let is_ready = begun.is_ok();
            // Whoever has given up building does not listen.
            drop(ready.send(begun));
            if is_ready {
                let several = (0..self.room.settings.concurrency).map(|_| self.serve());
                join_all(several).await;
            }
        });
    }

    async fn begin(&self) -> Result<(), Cause> {
        let Some(init) = &self.room.settings.init else { return Ok(()) };
        let (plan, check) = init.next();
        plan.check_that_it_is_a_task()?;
        let run = self.run(plan.entry, plan.sendable_arguments()?, self.room.settings.limits);
        check(within(plan.timeout, run).await?)
    }

    async fn serve(&self) {
        while let Some(running) = self.room.next().await {
            self.perform(&running).await;
            self.room.done(&running);
        }
    }

    async fn perform(&self, running: &Running) {
        let (job, pid) = (&running.job, std::process::id());
        job.replies.placed(job.key, Some(pid));
        for item in 0..job.count {
            let Some(part) = job.part(item, item + 1) else { return };
            let run = async {
                match part.which {
                    Which::Ours(entry) => self.run(entry, part.packet, self.room.settings.limits).await,
                    Which::Told(_) => {
                        Err(Cause::start(Stage::Setup, "a pool of threads runs nothing for other processes"))
                    }
                }
            };
            let result = tokio::select! {
                biased;
                () = running.stop.cancelled() => Err(Cause::Cancelled),
                () = ready(()), if item > 0 && running.is_cancelled.load(Relaxed) => Err(Cause::Cancelled),
                result = within(job.timeout, run) => result,
            };
            if running.given_up.load(Relaxed) {
                return;
            }
            let mut post = Post::default();
            post.add(&job.replies, job.outcome(item, Some(pid), result, 0));
            post.deliver();
        }
    }

    /// Runs a function. What it panics with is its outcome.
    async fn run(&self, entry: &'static Entry, arguments: Packet, limits: Limits) -> Result<Packet, Cause> {
        let caught = match entry.body {
            Body::Plain { prepare, .. } => catch_unwind(AssertUnwindSafe(|| {
                let _entered = Entered::new(&self.kept);
                Ok(prepare(arguments, limits).map_err(Cause::Decode)?()?)
            })),
            Body::Async { prepare, .. } => {
                let run = async move { Ok(prepare(arguments, limits).map_err(Cause::Decode)?.await?) };
                let within = Within { kept: Arc::clone(&self.kept), future: Box::pin(run) };
                AssertUnwindSafe(within).catch_unwind().await
            }
        };
        caught.unwrap_or_else(|payload| Err(panicked(&*payload)))
    }
}

fn panicked(payload: &(dyn Any + Send)) -> Cause {
    report_of(payload).into()
}

/// What comes of it within its time.
async fn within(
    limit: Option<Duration>,
    run: impl Future<Output = Result<Packet, Cause>>,
) -> Result<Packet, Cause> {
    match limit {
        Some(after) => tokio::time::timeout(after, run).await.unwrap_or(Err(Cause::TimedOut { after })),
        None => run.await,
    }
}
