//! What is to run, encoded, and who hears what came of it.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::which::Which;
use crate::error::Cause;
use crate::wire::{Limits, Packet};

/// One function, with one list of arguments or with several: its *items*.
pub(super) struct Job {
    pub(super) which: Which,
    /// If it is not called after its function.
    pub(super) name: Option<Arc<str>>,
    /// Of one item its arguments; of several, each after its length, and no handles.
    pub(super) packet: Packet,
    pub(super) count: u32,
    /// What the first item is called by those who hear of it; the next ones count from there.
    pub(super) key: u64,
    /// How long each item may run.
    pub(super) timeout: Option<Duration>,
    /// The limits on each item's result.
    pub(super) limits: Limits,
    /// How often an item that is lost with its worker is yet to be tried again.
    pub(super) retries: u32,
    /// How many workers have ended while they ran it, and nothing else; of one item.
    pub(super) deaths: u32,
    /// Whether what of it has not started never is to.
    pub(super) is_cancelled: bool,
    pub(super) replies: Arc<dyn Replies>,
}

/// Who hears what came of jobs.
pub(super) trait Replies: Send + Sync {
    /// Takes what came of some items. Called without any lock of the pool's.
    fn deliver(&self, outcomes: Vec<Outcome>);

    /// An item was handed to a worker, or taken back from it.
    fn placed(&self, key: u64, pid: Option<u32>);

    /// Whether keys are the numbers of items.
    fn has_numbers(&self) -> bool {
        false
    }
}

/// What came of an item, or what several in a row have returned.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Of the first.
    pub(super) key: u64,
    /// Of several, each result stands in the packet after its length.
    pub(super) count: u32,
    /// Of the worker that ran it, if one did.
    pub(super) pid: Option<u32>,
    pub(super) result: Result<Packet, Cause>,
    /// The function that it was, and its name if it has another one.
    pub(super) which: Which,
    pub(super) name: Option<Arc<str>>,
    /// Of the last item of a job, how long each of them took, in nanoseconds; else zero.
    pub(super) pace: u64,
}

impl Outcome {
    /// Each item's own.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        let Self { key, count, pid, result, which, name, pace } = self;
        let (mut list, mut only) = match result {
            Ok(packet) if count > 1 => (packet.bytes, None),
            only => (Bytes::new(), Some(only)),
        };
        (0..count).map(move |item| {
            let result = only.take().unwrap_or_else(|| {
                // It was put together here.
                let length = list.get_u32_le() as usize;
                Ok(Packet { bytes: list.split_to(length), ..Packet::default() })
            });
            let pace = if item + 1 == count { pace } else { 0 };
            let (which, name) = (which.clone(), name.clone());
            Self { key: key + u64::from(item), count: 1, pid, result, which, name, pace }
        })
    }
}

/// How many workers an item may end before it counts as poisonous.
const POISONOUS: u32 = 3;

impl Job {
    /// One of one item that nobody has lost yet, to be tried once, for as long as it takes.
    pub(super) fn new(which: Which, packet: Packet, limits: Limits, replies: Arc<dyn Replies>) -> Self {
        Self {
            which,
            name: None,
            packet,
            count: 1,
            key: 0,
            timeout: None,
            limits,
            retries: 0,
            deaths: 0,
            is_cancelled: false,
            replies,
        }
    }

    /// The arguments of one item in a list of several.
    pub(super) fn append(list: &mut BytesMut, arguments: &[u8]) {
        // The sender has checked that they are within a message.
        list.put_u32_le(arguments.len() as u32);
        list.put_slice(arguments);
    }

    fn like(&self, count: u32, skipped: u32, packet: Packet) -> Self {
        Self {
            which: self.which.clone(),
            name: self.name.clone(),
            packet,
            count,
            key: self.key + u64::from(skipped),
            timeout: self.timeout,
            limits: self.limits,
            retries: self.retries,
            deaths: self.deaths,
            is_cancelled: self.is_cancelled,
            replies: Arc::clone(&self.replies),
        }
    }

    /// The items from one on, up to another.
    pub(super) fn part(&self, from: u32, to: u32) -> Option<Self> {
        if from >= to || to > self.count {
            return None;
        }
        if self.count == 1 {
            return Some(self.like(1, 0, self.packet.clone()));
        }
        let mut bytes = self.packet.bytes.clone();
        let skip = |bytes: &mut Bytes, items| {
            (0..items).for_each(|_| {
                let length = bytes.get_u32_le() as usize;
                bytes.advance(length);
            });
        };
        skip(&mut bytes, from);
        let mut rest = bytes.clone();
        skip(&mut rest, to - from);
        bytes.truncate(bytes.len() - rest.len());
        if to - from == 1 {
            bytes.advance(size_of::<u32>());
        }
        Some(self.like(to - from, from, Packet { bytes, ..Packet::default() }))
    }

    /// What came of one of its items.
    pub(super) fn outcome(
        &self,
        item: u32,
        pid: Option<u32>,
        result: Result<Packet, Cause>,
        elapsed: u64,
    ) -> Outcome {
        let (limit, key) = (self.limits.max_message, self.key + u64::from(item));
        let result = result.and_then(|packet| match packet.bytes.len() as u64 {
            size if size > limit => Err(Cause::TooLarge { size, limit }),
            _ => Ok(packet),
        });
        let (which, name, pace) = (self.which.clone(), self.name.clone(), elapsed / u64::from(item + 1));
        Outcome { key, count: 1, pid, result, which, name, pace }
    }

    /// What several of its items have returned: a list of results.
    pub(super) fn outcomes(&self, items: Range<u32>, pid: u32, mut bytes: Bytes, elapsed: u64) -> Outcome {
        let count = items.end - items.start;
        if count == 1 {
            bytes.advance(size_of::<u32>());
        }
        let result = Ok(Packet { bytes, ..Packet::default() });
        let (key, pace) = (self.key + u64::from(items.start), elapsed / u64::from(items.end));
        let (which, name) = (self.which.clone(), self.name.clone());
        Outcome { key, count, pid: Some(pid), result, which, name, pace }
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.which.name())
    }

    /// The number of its item, if it is one of a map's.
    pub(super) fn number(&self) -> Option<u64> {
        (self.count == 1 && self.replies.has_numbers()).then_some(self.key)
    }

    /// What becomes of an item that was lost with its worker: it is tried again, or this is what came of it. Where the worker had started others
    /// beside it, nobody knows whose death it was.
    pub(super) fn lost(
        &self,
        item: u32,
        pid: u32,
        was_alone: bool,
        cause: Cause,
    ) -> Result<Self, Box<Outcome>> {
        let deaths = self.deaths + u32::from(was_alone);
        let is_final = self.is_cancelled || !self.packet.handles.is_empty();
        let cause = match self.retries.checked_sub(1) {
            _ if is_final => cause,
            _ if deaths >= POISONOUS => Cause::Poisoned { deaths, last: cause.to_string() },
            None => cause,
            Some(retries) => match self.part(item, item + 1) {
                Some(job) => return Ok(Self { deaths, retries, ..job }),
                None => cause,
            },
        };
        Err(Box::new(self.outcome(item, Some(pid), Err(cause), 0)))
    }

    /// The same for all of its items.
    pub(super) fn fail_all(&self, cause: &Cause, post: &mut Post) {
        (0..self.count)
            .for_each(|item| post.add(&self.replies, self.outcome(item, None, Err(cause.clone()), 0)));
    }

    /// Whether it is of those that somebody gives up: one of its items, or all of that somebody's.
    pub(super) fn is_of(&self, whose: &Arc<dyn Replies>, key: Option<u64>) -> bool {
        Arc::ptr_eq(&self.replies, whose) && key.is_none_or(|key| key == self.key)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { which, count, key, deaths, .. } = self;
        f.debug_struct("Job")
            .field("which", which)
            .field("count", count)
            .field("key", key)
            .field("deaths", deaths)
            .finish_non_exhaustive()
    }
}

/// Outcomes on their way to those who wait for them: gathered while a lock is held, and delivered after that, because whoever
/// hears of them may call anything.
#[derive(Default)]
pub(super) struct Post {
    outcomes: Vec<(Arc<dyn Replies>, Vec<Outcome>)>,
    /// Jobs of which nobody hears. With them may go a waker, which is somebody else's code, too.
    forgotten: Vec<Job>,
}

impl Post {
    pub(super) fn add(&mut self, replies: &Arc<dyn Replies>, outcome: Outcome) {
        match self.outcomes.last_mut() {
            Some((last, outcomes)) if Arc::ptr_eq(last, replies) => outcomes.push(outcome),
            _ => self.outcomes.push((Arc::clone(replies), vec![outcome])),
        }
    }

    /// Drops a job when the rest is delivered.
    pub(super) fn forget(&mut self, job: Job) {
        self.forgotten.push(job);
    }

    pub(super) fn deliver(self) {
        for (replies, outcomes) in self.outcomes {
            // Who hears of them may panic: that is not to be the end of who tells the others.
            if catch_unwind(AssertUnwindSafe(|| replies.deliver(outcomes))).is_err() {
                tracing::error!("a waker panicked that was told of a task of a pool");
            }
        }
    }
}

/// Who waits in a test, and what has come.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Waits(pub(super) std::sync::Mutex<Vec<Outcome>>);

#[cfg(test)]
impl Replies for Waits {
    fn deliver(&self, outcomes: Vec<Outcome>) {
        self.0.lock().unwrap().extend(outcomes);
    }

    fn placed(&self, _: u64, _: Option<u32>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[procession_macros::process(crate = crate)]
    async fn nothing() {}

    fn job(items: &[&[u8]]) -> Job {
        let mut list = BytesMut::new();
        items.iter().for_each(|item| Job::append(&mut list, item));
        let which = Which::Ours(nothing().into_plan().entry);
        let packet = Packet { bytes: list.freeze(), ..Packet::default() };
        let job = Job::new(which, packet, Limits::DEFAULT, Arc::<Waits>::default());
        Job { count: items.len() as u32, key: 100, retries: 2, ..job }
    }

    #[test]
    fn parts_of_a_job_have_their_own_items() {
        let job = job(&[b"a", b"", b"ccc", b"dd"]);
        let part = job.part(1, 4).unwrap();
        assert_eq!((part.count, part.key), (3, 101));
        assert_eq!(part.part(1, 2).unwrap().packet.bytes, &b"ccc"[..]);
        assert_eq!(part.part(0, 1).unwrap().packet.bytes, &b""[..]);
        let last = part.part(2, 3).unwrap();
        assert_eq!((last.count, last.key, &last.packet.bytes[..]), (1, 103, &b"dd"[..]));
        assert!(last.part(0, 1).is_some() && last.part(1, 1).is_none() && job.part(3, 5).is_none());
    }

    #[test]
    fn an_item_is_tried_again_until_it_is_poisonous() {
        let lost = |retries, deaths, was_alone| {
            let job = Job { retries, deaths, ..job(&[b"a", b"b"]) };
            job.lost(1, 7, was_alone, Cause::StackOverflow)
        };
        for (retries, deaths, was_alone) in
            [(1, 0, true), (2, 1, true), (9, 1, true), (9, 2, false), (1, 2, false)]
        {
            let again = lost(retries, deaths, was_alone).unwrap();
            assert_eq!((again.retries, again.deaths), (retries - 1, deaths + u32::from(was_alone)));
            assert_eq!((again.key, &again.packet.bytes[..]), (101, &b"b"[..]));
        }
        for (retries, deaths, was_alone) in [(0, 0, true), (0, 1, true), (0, 2, false)] {
            let outcome = lost(retries, deaths, was_alone).unwrap_err();
            assert!(matches!((outcome.key, &outcome.result), (101, Err(Cause::StackOverflow))));
        }
        for (retries, deaths) in [(0, 2), (9, 2)] {
            let outcome = lost(retries, deaths, true).unwrap_err();
            assert!(matches!(outcome.result, Err(Cause::Poisoned { deaths: 3, .. })));
        }
    }
}
