//! What a worker gives back.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};

use super::{FULL, List, Member, Misbehaved, Placed};
use crate::error::Cause;
use crate::link::Report;
use crate::pool::enclosed::Enclosed;
use crate::pool::job::{Job, Post};
use crate::pool::processes::board::{Board, Side};
use crate::pool::processes::letter::Mark;
use crate::wire::Packet;

/// What a record of the ring of results says.
#[derive(Debug)]
struct Record {
    mark: Mark,
    slot: u16,
    /// Which item of the slot's job it is about.
    item: u32,
    length: usize,
    elapsed: u64,
    /// Whether it is longer than it may.
    is_too_long: bool,
}

impl Member {
    /// Takes in what it has left on the board; gives whether there was anything, and the jobs that it has given back.
    pub(in crate::pool::processes) fn collect(
        &mut self,
        post: &mut Post,
        back: &mut Vec<Job>,
    ) -> Result<bool, Misbehaved> {
        let mut list = None;
        let any = self.collect_into(&mut list, post, back);
        // Also where nonsense follows: these are done.
        list.into_iter().for_each(|list| self.post(list, 0, post));
        if let Ok(true) = any {
            self.heard = Instant::now();
            self.is_doubtful = false;
            self.results.tell(self.board.results());
            if self.board.sleeper(Side::Worker).waits_for_room() {
                self.wake();
            }
        }
        any
    }

    fn collect_into(
        &mut self,
        list: &mut Option<List>,
        post: &mut Post,
        back: &mut Vec<Job>,
    ) -> Result<bool, Misbehaved> {
        let mut any = false;
        // Of one that has broken the protocol some may be left.
        self.room.clear();
        let board = self.board.clone();
        let lived = u64::try_from(self.ready.elapsed().as_nanos()).unwrap_or(u64::MAX);
        while let Some(record) = self.next_record(&board, lived)? {
            any = true;
            let Record { mark, slot, elapsed, .. } = record;
            match mark {
                Mark::Returned => self.returned(&board, &record, list, post),
                Mark::Mailed | Mark::Stopped => self.mailed_or_stopped(&record, back)?,
            }
            let is_done = self.advance(slot, mark);
            let is_to_be_posted = is_done || mark != Mark::Returned;
            if let Some(list) = list.take_if(|_| is_to_be_posted) {
                // Another job's time it is not.
                let elapsed = if list.slot == slot { elapsed } else { 0 };
                self.post(list, elapsed, post);
            }
            self.settle(slot, post);
        }
        Ok(any)
    }

    /// The next record of a job that it has, whose body is to be taken next.
    fn next_record(&mut self, board: &Board, lived: u64) -> Result<Option<Record>, Misbehaved> {
        let head = self.results.head::<2>(board.results());
        let Some((words, length)) = head.map_err(|error| Misbehaved(error.to_string()))? else {
            return Ok(None);
        };
        let (mark, slot, elapsed) =
            Mark::from_words(words).ok_or_else(|| Misbehaved("a result that is none".into()))?;
        // It may lie, but no job takes longer than its worker has lived: sums of such times stay within their bounds.
        let elapsed = elapsed.min(lived);
        let placed = self.slots.get_mut(usize::from(slot)).and_then(|slot| slot.placed.as_mut());
        let placed = placed.filter(|placed| placed.finished < placed.job.count);
        let placed = placed.ok_or_else(|| Misbehaved("a result of a job that it does not have".into()))?;
        placed.elapsed = placed.elapsed.max(elapsed);
        let (item, limit) = (placed.finished, placed.job.limits.max_message);
        Ok(Some(Record { mark, slot, item, length, elapsed, is_too_long: length as u64 > limit }))
    }

    /// An item has returned: what it has goes to the list, which is posted before that if it is another job's, or full.
    fn returned(&mut self, board: &Board, record: &Record, list: &mut Option<List>, post: &mut Post) {
        let Record { slot, item, length, is_too_long, .. } = *record;
        let is_full = self.room.len() > FULL;
        if let Some(other) = list.take_if(|list| list.slot != slot || is_full || is_too_long) {
            self.post(other, 0, post);
        }
        if is_too_long {
            let mut body = Vec::new();
            self.results.body_into(board.results(), length, &mut body);
            return self.refuse(slot, body, post);
        }
        list.get_or_insert(List { slot, first: item, count: 0 }).count += 1;
        self.room.put_u32_le(length as u32);
        self.results.body_into(board.results(), length, &mut self.room);
    }

    /// An item is done, and a letter says how; or those that are left do not start.
    fn mailed_or_stopped(&mut self, record: &Record, back: &mut Vec<Job>) -> Result<(), Misbehaved> {
        let Some(placed) = &mut self.slots[usize::from(record.slot)].placed else { return Ok(()) };
        if record.mark == Mark::Mailed {
            placed.awaited.push(record.item);
        } else if !placed.stopped && !placed.given_up {
            return Err(Misbehaved("it stops what it was not told to".into()));
        } else {
            placed.end_before(record.item, back);
        }
        Ok(())
    }

    /// Counts an item whose place on the board has come; gives whether all have.
    fn advance(&mut self, slot: u16, mark: Mark) -> bool {
        let Some(placed) = &mut self.slots[usize::from(slot)].placed else { return false };
        placed.finished += u32::from(mark != Mark::Stopped);
        placed.finished == placed.job.count
    }

    /// Posts what items have returned.
    fn post(&mut self, list: List, elapsed: u64, post: &mut Post) {
        let List { slot, first, count } = list;
        let bytes = self.room.split().freeze();
        let placed = self.slots[usize::from(slot)].placed.as_ref().filter(|placed| !placed.given_up);
        if let Some(Placed { job, .. }) = placed {
            post.add(&job.replies, job.outcomes(first..first + count, self.pid(), bytes, elapsed));
        }
    }

    /// Posts that what an item has returned is more than it may.
    fn refuse(&self, slot: u16, body: Vec<u8>, post: &mut Post) {
        let placed = self.slots[usize::from(slot)].placed.as_ref().filter(|placed| !placed.given_up);
        if let Some(Placed { job, finished, .. }) = placed {
            let packet = Packet { bytes: Bytes::from(body), ..Packet::default() };
            post.add(&job.replies, job.outcome(*finished, Some(self.pid()), Ok(packet), 0));
        }
    }

    /// Takes in a letter about an item.
    pub(in crate::pool::processes) fn done(
        &mut self,
        slot: u16,
        item: u32,
        result: Result<Enclosed, Report>,
        post: &mut Post,
    ) -> Result<(), Misbehaved> {
        let pid = self.pid();
        let placed = self.slots.get_mut(usize::from(slot)).and_then(|slot| slot.placed.as_mut());
        let placed = placed.filter(|placed| placed.awaited.contains(&item));
        let placed = placed.ok_or_else(|| Misbehaved("a letter on a job that it does not have".into()))?;
        placed.awaited.retain(|awaited| *awaited != item);
        if !placed.given_up {
            let outcome =
                placed.job.outcome(item, Some(pid), result.map(Packet::from).map_err(Cause::from), 0);
            post.add(&placed.job.replies, outcome);
        }
        self.settle(slot, post);
        Ok(())
    }

    /// It has the handles of a job that it has started, which are then nobody else's.
    pub(in crate::pool::processes) fn took(&mut self, slot: u16, turn: u64) {
        let index = usize::from(slot);
        let of_this_turn = self.slots.get_mut(index).filter(|place| place.turn == turn);
        let Some(placed) = of_this_turn.and_then(|place| place.placed.as_mut()) else { return };
        if !self.board.is_offered(index, turn) {
            placed.job.packet.handles = Vec::new();
            placed.job.retries = 0;
        }
    }

    /// Frees a slot whose job is done.
    fn settle(&mut self, slot: u16, post: &mut Post) {
        let place = &mut self.slots[usize::from(slot)];
        let Some(placed) = place.placed.take_if(|placed| placed.is_done()) else { return };
        self.placed -= 1;
        self.free.push(slot);
        self.done += u64::from(placed.finished);
        let elapsed = placed.elapsed;
        if elapsed > 0 && placed.finished > 0 {
            let pace = elapsed / u64::from(placed.finished);
            self.busy = self.busy.saturating_add(Duration::from_nanos(elapsed));
            let (job, took) = (&placed.job, Duration::from_nanos(pace));
            self.slowest.see(job.name(), job.number(), took, self.signaler.pid());
            self.pace = Some(self.pace.map_or(pace, |before| (3 * before + pace) / 4));
        }
        while let Some((slot, turn)) = self.order.front() {
            let slot = &self.slots[usize::from(*slot)];
            if slot.placed.is_some() && slot.turn == *turn {
                break;
            }
            self.order.pop_front();
        }
        if placed.given_up {
            post.forget(placed.job);
        }
    }

    /// How many tasks it has done, those of a list that is under way among them.
    pub(in crate::pool::processes) fn tasks_done(&self) -> u64 {
        let placed = self.slots.iter().filter_map(|slot| slot.placed.as_ref());
        let of_lists =
            placed.map(|placed| u64::from(placed.finished).saturating_sub(placed.awaited.len() as u64));
        self.done + of_lists.sum::<u64>()
    }
}
