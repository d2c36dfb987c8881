//! What the process that has a pool does for one that has a handle of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::select;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Answer, ROOM, Request, weight};
use crate::error::{Cause, Stage};
use crate::pipe::{Receiver, SendError, Sender};
use crate::pool::backend::Backend;
use crate::pool::draft::ENOUGH;
use crate::pool::job::{Job, Outcome, Post, Replies};
use crate::pool::which::{Function, Which};
use crate::wire::Packet;

/// How many items a job has at most: those of a list take four bytes each at least.
pub(super) const MOST_ITEMS: u32 = (ENOUGH / size_of::<u32>()) as u32;

/// How many functions one process may name, and how many bytes there may be in what it calls one: workers remember them.
pub(super) const FUNCTIONS: usize = 1024;
pub(super) const LONGEST: usize = 1 << 10;

/// How many bytes of results wait for one process at most. One that reads them so slowly is sent away.
pub(super) const UNSENT: usize = 512 << 20;

/// Does what the process at the other end asks, until it is gone; what it has not got by then is given up.
pub(in crate::pool) async fn serve(
    backend: Arc<dyn Backend>,
    mut requests: Receiver<Request>,
    mut answers: Sender<Answer>,
) {
    // As long as there are permits: one goes with each.
    let (deliver, mut delivered) = unbounded_channel();
    let (errands, room) = (Arc::new(Errands::default()), Arc::new(Semaphore::new(ROOM)));
    let mut counter =
        Counter { backend, errands: Arc::clone(&errands), functions: HashSet::new(), room, deliver };
    select! {
        () = counter.take(&mut requests) => {}
        () = tell(&errands, &mut delivered, &mut answers) => {}
        () = errands.flooded.cancelled() => {}
    }
    counter.give_up_all();
}

/// Where one process asks.
struct Counter {
    backend: Arc<dyn Backend>,
    errands: Arc<Errands>,
    /// Those that it has named.
    functions: HashSet<Arc<Function>>,
    /// For jobs, and for what came of them until it is sent.
    room: Arc<Semaphore>,
    deliver: UnboundedSender<(Answer, Permit)>,
}

impl Counter {
    /// Takes what is asked, until nothing more is, or what no honest process asks.
    async fn take(&mut self, requests: &mut Receiver<Request>) {
        while let Ok(Some(request)) = requests.recv().await {
            match request {
                Request::Job { id, function, count, timeout, limits, retries, packet } => {
                    let packet = Packet::from(packet);
                    if count != 1 && !is_list(&packet, count) {
                        return;
                    }
                    let Some(errand) = self.errand(id, count, weight(&packet, count)).await else { return };
                    let (which, refused) = self.which(function);
                    let job = Job::new(which, packet, limits, errand);
                    self.submit(Job { count, timeout, retries, ..job }, refused);
                }
                Request::GiveUp { id } => {
                    let errand = self.errands.state().remove(id);
                    errand.into_iter().for_each(|errand| self.give_up(errand));
                }
                Request::CancelPending { ids } => self.cancel_pending(&ids),
            }
        }
    }

    /// Where the outcomes of a job are to arrive, once there is room for it; `None` if there is one by this name, or too much already.
    async fn errand(&self, id: u64, count: u32, weight: usize) -> Option<Arc<Errand>> {
        // An honest process asks for no more before it has heard of what it has asked for.
        if self.errands.state().weight + weight > ROOM {
            return None;
        }
        // What it has to wait for is that outcomes are sent: while its process reads they are, and else it is gone. A pool does not close this.
        let permit = Arc::clone(&self.room).acquire_many_owned(weight as u32).await.ok()?;
        let (left, deliver, errands) =
            (AtomicU32::new(count), self.deliver.clone(), Arc::downgrade(&self.errands));
        let (is_cancelled, permit) = (AtomicBool::new(false), Arc::new(permit));
        let errand = Arc::new(Errand { id, weight, left, is_cancelled, deliver, errands, permit });
        self.errands.state().insert(&errand).then_some(errand)
    }

    /// The function of a job; and why that is not to be run, if workers would have too much to remember.
    fn which(&mut self, function: Function) -> (Which, Option<Cause>) {
        if let Some(known) = self.functions.get(&function) {
            return (Which::Told(Arc::clone(known)), None);
        }
        let refused = if function.length() > LONGEST {
            Some(format!("what it is called takes more than {LONGEST} bytes"))
        } else if self.functions.len() >= FUNCTIONS {
            Some(format!("its process has named {FUNCTIONS} functions before"))
        } else {
            None
        };
        let function = Arc::new(function);
        if refused.is_none() {
            self.functions.insert(Arc::clone(&function));
        }
        (Which::Told(function), refused.map(|reason| Cause::start(Stage::Setup, reason)))
    }

    fn submit(&self, job: Job, refused: Option<Cause>) {
        match refused {
            None => self.backend.submit(vec![job]),
            Some(cause) => {
                let mut post = Post::default();
                job.fail_all(&cause, &mut post);
                post.deliver();
            }
        }
    }

    fn give_up(&self, errand: Arc<Errand>) {
        self.backend.give_up(&(errand as Arc<dyn Replies>), None);
    }

    fn give_up_all(&self) {
        let left: Vec<_> = self.errands.state().by_id.drain().map(|(_, errand)| errand).collect();
        left.into_iter().for_each(|errand| self.give_up(errand));
    }

    fn cancel_pending(&self, ids: &[u64]) {
        // Each of them once: to look for them takes the pool's lock, however few there are.
        let cancelled: Vec<Arc<Errand>> = {
            let errands = self.errands.state();
            let known = ids.iter().filter_map(|id| errands.by_id.get(id));
            known.filter(|errand| !errand.is_cancelled.swap(true, Relaxed)).map(Arc::clone).collect()
        };
        if cancelled.is_empty() {
            return;
        }
        // By their addresses, since there may be many: these are nobody else's for as long as the errands are held here.
        let meant: HashSet<usize> = cancelled.iter().map(|errand| Arc::as_ptr(errand).addr()).collect();
        self.backend.cancel_pending(&|job| meant.contains(&Arc::as_ptr(&job.replies).addr()));
        drop(cancelled);
    }
}

async fn tell(
    errands: &Errands,
    delivered: &mut UnboundedReceiver<(Answer, Permit)>,
    answers: &mut Sender<Answer>,
) {
    while let Some((answer, _permit)) = delivered.recv().await {
        let length = answer.length();
        let sent = match answers.send(answer).await {
            Err(SendError::Encode(answer, error)) => {
                answers.send(Answer { result: Err(error.into()), ..answer }).await
            }
            sent => sent,
        };
        if sent.is_err() {
            return;
        }
        errands.unsent.fetch_sub(length, Relaxed);
        if delivered.is_empty() {
            answers.write_now();
        }
    }
}

/// Whether bytes are a list of so many arguments: what another process has sent is looked at before it is taken apart.
pub(super) fn is_list(packet: &Packet, count: u32) -> bool {
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

/// The jobs of one process that are not done.
#[derive(Default)]
struct Errands {
    state: Mutex<State>,
    /// Bytes of results that wait until they are sent, and whether these were ever too many.
    unsent: AtomicUsize,
    flooded: CancellationToken,
}

#[derive(Default)]
struct State {
    by_id: HashMap<u64, Arc<Errand>>,
    weight: usize,
}

impl Errands {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds one, unless there is one by its name: of two the first could not be given up any more.
    fn insert(&mut self, errand: &Arc<Errand>) -> bool {
        let Entry::Vacant(place) = self.by_id.entry(errand.id) else { return false };
        place.insert(Arc::clone(errand));
        self.weight += errand.weight;
        true
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Errand>> {
        let errand = self.by_id.remove(&id)?;
        self.weight -= errand.weight;
        Some(errand)
    }
}

/// To have a job in the pool, or what came of it on the way back.
type Permit = Arc<OwnedSemaphorePermit>;

/// A job of another process.
struct Errand {
    id: u64,
    weight: usize,
    left: AtomicU32,
    is_cancelled: AtomicBool,
    deliver: UnboundedSender<(Answer, Permit)>,
    errands: Weak<Errands>,
    permit: Permit,
}

impl Replies for Errand {
    fn deliver(&self, outcomes: Vec<Outcome>) {
        let count = outcomes.iter().map(|outcome| outcome.count).sum();
        let errands = self.errands.upgrade();
        // Before it is told: who hears of it may ask for as much again.
        if self.left.fetch_sub(count, Relaxed) == count
            && let Some(errands) = &errands
        {
            // By now there may be another one by this name, where this one was given up.
            let mut errands = errands.state();
            if errands.by_id.get(&self.id).is_some_and(|errand| std::ptr::eq(&**errand, self)) {
                errands.remove(self.id);
            }
        }
        for Outcome { key, pid, result, pace, .. } in outcomes.into_iter().flat_map(Outcome::each) {
            let answer = Answer { id: self.id, item: key as u32, pid, result: result.map(Into::into), pace };
            let length = answer.length();
            if let Some(errands) = &errands
                && errands.unsent.fetch_add(length, Relaxed).saturating_add(length) > UNSENT.max(length)
            {
                errands.flooded.cancel();
                return;
            }
            // Where nobody listens any more nobody misses it.
            drop(self.deliver.send((answer, Arc::clone(&self.permit))));
        }
    }

    fn placed(&self, _: u64, _: Option<u32>) {}
}
