//! Where a worker gets its jobs and leaves its results: its side of the board and the link.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use super::board::{Board, SHORT, Side, Sleep};
use super::letter::{Answer, Head, Mark, Order};
use super::ring::{Reader, Writer, words_of};
use crate::entry::Entry;
use crate::link::Report;
use crate::pipe::{Receiver, SendError, Sender};
use crate::pool::enclosed::Enclosed;
use crate::pool::which::Function;
use crate::sys;
use crate::wire::{Limits, Packet};

/// How many results wait at most for the pool to look by itself.
const GATHERED: u32 = 512;

/// The pool is gone, or wants no more of this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What a worker is given when it starts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lot {
    pub(super) board: Board,
    pub(super) orders: Receiver<Order>,
    pub(super) answers: Sender<Answer>,
    pub(super) limits: Limits,
    pub(super) concurrency: usize,
}

/// A worker's side of the board and the link.
#[derive(Debug)]
pub(super) struct Desk {
    board: Board,
    orders: Receiver<Order>,
    answers: Sender<Answer>,
    jobs: Reader,
    results: Writer,
    /// `None` where what was told is none of this program's.
    functions: Vec<Option<&'static Entry>>,
    /// Letters that were read, and those of them that belong to jobs.
    read: u64,
    long: VecDeque<Enclosed>,
    /// Jobs that are to be given up.
    given_up: Vec<(u16, u64)>,
    gathered: u32,
    forks: u64,
}

/// A job that this worker has started.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) slot: u16,
    pub(super) turn: u64,
    pub(super) entry: &'static Entry,
    pub(super) is_timed: bool,
    /// How many items have begun, of how many.
    begun: u32,
    count: u32,
    bytes: Bytes,
    handles: Vec<Arc<OwnedFd>>,
}

impl Job {
    pub(super) const fn item(&self) -> u32 {
        self.begun - 1
    }

    pub(super) const fn is_done(&self) -> bool {
        self.begun == self.count
    }

    /// The arguments of the item that has begun. What a pool says is trusted: its length is as it says.
    pub(super) fn arguments(&mut self) -> Packet {
        let bytes = if self.count == 1 {
            std::mem::take(&mut self.bytes)
        } else {
            let length = self.bytes.get_u32_le() as usize;
            self.bytes.split_to(length)
        };
        Packet { bytes, handles: std::mem::take(&mut self.handles) }
    }
}

impl Desk {
    pub(super) fn new(lot: Lot) -> Self {
        let Lot { board, orders, answers, .. } = lot;
        Self {
            board,
            orders,
            answers,
            jobs: Reader::default(),
            results: Writer::default(),
            functions: Vec::new(),
            read: 0,
            long: VecDeque::new(),
            given_up: Vec::new(),
            gathered: 0,
            forks: sys::forks(),
        }
    }

    /// Whether this process is the worker, and not a copy that a task has made by `fork`, which must not speak for it.
    pub(super) fn is_ours(&self) -> bool {
        sys::forks() == self.forks
    }

    /// The next job, if there is one: it has started, and so has its first item.
    pub(super) fn try_next(&mut self) -> Result<Option<Job>, Gone> {
        loop {
            while self.board.mailed() != self.read {
                self.hear_blocking()?;
            }
            let Some((head, bytes)) = self.next_on_board()? else { return Ok(None) };
            let mut packet = Packet { bytes, ..Packet::default() };
            if head.is_long {
                packet = loop {
                    match self.long.pop_front() {
                        Some(packet) => break packet.into(),
                        None => self.hear_blocking()?,
                    }
                };
            }
            if let Some(job) = self.start(head, packet)? {
                return Ok(Some(job));
            }
        }
    }

    fn next_on_board(&mut self) -> Result<Option<(Head, Bytes)>, Gone> {
        let ring = self.board.jobs();
        let Some((head, length)) = self.jobs.head::<3>(ring).map_err(|_broken| Gone)? else {
            return Ok(None);
        };
        let mut body = Vec::with_capacity(length.next_multiple_of(8));
        self.jobs.body_into(ring, length, &mut body);
        self.jobs.tell(ring);
        Ok(Some((Head::from_words(head), body.into())))
    }

    /// Starts a job, unless it was taken back. A function that it names was told before it.
    fn start(&mut self, head: Head, packet: Packet) -> Result<Option<Job>, Gone> {
        let Head { slot, turn, function, count, is_timed, .. } = head;
        while self.functions.len() <= function as usize {
            self.hear_blocking()?;
        }
        self.board.begin(usize::from(slot), 1, is_timed);
        if !self.board.start(usize::from(slot), turn) {
            return Ok(None);
        }
        let Packet { bytes, handles } = packet;
        if !handles.is_empty() {
            self.say(Answer::Took { slot, turn });
        }
        let Some(entry) = self.functions[function as usize] else {
            self.refuse(head);
            return Ok(None);
        };
        Ok(Some(Job { slot, turn, entry, is_timed, begun: 1, count, bytes, handles }))
    }

    /// Tells that a job that was started is of a function that is none.
    fn refuse(&mut self, Head { slot, count, is_timed, .. }: Head) {
        for item in 0..count {
            self.board.begin(usize::from(slot), item + 1, is_timed);
            let reason = "there is no such function in the worker".into();
            self.put(slot, item, Err(Report::Refused { reason }), 0);
        }
    }

    /// Begins the next item of a job, unless it was stopped, of which the pool then hears.
    pub(super) fn begin_next(&mut self, job: &mut Job) -> bool {
        let slot = usize::from(job.slot);
        if self.board.is_stopped(slot, job.turn) {
            self.put_record(Mark::Stopped, job.slot, 0, &[]);
            return false;
        }
        job.begun += 1;
        self.board.begin(slot, job.begun, job.is_timed);
        true
    }

    /// Waits until there may be something to do.
    pub(super) async fn wait(&mut self) -> Result<(), Gone> {
        self.wake_pool(true);
        self.board.sleeper(Side::Worker).sleep(Sleep::Deep);
        if !self.jobs.is_empty(self.board.jobs()) || self.board.mailed() != self.read {
            self.board.sleeper(Side::Worker).awake();
            return Ok(());
        }
        self.hear().await
    }

    /// Waits for a letter: there is no hand free for a job.
    pub(super) async fn wait_for_letter(&mut self) -> Result<(), Gone> {
        self.wake_pool(true);
        self.board.sleeper(Side::Worker).sleep(Sleep::Deep);
        self.hear().await
    }

    /// Hears the next letter.
    async fn hear(&mut self) -> Result<(), Gone> {
        let order = self.orders.recv().await;
        self.board.sleeper(Side::Worker).awake();
        self.take(order.map_err(|_broken| Gone)?.ok_or(Gone)?);
        Ok(())
    }

    /// The same, blocking: it is on its way, or this worker has nothing else to do.
    fn hear_blocking(&mut self) -> Result<(), Gone> {
        let order = self.orders.blocking_recv();
        self.board.sleeper(Side::Worker).awake();
        self.take(order.map_err(|_broken| Gone)?.ok_or(Gone)?);
        Ok(())
    }

    fn take(&mut self, order: Order) {
        // What says no more than that there is something to see was not counted.
        self.read += u64::from(!matches!(order, Order::Look));
        match order {
            Order::Look => {}
            // One that comes from a process that uses this pool may be anything.
            Order::Function(function) => self.functions.push(function.find()),
            Order::Job(job) => self.long.push_back(job),
            Order::GiveUp { slot, turn } => self.given_up.push((slot, turn)),
        }
    }

    /// The jobs that are to be given up.
    pub(super) fn given_up(&mut self) -> Vec<(u16, u64)> {
        std::mem::take(&mut self.given_up)
    }

    /// Tells what has become of an item that has begun, and how long its job has taken so far, in nanoseconds.
    pub(super) fn put(&mut self, slot: u16, item: u32, result: Result<Packet, Report>, elapsed: u64) {
        match result {
            Ok(packet) if packet.handles.is_empty() && packet.bytes.len() <= SHORT => {
                self.put_record(Mark::Returned, slot, elapsed, &packet.bytes);
            }
            result => {
                // First its place, so that the pool always knows of it when the letter comes.
                self.put_record(Mark::Mailed, slot, elapsed, &[]);
                self.say(Answer::Done { slot, item, result: result.map(Into::into) });
            }
        }
    }

    fn put_record(&mut self, mark: Mark, slot: u16, elapsed: u64, body: &[u8]) {
        let head = mark.to_words(slot, body.len(), elapsed);
        while !self.results.push(self.board.results(), head, body) {
            if self.wait_for_room(words_of(head.len(), body.len())).is_err() {
                // The pool is gone, and so will this process be.
                return;
            }
        }
        self.gathered += 1;
        let is_much = self.gathered >= GATHERED || self.results.is_half_full(self.board.results());
        self.wake_pool(is_much);
    }

    /// Waits until the pool has read results; it wakes a worker that sleeps when it has.
    fn wait_for_room(&mut self, words: u64) -> Result<(), Gone> {
        self.wake_pool(true);
        self.board.sleeper(Side::Worker).sleep(Sleep::Full);
        if self.results.has_room(self.board.results(), words) {
            self.board.sleeper(Side::Worker).awake();
            return Ok(());
        }
        self.hear_blocking()
    }

    fn wake_pool(&mut self, for_much: bool) {
        if self.board.sleeper(Side::Pool).must_be_woken(for_much) {
            self.gathered = 0;
            self.say(Answer::Look);
        }
    }

    /// Sends a letter, at once.
    pub(super) fn say(&mut self, answer: Answer) {
        if let Err(SendError::Encode(answer, error)) = self.answers.blocking_send(answer) {
            // Nothing is as long as that but the words of an error.
            let reason = format!("what became of it cannot be told: {error}");
            let result = Err(Report::Refused { reason });
            if let Answer::Done { slot, item, .. } = answer {
                drop(self.answers.blocking_send(Answer::Done { slot, item, result }));
            }
        }
        // Another error means that the pool is gone.
        drop::<io::Result<()>>(self.answers.blocking_flush());
    }

    /// The function that a pool has run first in each worker.
    pub(super) fn find(function: &Function) -> Option<&'static Entry> {
        function.find()
    }
}
