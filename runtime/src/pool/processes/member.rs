//! A worker, as its pool sees it.

mod ends;
mod results;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_sink::Sink;

use super::board::{Board, SHORT, SLOTS, Side, Sleep};
use super::letter::{Head, Order};
use super::ring::{Reader, Writer};
use crate::error::Cause;
use crate::pipe::{Sender, TrySendError};
use crate::pool::job::Job;
use crate::pool::settings::Settings;
use crate::pool::stats::{Slowest, WorkerState, WorkerStats};
use crate::pool::which::Which;
use crate::signaler::Signaler;
use crate::wire::{Limits, Packet};

/// How much work a worker is given ahead.
const AHEAD: Duration = Duration::from_millis(2);

/// How long a worker may still take for items that nobody waits for any more, before it is killed.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// How long a worker may take to end when it was told to leave, as long as any child whose function has returned; and when it has
/// closed its link by itself, which those do that are about to end.
const LEAVE: Duration = Duration::from_secs(10);
pub(super) const HUNG_UP: Duration = Duration::from_secs(1);

/// A worker that has given no result for so long is taken to be busy with something long.
pub(super) const STUCK: Duration = Duration::from_millis(2);

/// A worker that has not started what it was given so long ago is taken to be stopped.
pub(super) const HELD: Duration = Duration::from_millis(100);

/// How many bytes of letters it may take as long again to read: any worker that runs reads more.
const READ_MEANWHILE: usize = 1 << 20;

/// A worker that knows so many functions is replaced: processes that use the pool may name ever more.
const KNOWN: usize = 4096;

/// A worker that has more jobs than this gives many results.
const MANY: usize = 8;

/// And so does one whose items take less than this.
const QUICK: Duration = Duration::from_micros(50);

/// What is wrong about a worker that has closed its link.
pub(super) fn hung_up() -> String {
    "it has closed its link, and goes on".into()
}

/// How much memory is taken at a time for results, and how much of it a list of them has at most.
const ROOM: usize = 4 << 10;
const FULL: usize = 64 << 10;

/// Why a worker is told to leave.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Retires {
    #[error("was not needed any more")]
    Spare,
    #[error("had done as many tasks as it may")]
    Done,
    #[error("had more memory than it may")]
    Heavy,
    #[error("knew as many functions as it may")]
    Full,
}

/// A worker has broken the protocol.
#[derive(Debug)]
pub(super) struct Misbehaved(pub(super) String);

/// How long a worker took to start, and then to do what it does first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) start: Duration,
    pub(super) init: Duration,
}

/// Whether a job goes by the board, and not by a letter.
fn is_short(job: &Job) -> bool {
    job.packet.handles.is_empty() && job.packet.bytes.len() <= SHORT
}

/// A worker that is there.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) signaler: Signaler,
    board: Board,
    /// Until it is told to leave.
    link: Option<Sender<Order>>,
    letters: VecDeque<Letter>,
    postman: Option<Waker>,
    jobs: Writer,
    /// Whether it was given something that it may not have seen.
    has_news: bool,
    results: Reader,
    /// Where results are gathered before they are handed on.
    room: BytesMut,
    functions: Vec<Which>,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// The jobs that it has, in the order in which they were placed, and some that it no longer has.
    order: VecDeque<(u16, u64)>,
    placed: usize,
    concurrency: usize,
    limits: Limits,
    /// The time that an item takes, smoothed, in nanoseconds; none is known before the first.
    pace: Option<u64>,
    /// Whether it has been taken to be stopped, and was not heard since: others are given jobs before it.
    pub(super) is_doubtful: bool,
    /// Whether it gets no jobs before another one ends.
    pub(super) is_spare: bool,
    /// How long it has been running jobs, and which of them took longest.
    busy: Duration,
    pub(super) slowest: Slowest,
    /// When it was ready, and how long it took to start, and to do what it does first.
    ready: Instant,
    beginning: Beginning,
    /// When it has last given a result, or been given its first job.
    pub(super) heard: Instant,
    /// Items that it has done, and may do before it is replaced.
    pub(super) done: u64,
    pub(super) may_do: Option<u64>,
    /// Why it is told to leave when it has done what it has, if it is.
    pub(super) retires: Option<Retires>,
    /// Whether the keeper knows of that.
    pub(super) is_replaced: bool,
    /// When it is killed because it has not ended, and what for.
    leaves_by: Option<(Instant, Cause)>,
    /// Why it was killed, and for whose sake.
    doomed: Option<(Option<u16>, Cause)>,
}

#[derive(Debug, Default)]
struct Slot {
    turn: u64,
    placed: Option<Placed>,
}

impl Slot {
    fn has_a_list(&self) -> bool {
        self.placed.as_ref().is_some_and(|placed| placed.job.count > 1)
    }
}

/// A job that a worker has.
#[derive(Debug)]
struct Placed {
    job: Job,
    /// Items whose place on the board has come.
    finished: u32,
    /// Those of them whose letter has not.
    awaited: Vec<u32>,
    /// Whether nobody waits for it any more.
    given_up: bool,
    /// When its worker is killed because it is not done, though nobody waits for it.
    ends_by: Option<Instant>,
    /// Whether it was told to start no more items.
    stopped: bool,
    /// How long it has taken so far, as its worker says, in nanoseconds.
    elapsed: u64,
    /// Whether a watch on its time has seen it start an item: which, and when.
    seen: Option<(u64, u64)>,
}

/// What waits to be sent to a worker; and the slot and turn of the job that it belongs to, if to one.
#[derive(Debug)]
struct Letter {
    order: Order,
    of: Option<(u16, u64)>,
}

/// Items of a job that have returned, one after the other. What they have is in the room.
#[derive(Debug)]
struct List {
    slot: u16,
    first: u32,
    count: u32,
}

impl Placed {
    const fn new(job: Job) -> Self {
        Self {
            job,
            finished: 0,
            awaited: Vec::new(),
            given_up: false,
            ends_by: None,
            stopped: false,
            elapsed: 0,
            seen: None,
        }
    }

    const fn is_a_list(&self) -> bool {
        !self.stopped && self.job.count - self.finished > 1
    }

    const fn is_done(&self) -> bool {
        self.finished == self.job.count && self.awaited.is_empty()
    }

    /// Ends with the items before one: gives back the others, in two parts for whoever is free.
    fn end_before(&mut self, item: u32, back: &mut Vec<Job>) {
        let count = self.job.count;
        if !self.given_up && item < count {
            let middle = item + (count - item).div_ceil(2);
            back.extend(self.job.part(item, middle));
            back.extend(self.job.part(middle, count));
        }
        match self.job.part(0, item) {
            Some(begun) => self.job = begun,
            None => self.job.count = item,
        }
    }

    /// Notes which item it is said to be at; gives when it was first seen there. Items follow one another: what says something else
    /// says nothing.
    fn see(&mut self, item: u64, now: u64) -> u64 {
        let (seen, at) = self.seen.unwrap_or((0, now));
        let is_next = item > seen && item <= u64::from(self.job.count);
        let (_, first_seen) = *self.seen.insert(if is_next { (item, now) } else { (seen, at) });
        first_seen
    }
}

impl Member {
    pub(super) fn new(
        number: u64,
        signaler: Signaler,
        board: Board,
        link: Sender<Order>,
        settings: &Settings,
        beginning: Beginning,
    ) -> Self {
        Self {
            number,
            signaler,
            board,
            link: Some(link),
            letters: VecDeque::new(),
            postman: None,
            jobs: Writer::default(),
            has_news: false,
            results: Reader::default(),
            room: BytesMut::with_capacity(ROOM),
            functions: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            placed: 0,
            concurrency: settings.concurrency,
            limits: settings.limits,
            pace: None,
            is_doubtful: false,
            is_spare: false,
            busy: Duration::ZERO,
            slowest: Slowest::default(),
            ready: Instant::now(),
            beginning,
            heard: Instant::now(),
            done: 0,
            may_do: settings.max_tasks,
            retires: None,
            is_replaced: false,
            leaves_by: None,
            doomed: None,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.signaler.pid()
    }

    /// What it has done, and what it is doing; its memory is looked up elsewhere.
    pub(super) fn stats(&self) -> WorkerStats {
        let state = match self.is_idle() {
            _ if !self.is_staying() => WorkerState::Leaving,
            true if self.is_spare => WorkerState::Spare,
            true => WorkerState::Idle,
            false => WorkerState::Busy,
        };
        let Beginning { start, init } = self.beginning;
        WorkerStats {
            name: self.signaler.name().to_owned(),
            pid: self.pid(),
            state,
            tasks: self.tasks_done(),
            busy: self.busy,
            idle: self.ready.elapsed().saturating_sub(self.busy),
            start,
            init,
            memory: None,
        }
    }

    /// Why it has ended, in words.
    pub(super) fn why_it_leaves(&self, cause: &Cause) -> String {
        match (&self.doomed, cause) {
            (None, Cause::Exited { code: 0 }) => self.retires.unwrap_or(Retires::Spare).to_string(),
            (Some((_, doom)), Cause::Signaled { signal: libc::SIGKILL, .. }) => doom.to_string(),
            _ => cause.to_string(),
        }
    }

    /// How many jobs it has.
    pub(super) const fn load(&self) -> usize {
        self.placed
    }

    /// How many items they have that are not done.
    pub(super) fn unfinished(&self) -> usize {
        let placed = self.slots.iter().filter_map(|slot| slot.placed.as_ref());
        placed.map(|placed| (placed.job.count - placed.finished) as usize + placed.awaited.len()).sum()
    }

    /// Whether it may be given one more job.
    pub(super) fn has_room(&self) -> bool {
        self.is_staying()
            && !self.is_spare
            && self.leaves_by.is_none()
            && self.placed < self.depth()
            && self.may_do() > 0
    }

    /// Whether it is neither leaving nor dying.
    pub(super) const fn is_staying(&self) -> bool {
        self.link.is_some() && self.retires.is_none() && self.doomed.is_none()
    }

    /// Whether it is to leave, and has something to do before.
    pub(super) const fn does_its_last(&self) -> bool {
        self.retires.is_some() && self.link.is_some() && self.doomed.is_none() && !self.is_idle()
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.placed == 0
    }

    /// Whether it could do something at once.
    pub(super) const fn is_free(&self) -> bool {
        self.is_staying() && !self.is_spare && self.is_idle() && !self.is_doubtful
    }

    /// Whether it may yet turn out to be stopped.
    pub(super) fn may_be_held(&self, now: Instant) -> bool {
        self.placed > 0 && (now.saturating_duration_since(self.heard) < HELD || !self.has_begun())
    }

    /// How many jobs it is given at a time: those that it runs, one that waits, and as many more as it takes to keep it busy for a while.
    fn depth(&self) -> usize {
        let ahead = self.pace.map_or(1, |pace| AHEAD.as_nanos() as u64 / pace.max(1));
        self.concurrency + (ahead as usize).clamp(1, SLOTS / 2 - self.concurrency.min(SLOTS / 4))
    }

    /// Whether it has started any of the jobs that it has.
    pub(super) fn has_begun(&self) -> bool {
        self.started() > 0
    }

    /// How many of the jobs that it has it has started.
    fn started(&self) -> usize {
        let placed = self.slots.iter().enumerate().filter(|(_, slot)| slot.placed.is_some());
        placed.filter(|(index, slot)| !self.board.is_offered(*index, slot.turn)).count()
    }

    /// How many items it may be given before it is replaced.
    pub(super) fn may_do(&self) -> u64 {
        let Some(may_do) = self.may_do else { return u64::MAX };
        may_do.saturating_sub(self.done + self.unfinished() as u64)
    }

    /// Gives it a job; gives that back if there is no room for it, or with the reason why there never will be.
    pub(super) fn place(&mut self, job: Job) -> Option<(Job, Option<Cause>)> {
        let is_short = is_short(&job);
        if !self.jobs.has_room(self.board.jobs(), (SHORT / 8 + 3) as u64) {
            return Some((job, None));
        }
        let function = self.check(&job).and_then(|()| self.function(&job.which));
        let function = match function {
            Ok(function) => function,
            Err(cause) => return Some((job, Some(cause))),
        };
        let Some(slot) = self.free_slot() else { return Some((job, None)) };
        let index = usize::from(slot);
        self.slots[index].turn += 1;
        let turn = self.slots[index].turn;
        let (is_timed, is_long) = (job.timeout.is_some(), !is_short);
        let head = Head { slot, turn, function, count: job.count, is_timed, is_long };
        self.board.offer(index, turn);
        if is_long {
            self.send(Order::Job(job.packet.clone().into()), Some((slot, turn)));
        }
        let bytes = if is_long { &[][..] } else { &job.packet.bytes };
        // There is room, as was seen.
        self.jobs.push(self.board.jobs(), head.to_words(bytes.len()), bytes);
        self.has_news = true;
        if self.placed == 0 {
            self.heard = Instant::now();
        }
        job.replies.placed(job.key, Some(self.pid()));
        self.slots[index].placed = Some(Placed::new(job));
        self.order.push_back((slot, turn));
        if self.order.len() >= 2 * SLOTS {
            self.forget_what_is_gone();
        }
        self.placed += 1;
        if self.may_do() == 0 {
            self.retires.get_or_insert(Retires::Done);
        }
        None
    }

    /// Those that it no longer has go from the front otherwise: behind one that takes long they would pile up.
    fn forget_what_is_gone(&mut self) {
        let slots = &self.slots;
        self.order.retain(|(slot, turn)| {
            let Slot { turn: present, placed } = &slots[usize::from(*slot)];
            present == turn && placed.is_some()
        });
    }

    /// Whether a job is within the pool's limits. Those of a list are looked at by the worker, one by one.
    fn check(&self, job: &Job) -> Result<(), Cause> {
        let (size, limit) = (job.packet.bytes.len() as u64, self.limits.max_message);
        if job.count == 1 && size > limit {
            return Err(Cause::TooLarge { size, limit });
        }
        Ok(self.limits.check_handles(job.packet.handles.len())?)
    }

    fn free_slot(&mut self) -> Option<u16> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = u16::try_from(self.slots.len()).ok().filter(|slot| usize::from(*slot) < SLOTS)?;
        self.slots.push(Slot::default());
        Some(slot)
    }

    /// The number that it knows a function by. It is told of it first.
    fn function(&mut self, which: &Which) -> Result<u32, Cause> {
        let mut known = self.functions.iter();
        let known = known.position(|known| known.is_identical(which));
        // Names may be long, and there may be many.
        if let Some(known) = known.or_else(|| self.functions.iter().position(|known| known.is(which))) {
            return Ok(known as u32);
        }
        let function = which.function()?;
        self.functions.push(which.clone());
        self.send(Order::Function(function), None);
        if self.functions.len() >= KNOWN {
            self.retires.get_or_insert(Retires::Full);
        }
        Ok(self.functions.len() as u32 - 1)
    }

    fn send(&mut self, order: Order, of: Option<(u16, u64)>) {
        self.board.count_letter();
        self.letters.push_back(Letter { order, of });
    }

    /// Takes a job out of its slot that the worker has not started, and never will.
    fn remove(&mut self, index: usize) -> Option<Job> {
        let Slot { turn, placed } = &mut self.slots[index];
        let job = placed.take()?.job;
        let (slot, turn) = (index as u16, *turn);
        self.placed -= 1;
        self.free.push(slot);
        if !is_short(&job) {
            self.empty_letter((slot, turn));
        }
        Some(job)
    }

    /// Frees what waits to be sent of a job that was taken back. The letter itself goes: the worker counts them.
    fn empty_letter(&mut self, job: (u16, u64)) {
        if let Some(letter) = self.letters.iter_mut().rfind(|letter| letter.of == Some(job)) {
            letter.order = Order::Job(Packet::default().into());
        }
    }

    /// How its pool may sleep: lightly, if it is about to give many results.
    pub(super) fn sleep(&self) -> Sleep {
        let is_quick = || self.pace.is_some_and(|pace| pace < QUICK.as_nanos() as u64);
        let is_busy = self.placed > MANY
            || (self.placed > 0 && (is_quick() || self.slots.iter().any(Slot::has_a_list)));
        if is_busy && self.heard.elapsed() < STUCK { Sleep::Light } else { Sleep::Deep }
    }

    /// Sends the letters that wait, and wakes it if there is something for it.
    pub(super) fn notify(&mut self) {
        self.send_letters();
        // Where it does not sleep now it looks once more before it does.
        if std::mem::take(&mut self.has_news) && self.board.sleeper(Side::Worker).must_be_woken(true) {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(link) = &mut self.link {
            // Where there is no room a letter is on its way to it, and wakes it, too.
            drop(link.try_send(Order::Look));
            link.write_now();
        }
    }

    fn send_letters(&mut self) {
        let Some(link) = &mut self.link else { return };
        if self.letters.is_empty() {
            return;
        }
        while let Some(letter) = self.letters.pop_front() {
            let Letter { order, of } = letter;
            match link.try_send(order) {
                Ok(()) => {}
                Err(TrySendError::Full(order)) => {
                    self.letters.push_front(Letter { order, of });
                    break;
                }
                // It is gone, and its end will be heard of.
                Err(_closed) => self.letters.clear(),
            }
        }
        link.write_now();
        if !self.letters.is_empty() {
            self.postman.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Sends the letters that wait for room, for as long as there are any.
    pub(super) fn poll_letters(&mut self, context: &mut Context<'_>) {
        while let (Some(link), false) = (&mut self.link, self.letters.is_empty()) {
            let Poll::Ready(room) = Pin::new(&mut *link).poll_ready(context) else { return };
            if room.is_err() {
                self.letters.clear();
                return;
            }
            if let Some(letter) = self.letters.pop_front() {
                // It is gone, and its end will be heard of.
                drop(Pin::new(&mut *link).start_send(letter.order));
                link.write_now();
            }
        }
        self.postman = Some(context.waker().clone());
    }

    /// Takes back a job that it has not started, the last one first.
    pub(super) fn take_back(&mut self) -> Option<Job> {
        for at in (0..self.order.len()).rev() {
            let (slot, turn) = self.order[at];
            let place = &self.slots[usize::from(slot)];
            // What nobody waits for was told what became of it.
            let is_wanted = place.placed.as_ref().is_some_and(|placed| !placed.given_up);
            if place.turn == turn && is_wanted && self.board.withdraw(usize::from(slot), turn) {
                self.order.remove(at);
                let job = self.remove(usize::from(slot))?;
                job.replies.placed(job.key, None);
                return Some(job);
            }
        }
        None
    }

    /// Takes back all that it was given, if it has started none of that for long; the last one first.
    pub(super) fn take_back_if_held(&mut self, now: Instant) -> Vec<Job> {
        let silent = now.saturating_duration_since(self.heard);
        if self.placed == 0 || silent < HELD || self.has_begun() || silent < self.time_to_read() {
            return Vec::new();
        }
        self.is_doubtful = true;
        std::iter::from_fn(|| self.take_back()).collect()
    }

    /// How long it may take to read what it was given before it starts any of that.
    fn time_to_read(&self) -> Duration {
        let placed = self.slots.iter().filter_map(|slot| slot.placed.as_ref());
        let letters = placed.filter(|placed| !is_short(&placed.job));
        let bytes: usize = letters.map(|placed| placed.job.packet.bytes.len()).sum();
        HELD.saturating_mul(u32::try_from(1 + bytes / READ_MEANWHILE).unwrap_or(u32::MAX))
    }

    /// When it counts as full, though it has no more than it may at a time: a plain function has it for itself, and others wait behind
    /// that.
    pub(super) fn full_from(&self) -> Option<Instant> {
        if self.concurrency == 1 || self.placed < 2 {
            return None;
        }
        let started = self.started();
        let after = if started > 0 { STUCK } else { HELD };
        self.heard.checked_add(after).filter(|_| started < self.placed)
    }

    /// How many jobs it has not started, if it counts as full.
    pub(super) fn behind(&self, now: Instant) -> usize {
        let is_full = self.full_from().is_some_and(|at| at <= now);
        if is_full { self.placed - self.started().min(self.placed) } else { 0 }
    }

    /// Whether it has been busy with something long, while jobs wait behind that.
    pub(super) fn keeps_jobs_waiting(&self, now: Instant) -> bool {
        if self.behind(now) > 0 {
            return true;
        }
        let waiting = self.placed.saturating_sub(self.concurrency) as u64;
        waiting > 0
            && (now.saturating_duration_since(self.heard) >= STUCK
                || waiting.saturating_mul(self.pace.unwrap_or(0)) >= STUCK.as_nanos() as u64 / 4)
    }

    /// Whether it has a job of several items, which it could give back in part.
    pub(super) fn has_a_list(&self) -> bool {
        self.placed > 0 && self.slots.iter().filter_map(|slot| slot.placed.as_ref()).any(Placed::is_a_list)
    }

    /// Has it give back the items of a job that it has not begun, if it is busy with something long.
    pub(super) fn stop_a_list(&mut self, now: Instant) {
        if self.placed == 0 || now.saturating_duration_since(self.heard) < STUCK {
            return;
        }
        // One that it has not started is for whoever takes it back.
        let _stopped = (0..self.slots.len()).find(|index| self.stop(*index));
    }

    /// Has it begin no more items of a list; gives whether it is one that it has started.
    fn stop(&mut self, index: usize) -> bool {
        let Slot { turn, placed } = &mut self.slots[index];
        let Some(placed) = placed.as_mut().filter(|placed| placed.is_a_list()) else { return false };
        placed.stopped = self.board.stop(index, *turn);
        placed.stopped
    }
}

#[cfg(test)]
mod tests;
