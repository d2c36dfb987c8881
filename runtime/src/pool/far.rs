//! A pool of another process: what a child does with a handle that its parent has passed to it.
//!
//! Two pipes lead to the process that has the pool, where a task on the control thread [does](serve) what is asked. What that one has
//! no room for waits here, so that a word about what it has is not behind a job that waits for others to be done; at most behind one that
//! has the place of what was given up, and has not ended yet.

mod serve;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::select;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::enclosed::Enclosed;
use super::job::{Job, Outcome, Post, Replies};
use super::stats::Stats;
use super::which::Function;
use crate::control::Control;
use crate::error::{Cause, ProcessError};
use crate::pipe::{Receiver, SendError, Sender};
use crate::wire::{Limits, Packet};

pub(super) use serve::serve;

/// How many jobs of one process another's pool has at most, until all that came of them is sent.
const MOST: usize = 4096;

/// How many bytes each of them, and each handle, counts for besides its arguments.
const EACH: usize = 16 << 10;

/// How many bytes each of their items counts for: so much an answer takes that says what is wrong.
const ITEM: usize = 256;

/// How many bytes all of them count for at most: they are as many as may be, or fewer that are large.
const ROOM: usize = MOST * EACH;

/// How much of the room a job takes. One that is larger than that is there alone.
fn weight(packet: &Packet, count: u32) -> usize {
    let each = (1 + packet.handles.len()).saturating_mul(EACH);
    let items = (count as usize).saturating_mul(ITEM);
    each.saturating_add(items).saturating_add(packet.bytes.len()).min(ROOM)
}

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
    /// What has not started of these jobs is not to.
    CancelPending {
        ids: Vec<u64>,
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

impl Answer {
    /// How many bytes it has of a result.
    fn length(&self) -> usize {
        self.result.as_ref().map_or(0, Enclosed::length)
    }
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

struct State {
    is_closed: bool,
    next: u64,
    asked: HashMap<u64, Asked>,
    /// Those that wait until there is room for them.
    waiting: BTreeMap<u64, Request>,
    room: usize,
    done: u64,
}

impl State {
    fn new() -> Self {
        let (asked, waiting) = (HashMap::new(), BTreeMap::new());
        Self { is_closed: false, next: 0, asked, waiting, room: ROOM, done: 0 }
    }

    /// The jobs that are meant, in the order in which they came.
    fn ids(&self, is_meant: impl Fn(&Job) -> bool) -> Vec<u64> {
        let meant = self.asked.iter().filter(|(_, asked)| is_meant(&asked.job));
        let mut ids: Vec<u64> = meant.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Takes out a job of which nothing more is expected; gives whether the other process has it, too.
    fn remove(&mut self, id: u64) -> Option<(Asked, bool)> {
        let asked = self.asked.remove(&id)?;
        let was_sent = self.waiting.remove(&id).is_none();
        if was_sent {
            self.room += asked.weight;
        }
        Some((asked, was_sent))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("asked", &self.asked.len()).finish_non_exhaustive()
    }
}

/// A job that the other process has, or is to have.
struct Asked {
    /// Without what is to be sent.
    job: Job,
    weight: usize,
    /// Which of its items came to something, and how many did not yet.
    told: Vec<bool>,
    left: usize,
}

impl Asked {
    fn new(job: Job, weight: usize) -> Self {
        let left = job.count as usize;
        Self { job, weight, told: vec![false; left], left }
    }

    /// Notes that an item has come to something; gives whether that is news.
    fn tell(&mut self, item: u32) -> bool {
        let is_news = self.told.get_mut(item as usize).is_some_and(|told| !std::mem::replace(told, true));
        self.left -= usize::from(is_news);
        is_news
    }

    /// Ends the items that have come to nothing.
    fn fail(mut self, cause: &Cause, post: &mut Post) {
        for item in 0..self.job.count {
            if self.tell(item) {
                post.add(&self.job.replies, self.job.outcome(item, None, Err(cause.clone()), 0));
            }
        }
    }
}

impl Far {
    /// Makes use of a pool that another process has.
    ///
    /// # Errors
    /// If this process can have no control thread.
    pub(super) fn new(ends: Ends) -> Result<Self, Cause> {
        let Ends { requests: mut link, mut answers, width } = ends;
        let (requests, mut wanted) = unbounded_channel();
        let state = Mutex::new(State::new());
        let (ended, killed) = (CancellationToken::new(), CancellationToken::new());
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
            let Some(asked) = state.asked.get_mut(&id) else { return };
            if !asked.tell(item) {
                return;
            }
            let (is_done, job) = (asked.left == 0, &asked.job);
            let outcome = job.outcome(item, pid, result.map(Packet::from), 0);
            post.add(&job.replies, Outcome { pace, ..outcome });
            if is_done {
                state.remove(id);
                self.send(&mut state);
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
            if let Some((asked, _)) = state.remove(id) {
                asked.fail(cause, &mut post);
            }
            self.send(&mut state);
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
            state.waiting.clear();
            state.asked.drain().for_each(|(_, asked)| asked.fail(cause, &mut post));
        }
        post.deliver();
    }

    /// Sends what there is room for.
    fn send(&self, state: &mut State) {
        while let Some(first) = state.waiting.first_entry() {
            let weight = state.asked.get(first.key()).map_or(0, |asked| asked.weight);
            if weight > state.room {
                return;
            }
            state.room -= weight;
            // Where nobody listens any more it ends as all others do.
            drop(self.requests.send(first.remove()));
        }
    }

    /// Takes a job that is to be sent; gives it back where it cannot be told which it is.
    fn ask(&self, state: &mut State, mut job: Job) -> Option<(Job, Cause)> {
        let function = match job.which.function() {
            Ok(function) => function,
            Err(cause) => return Some((job, cause)),
        };
        let id = state.next;
        state.next += 1;
        let (count, timeout, limits, retries) = (job.count, job.timeout, job.limits, job.retries);
        let packet = std::mem::take(&mut job.packet);
        state.asked.insert(id, Asked::new(job, weight(&packet, count)));
        let packet = packet.into();
        state.waiting.insert(id, Request::Job { id, function, count, timeout, limits, retries, packet });
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
            self.0.send(&mut state);
        }
        post.deliver();
    }

    fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        let mut state = self.0.state();
        let given_up = state.ids(|job| job.is_of(whose, key));
        for id in given_up {
            if let Some((_, true)) = state.remove(id) {
                drop(self.0.requests.send(Request::GiveUp { id }));
            }
        }
        self.0.send(&mut state);
        self.0.end_if_done(&state);
    }

    fn cancel_pending(&self, is_meant: &dyn Fn(&Job) -> bool) {
        let mut post = Post::default();
        {
            let mut state = self.0.state();
            let (waiting, sent): (Vec<u64>, Vec<u64>) =
                state.ids(is_meant).into_iter().partition(|id| state.waiting.contains_key(id));
            for (asked, _) in waiting.into_iter().filter_map(|id| state.remove(id)) {
                asked.fail(&Cause::Cancelled, &mut post);
            }
            for ids in sent.chunks(MOST) {
                drop(self.0.requests.send(Request::CancelPending { ids: ids.to_vec() }));
            }
            // One that there was no room for may have held up others.
            self.0.send(&mut state);
            self.0.end_if_done(&state);
        }
        post.deliver();
    }

    async fn close(&self, cancels_pending: bool) -> Result<(), ProcessError> {
        {
            let mut state = self.0.state();
            state.is_closed = true;
            self.0.end_if_done(&state);
        }
        if cancels_pending {
            self.cancel_pending(&|_| true);
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
        self.0.state().asked.values().map(|asked| asked.left).sum()
    }

    fn stats(&self) -> Stats {
        let (unfinished, done) = (self.unfinished(), self.0.state().done);
        Stats { unfinished, done, ..Stats::default() }
    }
}

#[cfg(test)]
mod tests;
