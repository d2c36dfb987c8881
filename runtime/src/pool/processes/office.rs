//! Where a pool is run: its queue, its workers, and who gets what.
//!
//! Everything is under one lock, which is held for short whiles and never over a wait. Those who submit take it, and so do the tasks on the
//! control thread: one for each worker, which hears it, and the keeper, which looks at the clock and starts workers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::letter::Answer;
use super::member::{HELD, Member, Misbehaved, Retires, STUCK};
use super::scales::resident;
use crate::error::{Cause, ProcessError};
use crate::pool::job::{Job, Post, Replies};
use crate::pool::settings::Settings;
use crate::pool::stats::{Slowest, Stats};

/// How many workers may fail in a row, before a pool that has no other gives up.
const FAILURES: u32 = 8;

/// How long the next start waits after a worker has failed, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a pool is and has.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) settings: Settings,
    state: Mutex<State>,
    /// Wakes the keeper.
    keeper: Notify,
    /// Whether the first workers are ready; or why one of them is not.
    opened: watch::Sender<Option<Result<(), ProcessError>>>,
    /// Cancelled when workers that are not ready yet are not wanted any more.
    pub(super) killed: CancellationToken,
    /// Cancelled when nothing is left.
    pub(super) ended: CancellationToken,
}

/// A worker to be started.
pub(super) struct Start {
    pub(super) number: u64,
    /// Cancelled when nobody needs it any more.
    pub(super) unwanted: CancellationToken,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// It takes no more jobs, and does those that it has.
    Closing,
    /// Nothing runs any more.
    Over,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    queue: VecDeque<Job>,
    members: Vec<Member>,
    /// Workers that are not ready yet, and what tells them that nobody needs them.
    starting: usize,
    unwanted: CancellationToken,
    /// Workers that have been started.
    started: u64,
    /// Whether all of the first workers have been ready.
    opened: bool,
    failures: u32,
    /// The number of the last worker that had been started when one failed.
    last_failed: u64,
    /// Why it has ended by itself.
    gave_up: Option<Cause>,
    not_before: Option<Instant>,
    /// When the keeper looks next.
    next_look: Option<Instant>,
    /// What those have done that have ended, how many of them there are by why they have, and their slowest tasks.
    done: u64,
    ended: BTreeMap<String, u64>,
    slowest: Slowest,
}

impl Office {
    pub(super) fn new(settings: Settings) -> Self {
        // Where there need be no worker none is waited for.
        let opened = (settings.least == 0).then_some(Ok(()));
        let state = State {
            phase: Phase::Open,
            queue: VecDeque::new(),
            members: Vec::new(),
            starting: 0,
            unwanted: CancellationToken::new(),
            started: 0,
            opened: settings.least == 0,
            failures: 0,
            last_failed: 0,
            gave_up: None,
            not_before: None,
            next_look: None,
            done: 0,
            ended: BTreeMap::new(),
            slowest: Slowest::default(),
        };
        Self {
            settings,
            state: Mutex::new(state),
            keeper: Notify::new(),
            opened: watch::Sender::new(opened),
            killed: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, hands out what can be handed out, and delivers what has come.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Post) -> T) -> T {
        let mut post = Post::default();
        let changed = {
            let mut state = self.state();
            let changed = change(&mut state, &mut post);
            self.hand_out(&mut state, &mut post);
            changed
        };
        post.deliver();
        changed
    }

    /// Waits until the first workers are ready, or one of them could not be had.
    pub(super) async fn opened(&self) -> Result<(), ProcessError> {
        let mut opened = self.opened.subscribe();
        let opened = opened.wait_for(Option::is_some).await.ok().and_then(|opened| opened.clone());
        opened.unwrap_or(Ok(()))
    }

    pub(super) async fn keeper_is_wanted(&self) {
        self.keeper.notified().await;
    }

    pub(super) fn submit(&self, jobs: Vec<Job>) {
        self.change(|state, post| match state.phase {
            Phase::Open => state.queue.extend(jobs),
            _ => {
                let cause = state.gave_up.clone().unwrap_or(Cause::Closed);
                jobs.iter().for_each(|job| job.fail_all(&cause, post));
            }
        });
    }

    pub(super) fn give_up(&self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        self.change(|state, _| {
            state.queue.retain(|job| !job.is_of(whose, key));
            state.members.iter_mut().for_each(|member| member.give_up(whose, key));
        });
        self.keeper.notify_one();
    }

    /// Cancels what has not started of some jobs.
    pub(super) fn cancel_pending(&self, is_meant: &dyn Fn(&Job) -> bool) {
        self.change(|state, post| {
            let (pending, others): (VecDeque<_>, _) = state.queue.drain(..).partition(is_meant);
            state.queue = others;
            pending.iter().for_each(|job| job.fail_all(&Cause::Cancelled, post));
            state.members.iter_mut().for_each(|member| member.cancel_pending(is_meant, post));
        });
        self.keeper.notify_one();
    }

    pub(super) fn close(&self) {
        self.change(|state, _| {
            if let Phase::Open = state.phase {
                state.phase = Phase::Closing;
            }
        });
        self.keeper.notify_one();
    }

    pub(super) fn start_kill(&self) {
        self.killed.cancel();
        self.change(|state, post| state.end(&Cause::Cancelled, post));
        self.keeper.notify_one();
    }

    /// Why it has ended by itself, if it has.
    pub(super) fn gave_up(&self) -> Option<Cause> {
        self.state().gave_up.clone()
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = {
            let state = self.state();
            let mut slowest = Slowest::default();
            slowest.merge(&state.slowest);
            state.members.iter().for_each(|member| slowest.merge(&member.slowest));
            let mut members: Vec<_> = state.members.iter().collect();
            members.sort_by_key(|member| member.number);
            Stats {
                workers: members.iter().map(|member| member.stats()).collect(),
                starting: state.starting,
                queued: state.queue.iter().map(|job| job.count as usize).sum(),
                unfinished: members.iter().map(|member| member.unfinished()).sum(),
                done: state.done + members.iter().map(|member| member.tasks_done()).sum::<u64>(),
                ended: state.ended.clone(),
                slowest: slowest.into_inner(),
            }
        };
        stats.workers.iter_mut().for_each(|worker| worker.memory = resident(worker.pid));
        stats
    }

    pub(super) fn unfinished(&self) -> usize {
        let state = self.state();
        let queued: usize = state.queue.iter().map(|job| job.count as usize).sum();
        queued + state.members.iter().map(Member::unfinished).sum::<usize>()
    }

    /// A worker is ready. Gives it back if it is not wanted any more: it then counts as one that is being started until it is
    /// [dropped](Self::dropped).
    pub(super) fn hired(&self, member: Member) -> Option<Member> {
        let (refused, opens) = self.change(|state, _| {
            if let Phase::Over = state.phase {
                return (Some(member), false);
            }
            state.starting -= 1;
            state.members.push(member);
            let opens = !state.opened && state.members.len() >= self.settings.least;
            state.opened |= opens;
            (None, opens)
        });
        if opens {
            self.opened.send_replace(Some(Ok(())));
        }
        self.keeper.notify_one();
        refused
    }

    /// A worker that was not wanted any more is gone.
    pub(super) fn dropped(&self) {
        self.state().starting -= 1;
        self.keeper.notify_one();
    }

    /// A worker could not be had.
    pub(super) fn not_hired(&self, error: &ProcessError) {
        let is_first = self.change(|state, post| {
            state.starting -= 1;
            let is_first = !std::mem::replace(&mut state.opened, true);
            if is_first {
                state.end(&Cause::Closed, post);
            }
            state.fail(error.cause(), post);
            is_first
        });
        if is_first {
            self.opened.send_replace(Some(Err(error.clone())));
            self.killed.cancel();
        }
        self.keeper.notify_one();
    }

    /// Does something with a worker that is there.
    pub(super) fn with<T>(&self, number: u64, act: impl FnOnce(&mut Member) -> T) -> Option<T> {
        self.state().members.iter_mut().find(|member| member.number == number).map(act)
    }

    /// Takes in what a worker has said. One that has broken the protocol is killed.
    pub(super) fn hear(&self, number: u64, answer: Option<Answer>) {
        let wakes = self.change(|state, post| {
            let mut back = Vec::new();
            let Some(member) = state.members.iter_mut().find(|member| member.number == number) else {
                return false;
            };
            member.is_doubtful &= answer.is_none();
            let heard = member.collect(post, &mut back).and_then(|_| match answer {
                None | Some(Answer::Look) => Ok(()),
                Some(Answer::Took { slot, turn }) => {
                    member.took(slot, turn);
                    Ok(())
                }
                Some(Answer::Done { slot, item, result }) => member.done(slot, item, result, post),
                Some(Answer::Ready { .. }) => Err(Misbehaved("it is ready a second time".into())),
            });
            if let Err(Misbehaved(reason)) = heard {
                member.kill(None, Cause::BadMessage { reason });
            }
            // What a worker does that was there before says nothing of new ones.
            let is_new = member.number > state.last_failed;
            state.failures = if is_new && member.done > 0 { 0 } else { state.failures };
            let (is_idle, leaves) = (member.is_idle(), member.retires.is_some());
            state.queue_again(back, post);
            is_idle && (leaves || self.minds_idleness(state))
        });
        if wakes {
            self.keeper.notify_one();
        }
    }

    /// Whether the keeper has something to do where a worker has nothing.
    fn minds_idleness(&self, state: &State) -> bool {
        let Settings { least, most, concurrency, .. } = self.settings;
        !matches!(state.phase, Phase::Open) || least < most || state.is_uneven(concurrency)
    }

    /// Whether a worker has left anything on the board, which is then taken in.
    pub(super) fn collect(&self, number: u64) {
        self.hear(number, None);
    }

    /// A worker says nothing any more.
    pub(super) fn hung_up(&self, number: u64) {
        self.with(number, Member::hung_up);
        self.keeper.notify_one();
    }

    /// A worker has become too heavy: it is to leave when it has done what it has started.
    pub(super) fn retire(&self, number: u64) {
        self.change(|state, post| {
            let member = state.members.iter_mut().find(|member| member.number == number);
            let back = member.map(Member::retire).unwrap_or_default();
            state.queue_again(back, post);
        });
        self.keeper.notify_one();
    }

    /// A worker has ended.
    pub(super) fn bury(&self, number: u64, cause: Cause) {
        self.change(|state, post| {
            let Some(at) = state.members.iter().position(|member| member.number == number) else { return };
            let mut member = state.members.swap_remove(at);
            let mut again = Vec::new();
            // What it has written to the end counts. If that is nonsense the rest is lost with it.
            drop(member.collect(post, &mut again));
            state.done += member.tasks_done();
            state.slowest.merge(&member.slowest);
            state.count_end(member.why_it_leaves(&cause));
            let has_done_nothing = member.tasks_done() == 0 && !member.has_begun() && !member.was_let_go();
            again.extend(member.bury(cause.clone(), post));
            match state.phase {
                Phase::Over => {}
                _ => state.queue_again(again, post),
            }
            if has_done_nothing {
                state.fail(&cause, post);
            }
        });
        self.keeper.notify_one();
    }

    /// Gives the queue's jobs to workers that have room, the least busy first.
    fn hand_out(&self, state: &mut State, post: &mut Post) {
        if self.settings.warm > 0 {
            state.appoint(self.settings.most);
        }
        let mut full = Vec::new();
        while let Some(job) = state.queue.pop_front() {
            let room = |member: &&mut Member| member.has_room() && !full.contains(&member.number);
            let free = state
                .members
                .iter_mut()
                .filter(room)
                .min_by_key(|member| (member.is_doubtful, member.load()));
            let Some(member) = free else {
                state.queue.push_front(job);
                break;
            };
            let timeout = job.timeout;
            let job = match u32::try_from(member.may_do()) {
                Ok(most) if most < job.count => {
                    job.part(most, job.count).into_iter().for_each(|rest| state.queue.push_front(rest));
                    job.part(0, most).unwrap_or(job)
                }
                _ => job,
            };
            match member.place(job) {
                None => {
                    if let Some(timeout) = timeout {
                        self.look_in(state, timeout);
                    }
                }
                Some((job, Some(cause))) => job.fail_all(&cause, post),
                Some((job, None)) => {
                    full.push(member.number);
                    state.queue.push_front(job);
                }
            }
        }
        state.members.iter_mut().for_each(Member::notify);
        self.wake_keeper(state, !full.is_empty());
    }

    /// Wakes the keeper if it has something to do, or will have before it looks by itself: each time that [`keep`](Self::keep) gives is
    /// one of these, so that a look leads to no other at once.
    fn wake_keeper(&self, state: &mut State, has_waited_for_room: bool) {
        let leaves = |member: &Member| member.retires.is_some() && !member.is_replaced;
        let now = Instant::now();
        if state.members.iter().any(leaves) {
            self.keeper.notify_one();
        }
        if self.missing(state) > 0 {
            match state.not_before.filter(|at| *at > now) {
                Some(at) => self.look_at(state, at),
                None => self.keeper.notify_one(),
            }
        }
        if state.staying() < self.settings.most
            && let Some(at) = state.next_full(now)
        {
            self.look_at(state, at);
        }
        if has_waited_for_room || state.is_uneven(self.settings.concurrency) {
            self.look_in(state, STUCK);
        } else if state.next_look.is_none_or(|next| next > now + HELD) && state.may_be_held(now) {
            self.look_in(state, HELD);
        }
    }

    fn look_in(&self, state: &mut State, pause: Duration) {
        if let Some(at) = Instant::now().checked_add(pause) {
            self.look_at(state, at);
        }
    }

    /// Wakes the keeper, unless it looks by then anyway.
    fn look_at(&self, state: &mut State, at: Instant) {
        if state.next_look.is_none_or(|next| next > at) {
            state.next_look = Some(at);
            self.keeper.notify_one();
        }
    }

    /// The keeper's look: what is late, who is stuck, who is missing. Gives when to look again, and how many workers to start; `None`
    /// when nothing is left to be kept.
    pub(super) fn keep(&self) -> Option<(Option<Instant>, Vec<Start>)> {
        let kept = self.change(|state, post| {
            let now = Instant::now();
            let mut next: Vec<Instant> = Vec::new();
            let mut back = Vec::new();
            for member in &mut state.members {
                next.extend(member.check_times(now, post, &mut back));
            }
            state.queue_again(back, post);
            next.extend(state.share(now, self.settings.concurrency));
            // A worker that has read what was taken back from it says nothing, and has room.
            if !state.queue.is_empty() && state.members.iter().any(Member::has_room) {
                next.push(now + STUCK);
            }
            let starts = self.staff(state, now, &mut next);
            if state.staying() < self.settings.most {
                next.extend(state.next_full(now));
            }
            next.extend(self.dismiss_idle(state, now));
            state.members.iter_mut().for_each(|member| member.is_replaced |= member.retires.is_some());
            state.let_go();
            for member in &mut state.members {
                next.extend(member.check_leaving(now));
            }
            state.next_look = next.into_iter().min();
            if matches!(state.phase, Phase::Closing) && self.wanted(state) == 0 {
                std::mem::take(&mut state.unwanted).cancel();
            }
            let is_over = !matches!(state.phase, Phase::Open) && state.is_empty();
            if is_over {
                state.phase = Phase::Over;
                return None;
            }
            Some((state.next_look, starts))
        });
        if kept.is_none() {
            self.ended.cancel();
        }
        kept
    }

    /// How many workers there should be.
    fn wanted(&self, state: &State) -> usize {
        let Settings { least, most, warm, concurrency, .. } = self.settings;
        let jobs = state.queue.len() + state.members.iter().map(Member::load).sum::<usize>();
        let demand = jobs.div_ceil(concurrency).max(state.wanted_beside_busy(concurrency));
        match state.phase {
            Phase::Open => demand.clamp(least, most).saturating_add(warm),
            Phase::Closing if state.queue.is_empty() => 0,
            Phase::Closing => demand.min(most),
            Phase::Over => 0,
        }
    }

    /// How many are to be started. After a failure one is tried, to see whether it was the last.
    fn missing(&self, state: &State) -> usize {
        let missing = self.wanted(state).saturating_sub(state.staying());
        if state.failures > 0 { missing.min(1_usize.saturating_sub(state.starting)) } else { missing }
    }

    /// Lets workers go that a range can do without. Gives when to look for the next one.
    fn dismiss_idle(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let mut spare = state.staying().saturating_sub(self.wanted(state));
        let mut next = None::<Instant>;
        for member in state.members.iter_mut().filter(|member| member.is_staying() && member.is_idle()) {
            let Some(at) = member.heard.checked_add(self.settings.idle_timeout) else { continue };
            if spare > 0 && at <= now {
                spare -= 1;
                member.retires = Some(Retires::Spare);
            } else if spare > 0 {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        next
    }

    /// The workers to start now.
    fn staff(&self, state: &mut State, now: Instant, next: &mut Vec<Instant>) -> Vec<Start> {
        let missing = self.missing(state);
        if missing > 0
            && let Some(at) = state.not_before.filter(|at| *at > now)
        {
            next.push(at);
            return Vec::new();
        }
        state.starting += missing;
        (0..missing)
            .map(|_| {
                state.started += 1;
                Start { number: state.started, unwanted: state.unwanted.clone() }
            })
            .collect()
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.members.is_empty() && self.starting == 0
    }

    /// Queues jobs that were given back before all others, but what of them was cancelled meanwhile.
    fn queue_again(&mut self, jobs: Vec<Job>, post: &mut Post) {
        for job in jobs.into_iter().rev() {
            if job.is_cancelled {
                job.fail_all(&Cause::Cancelled, post);
            } else {
                self.queue.push_front(job);
            }
        }
    }

    /// Counts a worker that has ended. Of many different reasons the last are not told apart.
    fn count_end(&mut self, why: String) {
        const MOST: usize = 64;
        let why = if self.ended.len() < MOST { why } else { "for another reason".into() };
        *self.ended.entry(why).or_default() += 1;
    }

    /// Has so many workers get jobs, those that were started first; the others are spares.
    fn appoint(&mut self, most: usize) {
        self.members.sort_by_key(|member| member.number);
        // Each of them keeps its place until it has done what it has.
        let mut appointed = self.members.iter().filter(|member| member.does_its_last()).count();
        for member in &mut self.members {
            appointed += usize::from(member.is_staying());
            member.is_spare = appointed > most;
        }
    }

    /// How many workers there are that stay, or have not done their last, with those that are being started.
    fn staying(&self) -> usize {
        let has_a_place = |member: &&Member| member.is_staying() || member.does_its_last();
        self.members.iter().filter(has_a_place).count() + self.starting
    }

    /// How many workers it takes besides those that have something, where jobs wait behind what takes a whole worker, though this
    /// may have several at a time; together with these.
    fn wanted_beside_busy(&self, concurrency: usize) -> usize {
        if concurrency == 1 {
            return 0;
        }
        let now = Instant::now();
        let behind: usize = self.members.iter().map(|member| member.behind(now)).sum();
        let has_room = self.members.iter().any(|member| member.has_room() && member.behind(now) == 0);
        match if has_room { behind } else { behind + self.queue.len() } {
            0 => 0,
            waiting => {
                let busy = self.members.iter().filter(|member| !member.is_idle()).count();
                busy + waiting.div_ceil(concurrency)
            }
        }
    }

    /// When the next worker counts as one that others wait behind.
    fn next_full(&self, now: Instant) -> Option<Instant> {
        self.members.iter().filter_map(Member::full_from).filter(|at| *at > now).min()
    }

    /// Ends everything.
    fn end(&mut self, cause: &Cause, post: &mut Post) {
        self.phase = Phase::Over;
        self.queue.drain(..).for_each(|job| job.fail_all(cause, post));
        for member in &mut self.members {
            member.give_up_all(cause, post);
            member.kill(None, cause.clone());
        }
    }

    /// A worker has ended before it had done anything. Those that do before another one was tried count once.
    fn fail(&mut self, cause: &Cause, post: &mut Post) {
        let now = Instant::now();
        if matches!(self.phase, Phase::Over) || self.not_before.is_some_and(|at| at > now) {
            return;
        }
        (self.failures, self.last_failed) = (self.failures + 1, self.started);
        let pause = BACK_OFF.0.saturating_mul(1 << (self.failures - 1).min(10)).min(BACK_OFF.1);
        self.not_before = now.checked_add(pause);
        if self.failures >= FAILURES && self.members.is_empty() && self.starting == 0 {
            let cause = Cause::RestartLimit { deaths: self.failures, last: cause.to_string() };
            self.end(&cause, post);
            self.gave_up = Some(cause);
        }
    }

    /// Lets those who have nothing to do have what waits behind others. Gives when to look again.
    fn share(&mut self, now: Instant, concurrency: usize) -> Option<Instant> {
        let idle = self.members.iter().filter(|member| member.is_free()).count();
        if idle == 0 || !self.queue.is_empty() {
            return None;
        }
        for _ in 0..idle {
            let has_more = |member: &&mut Member| member.load() > concurrency || member.behind(now) > 0;
            let busy = self.members.iter_mut().filter(has_more);
            let Some(busiest) = busy.max_by_key(|member| (member.behind(now), member.load())) else { break };
            if busiest.keeps_jobs_waiting(now) {
                self.queue.extend(busiest.take_back());
            }
        }
        if self.queue.is_empty() {
            self.members.iter_mut().for_each(|member| member.stop_a_list(now));
            let held = self.members.iter_mut().flat_map(|member| member.take_back_if_held(now));
            held.for_each(|job| self.queue.push_front(job));
        }
        match () {
            () if self.is_uneven(concurrency) => now.checked_add(STUCK),
            () if self.may_be_held(now) => now.checked_add(HELD),
            () => None,
        }
    }

    /// Whether somebody could do what somebody else has, should that one turn out to be stopped.
    fn may_be_held(&self, now: Instant) -> bool {
        self.members.iter().any(Member::is_free) && self.members.iter().any(|member| member.may_be_held(now))
    }

    /// Whether somebody has nothing to do, and somebody else more than he does at a time.
    fn is_uneven(&self, concurrency: usize) -> bool {
        let has_more = |member: &Member| {
            member.load() > concurrency || member.has_a_list() || member.full_from().is_some()
        };
        self.queue.is_empty() && self.members.iter().any(Member::is_free) && self.members.iter().any(has_more)
    }

    /// Lets workers go that are to leave.
    fn let_go(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.retires.is_some() && member.is_idle()) {
            member.dismiss();
        }
        let closes = matches!(self.phase, Phase::Closing) && self.queue.is_empty();
        if closes && self.members.iter().all(Member::is_idle) {
            self.members.iter_mut().for_each(Member::dismiss);
        }
    }
}
