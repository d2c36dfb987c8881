//! A pool of another process: what a child does with a handle that its parent has passed to it.
//!
//! Two pipes lead to the process that has the pool, where a task on the control thread does what is asked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::select;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::draft::ENOUGH;
use super::enclosed::Enclosed;
use super::job::{Job, Outcome, Post, Replies};
use super::stats::Stats;
use super::which::{Function, Which};
use crate::control::Control;
use crate::error::{Cause, ProcessError};
use crate::pipe::{Receiver, SendError, Sender};
use crate::wire::{Limits, Packet};

/// How many jobs of one process another's pool has at most, until all that came of them is sent; more wait in the pipe.
const MOST: usize = 4096;

/// How many items a job has at most: those of a list take four bytes each at least.
const MOST_ITEMS: u32 = (ENOUGH / size_of::<u32>()) as u32;

/// What is asked of the process that has the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Job {
        id: u64,
        function: Function,
        count: u32,
        timeout: Option<Duration>,
        limits: Limits,
        retries: u32,
        packet: Enclosed,
    },
    GiveUp {
        id: u64,
    },
}

/// What it answers: what came of an item.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    id: u64,
    item: u32,
    pid: Option<u32>,
    result: Result<Enclosed, Cause>,
    pace: u64,
}

/// The ends of the pipes, as they go to the process that is to use the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ends {
    pub(super) requests: Sender<Request>,
    pub(super) answers: Receiver<Answer>,
    pub(super) width: u64,
}

/// A pool of another process.
#[derive(Debug)]
pub(super) struct Far(Arc<Desk>);

#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    requests: UnboundedSender<Request>,
    width: usize,
    /// Cancelled when nothing more will come.
    ended: CancellationToken,
    killed: CancellationToken,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    next: u64,
    asked: HashMap<u64, Asked>,
    done: u64,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("asked", &self.asked.len()).finish_non_exhaustive()
    }
}

/// A job that the other process has.
struct Asked {
    /// Without what is to be sent.
    job: Job,
    left: u32,
}

impl Far {
    /// Makes use of a pool that another process has.
    ///
    /// # Errors
    /// If this process can have no control thread.
    pub(super) fn new(ends: Ends) -> Result<Self, Cause> {
        let Ends { requests: mut link, mut answers, width } = ends;
        let (requests, mut wanted) = unbounded_channel();
        let (state, ended, killed) = (Mutex::default(), CancellationToken::new(), CancellationToken::new());
        let width = usize::try_from(width).unwrap_or(1).max(1);
        let desk = Arc::new(Desk { state, requests, width, ended, killed });
        let (weak, asking) = (Arc::downgrade(&desk), Arc::downgrade(&desk));
        let (killed, ended) = (desk.killed.clone(), desk.ended.clone());
        Control::get()?.run(async move {
            let ask = async {
                while let Some(request) = wanted.recv().await {
                    match link.send(request).await {
                        Ok(()) => link.write_now(),
                        Err(SendError::Encode(Request::Job { id, .. }, error)) => {
                            asking.upgrade().iter().for_each(|desk| desk.refuse(id, &error.clone().into()));
                        }
                        Err(_gone) => return,
                    }
                }
            };
            let hear = async {
                while let Ok(Some(answer)) = answers.recv().await {
                    let Some(desk) = weak.upgrade() else { return };
                    desk.hear(answer);
                }
            };
            select! {
                () = ask => {}
                () = hear => {}
                () = killed.cancelled() => {}
            }
            if let Some(desk) = weak.upgrade() {
                desk.end(&Cause::Closed);
            }
            ended.cancel();
        });
        Ok(Self(desk))
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, answer: Answer) {
        let Answer { id, item, pid, result, pace } = answer;
        let mut post = Post::default();
        {
            let mut state = self.state();
            let Some(asked) = state.asked.get_mut(&id).filter(|asked| item < asked.job.count) else { return };
            asked.left -= 1;
            let (is_done, job) = (asked.left == 0, &asked.job);
            let outcome = job.outcome(item, pid, result.map(Packet::from), 0);
            post.add(&job.replies, Outcome { pace, ..outcome });
            if is_done {
                state.asked.remove(&id);
            }
            state.done += 1;
            self.end_if_done(&state);
        }
        post.deliver();
    }

    /// A job cannot go there.
    fn refuse(&self, id: u64, cause: &Cause) {
        let mut post = Post::default();
        {
            let mut state = self.state();
            if let Some(asked) = state.asked.remove(&id) {
                asked.job.fail_all(cause, &mut post);
            }
            self.end_if_done(&state);
        }
        post.deliver();
    }

    fn end_if_done(&self, state: &State) {
        if state.is_closed && state.asked.is_empty() {
            self.killed.cancel();
        }
    }

    fn end(&self, cause: &Cause) {
        let mut post = Post::default();
        {
            let mut state = self.state();
            state.is_closed = true;
            state.asked.drain().for_each(|(_, asked)| asked.job.fail_all(cause, &mut post));
        }
        post.deliver();
    }

    /// Sends a job on; gives it back where it cannot be told which it is.
    fn ask(&self, state: &mut State, mut job: Job) -> Option<(Job, Cause)> {
        let function = match job.which.function() {
            Ok(function) => function,
            Err(cause) => return Some((job, cause)),
        };
        let id = state.next;
        state.next += 1;
        let (count, timeout, limits, retries) = (job.count, job.timeout, job.limits, job.retries);
        let packet = std::mem::take(&mut job.packet).into();
        state.asked.insert(id, Asked { left: count, job });
        // Where nobody listens any more it ends as all others do.
        drop(self.requests.send(Request::Job { id, function, count, timeout, limits, retries, packet }));
        None
    }
}

#[async_trait]
impl Backend for Far {
    fn submit(&self, jobs: Vec<Job>) {
        let mut post = Post::default();
        {
            let mut state = self.0.state();
            for job in jobs {
                if state.is_closed {
                    job.fail_all(&Cause::Closed, &mut post);
                } else if let Some((job, cause)) = self.0.ask(&mut state, job) {
                    job.fail_all(&cause, &mut post);
                }
            }
        }
        post.deliver();
    }

    fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        let mut state = self.0.state();
        let given_up = state.asked.extract_if(|_, asked| asked.job.is_of(whose, key));
        given_up.for_each(|(id, _)| drop(self.0.requests.send(Request::GiveUp { id })));
        self.0.end_if_done(&state);
    }

    async fn close(&self, cancels_pending: bool) -> Result<(), ProcessError> {
        if cancels_pending {
            self.start_kill();
        }
        {
            let mut state = self.0.state();
            state.is_closed = true;
            self.0.end_if_done(&state);
        }
        self.ended().await;
        Ok(())
    }

    fn start_kill(&self) {
        self.0.end(&Cause::Cancelled);
        self.0.killed.cancel();
    }

    async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    fn width(&self) -> usize {
        self.0.width
    }

    fn unfinished(&self) -> usize {
        self.0.state().asked.values().map(|asked| asked.left as usize).sum()
    }

    fn stats(&self) -> Stats {
        let (unfinished, done) = (self.unfinished(), self.0.state().done);
        Stats { unfinished, done, ..Stats::default() }
    }
}

/// Does what the process at the other end asks, until it is gone; what it has not got by then is given up.
pub(super) async fn serve(
    backend: Arc<dyn Backend>,
    mut requests: Receiver<Request>,
    mut answers: Sender<Answer>,
) {
    // As long as there are permits: one goes with each.
    let (deliver, mut delivered) = unbounded_channel();
    let errands = Arc::new(Mutex::new(HashMap::new()));
    let room = Arc::new(Semaphore::new(MOST));
    let take = async {
        while let Ok(Some(request)) = requests.recv().await {
            match request {
                Request::Job { id, function, count, timeout, limits, retries, packet } => {
                    // A pool does not close this.
                    let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                    let packet = Packet::from(packet);
                    // An honest process sends none of these.
                    if count != 1 && !is_list(&packet, count) {
                        return;
                    }
                    let errand = Errand::new(id, count, deliver.clone(), Arc::downgrade(&errands), permit);
                    match lock(&errands).entry(id) {
                        // Of two by one name the first could not be given up any more.
                        Entry::Occupied(_) => return,
                        Entry::Vacant(place) => drop(place.insert(Arc::clone(&errand))),
                    }
                    let (which, key, deaths) = (Which::Told(Arc::new(function)), 0, 0);
                    let job =
                        Job { which, packet, count, key, timeout, limits, retries, deaths, replies: errand };
                    backend.submit(vec![job]);
                }
                Request::GiveUp { id } => {
                    let errand = lock(&errands).remove(&id);
                    if let Some(errand) = errand {
                        backend.give_up(&(errand as Arc<dyn Replies>), None);
                    }
                }
            }
        }
    };
    select! {
        () = take => {}
        () = tell(&mut delivered, &mut answers) => {}
    }
    let left: Vec<_> = lock(&errands).drain().map(|(_, errand)| errand).collect();
    left.into_iter().for_each(|errand| backend.give_up(&(errand as Arc<dyn Replies>), None));
}

async fn tell(delivered: &mut UnboundedReceiver<(Answer, Permit)>, answers: &mut Sender<Answer>) {
    while let Some((answer, _permit)) = delivered.recv().await {
        let sent = match answers.send(answer).await {
            Err(SendError::Encode(answer, error)) => {
                answers.send(Answer { result: Err(error.into()), ..answer }).await
            }
            sent => sent,
        };
        if sent.is_err() {
            return;
        }
        if delivered.is_empty() {
            answers.write_now();
        }
    }
}

/// Whether bytes are a list of so many arguments: what another process has sent is looked at before it is taken apart.
fn is_list(packet: &Packet, count: u32) -> bool {
    if !packet.handles.is_empty() || !(1..=MOST_ITEMS).contains(&count) {
        return false;
    }
    let mut bytes = &packet.bytes[..];
    for _ in 0..count {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
        let Some(rest) = rest.get(u32::from_le_bytes(*length) as usize..) else { return false };
        bytes = rest;
    }
    bytes.is_empty()
}

type Errands = Mutex<HashMap<u64, Arc<Errand>>>;

fn lock(errands: &Errands) -> MutexGuard<'_, HashMap<u64, Arc<Errand>>> {
    errands.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To have a job in the pool, or what came of it on the way back.
type Permit = Arc<OwnedSemaphorePermit>;

/// A job of another process.
struct Errand {
    id: u64,
    left: AtomicU32,
    deliver: UnboundedSender<(Answer, Permit)>,
    errands: std::sync::Weak<Errands>,
    permit: Permit,
}

impl Errand {
    fn new(
        id: u64,
        count: u32,
        deliver: UnboundedSender<(Answer, Permit)>,
        errands: std::sync::Weak<Errands>,
        permit: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        Arc::new(Self { id, left: AtomicU32::new(count), deliver, errands, permit: Arc::new(permit) })
    }
}

impl Replies for Errand {
    fn deliver(&self, outcomes: Vec<Outcome>) {
        let count = outcomes.iter().map(|outcome| outcome.count).sum();
        for Outcome { key, pid, result, pace, .. } in outcomes.into_iter().flat_map(Outcome::each) {
            let answer = Answer { id: self.id, item: key as u32, pid, result: result.map(Into::into), pace };
            // Where nobody listens any more nobody misses it.
            drop(self.deliver.send((answer, Arc::clone(&self.permit))));
        }
        if self.left.fetch_sub(count, Relaxed) == count
            && let Some(errands) = self.errands.upgrade()
        {
            // By now there may be another one by this name, where this one was given up.
            let mut errands = lock(&errands);
            if errands.get(&self.id).is_some_and(|errand| std::ptr::eq(&**errand, self)) {
                errands.remove(&self.id);
            }
        }
    }

    fn placed(&self, _: u64, _: Option<u32>) {}
}

#[cfg(test)]
mod tests;
