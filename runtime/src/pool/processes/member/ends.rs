//! How what a worker has ends before it is done: it is given up, or late, or the worker is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{GRACE, HUNG_UP, LEAVE, Member, Misbehaved, Placed, Retires, STUCK, Slot, hung_up};
use crate::error::Cause;
use crate::pool::job::{Job, Post, Replies};
use crate::pool::processes::board;
use crate::pool::processes::letter::Order;

impl Member {
    /// Tells it to leave: it has nothing to do.
    pub(in crate::pool::processes) fn dismiss(&mut self) {
        if self.link.take().is_some() {
            self.is_to_end_in(LEAVE, Cause::TimedOut { after: LEAVE });
        }
    }

    /// Whether it has ended, or is about to, because it was told to.
    pub(in crate::pool::processes) const fn was_let_go(&self) -> bool {
        self.retires.is_some() || self.link.is_none()
    }

    /// It has become too heavy, and does no more than it has started; gives back the rest. One that has done nothing as yet does
    /// something first: the next would be as heavy.
    pub(in crate::pool::processes) fn retire(&mut self) -> Vec<Job> {
        if self.retires.is_some() || self.tasks_done() == 0 {
            return Vec::new();
        }
        self.retires = Some(Retires::Heavy);
        (0..self.slots.len()).for_each(|index| _ = self.stop(index));
        let mut back: Vec<_> = std::iter::from_fn(|| self.take_back()).collect();
        back.reverse();
        back
    }

    /// It has closed its link: it is about to end, or will never say anything again.
    pub(in crate::pool::processes) fn hung_up(&mut self) {
        if self.link.is_some() {
            self.is_to_end_in(HUNG_UP, Cause::BadMessage { reason: hung_up() });
        }
    }

    fn is_to_end_in(&mut self, time: Duration, cause: Cause) {
        self.leaves_by = Instant::now().checked_add(time).map(|at| (at, cause));
    }

    /// Kills it if it should have ended by now; else gives when to look again.
    pub(in crate::pool::processes) fn check_leaving(&mut self, now: Instant) -> Option<Instant> {
        let (at, _) = self.leaves_by.as_ref().filter(|_| self.doomed.is_none())?;
        if *at > now {
            return Some(*at);
        }
        let (_, cause) = self.leaves_by.take()?;
        self.kill(None, cause);
        None
    }

    /// Gives up jobs that it has: those that it has not started are as if they had never been here.
    pub(in crate::pool::processes) fn give_up(&mut self, whose: &Arc<dyn Replies>, key: Option<u64>) {
        for index in 0..self.slots.len() {
            let Slot { turn, placed } = &mut self.slots[index];
            let (turn, Some(placed)) = (*turn, placed.as_mut()) else { continue };
            if placed.given_up || !placed.job.is_of(whose, key) {
                continue;
            }
            if self.board.withdraw(index, turn) {
                drop(self.remove(index));
                continue;
            }
            placed.given_up = true;
            placed.ends_by = Instant::now().checked_add(GRACE);
            self.board.stop(index, turn);
            if self.concurrency > 1 {
                self.send(Order::GiveUp { slot: index as u16, turn }, None);
            }
        }
        self.notify();
    }

    /// Cancels what it has not started of some jobs. It begins no more items of a list that it has started, and gives those back.
    pub(in crate::pool::processes) fn cancel_pending(
        &mut self,
        is_meant: &dyn Fn(&Job) -> bool,
        post: &mut Post,
    ) {
        for index in 0..self.slots.len() {
            let Slot { turn, placed } = &mut self.slots[index];
            let is_meant = |placed: &&mut Placed| !placed.given_up && is_meant(&placed.job);
            let Some(placed) = placed.as_mut().filter(is_meant) else { continue };
            placed.job.is_cancelled = true;
            if !self.board.withdraw(index, *turn) {
                self.stop(index);
            } else if let Some(job) = self.remove(index) {
                job.replies.placed(job.key, None);
                job.fail_all(&Cause::Cancelled, post);
            }
        }
    }

    /// Gives up whatever it has; what it has not started is given back.
    pub(in crate::pool::processes) fn give_up_all(&mut self, cause: &Cause, post: &mut Post) {
        for slot in &mut self.slots {
            if let Some(placed) = slot.placed.as_mut().filter(|placed| !placed.given_up) {
                placed.given_up = true;
                let items = placed.finished..placed.job.count;
                for item in items.chain(placed.awaited.drain(..)) {
                    let outcome = placed.job.outcome(item, None, Err(cause.clone()), 0);
                    post.add(&placed.job.replies, outcome);
                }
            }
        }
    }

    /// Kills it for the sake of a job, if of one.
    pub(in crate::pool::processes) fn kill(&mut self, slot: Option<u16>, cause: Cause) {
        if self.doomed.is_none() {
            self.doomed = Some((slot, cause));
        }
        // An error means that it now belongs to another user.
        drop(self.signaler.kill());
    }

    /// Kills it if one of its items has run for longer than it may, or if it has been at something for too long that nobody waits for;
    /// else gives when to look again. Gives back, before it kills, what it has not started.
    pub(in crate::pool::processes) fn check_times(
        &mut self,
        now: Instant,
        post: &mut Post,
        back: &mut Vec<Job>,
    ) -> Option<Instant> {
        let late = match self.overdue(now) {
            _ if self.doomed.is_some() => return None,
            Ok(next) => return next,
            Err((late, _)) => late,
        };
        // From here on it starts nothing more, and what it has done by now was in time: nobody else's item is under way when it is killed.
        let mut taken: Vec<_> = std::iter::from_fn(|| self.take_back()).collect();
        taken.reverse();
        back.extend(taken);
        if let Some(slot) = late {
            self.stop(usize::from(slot));
        }
        if let Err(Misbehaved(reason)) = self.collect(post, back) {
            self.kill(None, Cause::BadMessage { reason });
            return None;
        }
        match self.overdue(now) {
            Ok(next) => next,
            Err((late, cause)) => {
                self.kill(late, cause);
                None
            }
        }
    }

    /// When to look at its times again; or what it is to be killed for, and for whose sake.
    fn overdue(&mut self, now: Instant) -> Result<Option<Instant>, (Option<u16>, Cause)> {
        let left = match self.late() {
            Err((slot, after)) => return Err((Some(slot), Cause::TimedOut { after })),
            Ok(left) => left.and_then(|left| now.checked_add(left)),
        };
        match self.first_to_end() {
            Some((at, slot)) if at <= now => Err((Some(slot), Cause::Cancelled)),
            first => Ok(left.into_iter().chain(first.map(|(at, _)| at)).min()),
        }
    }

    /// Which of the jobs that nobody waits for is to be done first, and by when.
    fn first_to_end(&self) -> Option<(Instant, u16)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| Some((slot.placed.as_ref()?.ends_by?, index as u16))).min()
    }

    /// How long it is until one of its items may be late; or which one is, and how long it may take.
    fn late(&mut self) -> Result<Option<Duration>, (u16, Duration)> {
        let (now, mut next) = (board::now(), None::<u64>);
        for (index, Slot { turn, placed }) in self.slots.iter_mut().enumerate() {
            let Some(placed) = placed else { continue };
            let Some(after) = placed.job.timeout else { continue };
            let limit = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            let left = if placed.seen.is_none() && self.board.is_offered(index, *turn) {
                // However short it is: it has not begun.
                limit.max(STUCK.as_nanos() as u64)
            } else {
                let (item, since) = self.board.begun(index);
                let first_seen = placed.see(item, now);
                // A worker may lie, but not for longer than twice the limit.
                limit.saturating_sub(now.saturating_sub(since.min(first_seen)))
            };
            if left == 0 {
                return Err((index as u16, after));
            }
            next = Some(next.map_or(left, |next| next.min(left)));
        }
        Ok(next.map(Duration::from_nanos))
    }

    /// It has ended: what it had started is lost, or tried again; what it had not is as if it had never been here.
    pub(in crate::pool::processes) fn bury(mut self, cause: Cause, post: &mut Post) -> Vec<Job> {
        let mut again = Vec::new();
        let (pid, was_alone) = (self.pid(), self.concurrency == 1 || self.started() == 1);
        let order = std::mem::take(&mut self.order);
        for (slot, turn) in order {
            let place = &mut self.slots[usize::from(slot)];
            if place.turn != turn {
                continue;
            }
            let Some(placed) = place.placed.take() else { continue };
            placed.job.replies.placed(placed.job.key, None);
            if placed.given_up {
                post.forget(placed.job);
                continue;
            }
            if self.board.is_offered(usize::from(slot), turn) {
                again.push(placed.job);
                continue;
            }
            let cause = self.cause_for(slot, &cause);
            let Placed { job, finished, awaited, .. } = placed;
            // Its first item began before it was started.
            let begun = self.board.begun(usize::from(slot)).0.max(1);
            let in_hand = (begun > u64::from(finished) && finished < job.count).then_some(finished);
            for item in awaited.into_iter().chain(in_hand) {
                match job.lost(item, pid, was_alone, cause.clone()) {
                    Ok(job) => again.push(job),
                    Err(outcome) => post.add(&job.replies, *outcome),
                }
            }
            again.extend(job.part(in_hand.map_or(finished, |item| item + 1), job.count));
        }
        again
    }

    /// What a job is told: what the worker was killed for, if that is what ended it, and if it was for this job.
    fn cause_for(&self, slot: u16, ended: &Cause) -> Cause {
        let was_killed = matches!(ended, Cause::Signaled { signal: libc::SIGKILL, .. });
        match &self.doomed {
            Some((doomed, cause)) if was_killed && doomed.is_none_or(|doomed| doomed == slot) => {
                cause.clone()
            }
            Some((_, cause @ Cause::BadMessage { .. })) => cause.clone(),
            _ => ended.clone(),
        }
    }
}
