//! Calls, on their way to be jobs.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use super::inbox::Inbox;
use super::job::{Job, Outcome, Replies};
use super::one::single;
use super::which::Which;
use crate::call::{Call, Reading};
use crate::entry::Entry;
use crate::error::Cause;
use crate::plan::Plan;
use crate::wire::{Limits, Packet};

/// How many bytes the arguments of one job have before it takes no more items.
pub(super) const ENOUGH: usize = 32 << 10;

/// How much memory is taken at a time for the arguments of short jobs.
const ROOM: usize = 4 << 10;

/// The jobs that a map is about to submit.
pub(super) struct Draft<T> {
    inbox: Arc<Inbox>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    /// How the results are read, once there was a call.
    pub(super) read: Option<(Reading<T>, Limits)>,
    /// How many items a job may have.
    pub(super) chunk: usize,
    /// What the next item is called.
    pub(super) next: u64,
    list: Option<List>,
    /// The arguments of the list.
    room: BytesMut,
    jobs: Vec<Job>,
    /// What came of calls that cannot be sent.
    pub(super) failed: Vec<Outcome>,
}

/// Items of one job.
struct List {
    entry: &'static Entry,
    timeout: Option<Duration>,
    limits: Limits,
    count: u32,
    key: u64,
}

impl<T> Draft<T> {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            timeout: None,
            retries: 0,
            read: None,
            chunk: 1,
            next: 0,
            list: None,
            room: BytesMut::with_capacity(ROOM),
            jobs: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Adds a call.
    pub(super) fn add(&mut self, call: Call<T>) {
        let key = self.next;
        self.next += 1;
        let (plan, read) = call.parts();
        self.read = Some((read, plan.limits));
        if self.append(plan, key) {
            return;
        }
        self.finish();
        let mut plan = call.into_plan();
        plan.timeout = plan.timeout.or(self.timeout);
        let replies: Arc<dyn Replies> = Arc::clone(&self.inbox) as _;
        match single(&mut plan, key, self.retries, replies) {
            Ok(job) => self.jobs.push(job),
            Err(cause) => self.fail(key, &plan, cause),
        }
    }

    /// Records what came of an item that nobody runs.
    fn fail(&mut self, key: u64, plan: &Plan, cause: Cause) {
        self.failed.push(Outcome {
            key,
            count: 1,
            pid: None,
            result: Err(cause),
            which: Which::Ours(plan.entry),
            name: plan.name.as_deref().map(Arc::from),
            pace: 0,
        });
    }

    /// Adds a call to a list, if it is one that can stand in a list.
    fn append(&mut self, plan: &Plan, key: u64) -> bool {
        let Ok(arguments) = &plan.arguments else { return false };
        let bytes = arguments.bytes();
        let is_plain = arguments.handles().is_empty()
            && bytes.len() < ENOUGH
            && bytes.len() as u64 <= plan.limits.max_message
            && plan.name.is_none()
            && plan.check_that_it_is_a_task().is_ok();
        if !is_plain {
            return false;
        }
        let timeout = plan.timeout.or(self.timeout);
        let belongs = |list: &List| {
            std::ptr::eq(list.entry, plan.entry) && list.timeout == timeout && list.limits == plan.limits
        };
        if !self.list.as_ref().is_some_and(belongs) {
            self.finish();
        }
        let list =
            self.list.get_or_insert(List { entry: plan.entry, timeout, limits: plan.limits, count: 0, key });
        Job::append(&mut self.room, bytes);
        list.count += 1;
        if list.count as usize >= self.chunk || self.room.len() >= ENOUGH {
            self.finish();
        }
        true
    }

    /// Makes a job of the list, and takes no more items into it.
    fn finish(&mut self) {
        let Some(List { entry, timeout, limits, count, key }) = self.list.take() else { return };
        let mut bytes = self.room.split().freeze();
        if count == 1 {
            bytes.advance(size_of::<u32>());
        }
        let packet = Packet { bytes, ..Packet::default() };
        let job = Job::new(Which::Ours(entry), packet, limits, Arc::clone(&self.inbox) as _);
        self.jobs.push(Job { count, key, timeout, retries: self.retries, ..job });
    }

    /// The jobs that were made.
    pub(super) fn take(&mut self) -> Vec<Job> {
        self.finish();
        std::mem::take(&mut self.jobs)
    }
}
