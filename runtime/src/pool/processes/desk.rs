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
use crate::entry::{Entry, Given};
use crate::link::Report;
use crate::mailbox::Spin;
use crate::pipe::{Receiver, SendError, Sender};
use crate::pool::enclosed::Enclosed;
use crate::pool::which::Function;
use crate::sys;
use crate::wire::{Limits, Packet, Parcel};

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
    spin: Spin,
    forks: u64,
    /// Room for the next job, and for the next result.
    room: Vec<u8>,
    room_for_result: Vec<u8>,
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
    /// The arguments of its items, and how far they were read.
    bytes: Vec<u8>,
    at: usize,
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
    fn next_arguments(&mut self) -> (&[u8], Vec<Arc<OwnedFd>>) {
        let mut bytes = &self.bytes[self.at..];
        if self.count > 1 {
            let length = bytes.get_u32_le() as usize;
            bytes = &bytes[..length];
            self.at += size_of::<u32>() + length;
        }
        (bytes, std::mem::take(&mut self.handles))
    }

    /// The same, by themselves.
    pub(super) fn arguments(&mut self) -> Packet {
        if self.count == 1 {
            return Packet {
                bytes: std::mem::take(&mut self.bytes).into(),
                handles: std::mem::take(&mut self.handles),
            };
        }
        let (bytes, handles) = self.next_arguments();
        Packet { bytes: Bytes::copy_from_slice(bytes), handles }
    }

    /// The arguments of the item that has begun, as a call of many.
    pub(super) fn given(&mut self, room: Vec<u8>, limits: Limits) -> Given<'_> {
        let (bytes, handles) = self.next_arguments();
        Given { bytes, handles, limits, room }
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
            spin: Spin::default(),
            forks: sys::forks(),
            room: Vec::new(),
            room_for_result: Vec::new(),
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
            let Some((head, mut bytes)) = self.next_on_board()? else { return Ok(None) };
            let mut handles = Vec::new();
            if head.is_long {
                let packet = self.next_letter()?;
                (bytes, handles) = (packet.bytes.into(), packet.handles);
            }
            if let Some(job) = self.start(head, bytes, handles)? {
                return Ok(Some(job));
            }
        }
    }

    fn next_on_board(&mut self) -> Result<Option<(Head, Vec<u8>)>, Gone> {
        let ring = self.board.jobs();
        let Some((head, length)) = self.jobs.head::<3>(ring).map_err(|_broken| Gone)? else {
            return Ok(None);
        };
        let mut body = std::mem::take(&mut self.room);
        body.clear();
        self.jobs.body_into(ring, length, &mut body);
        self.jobs.tell(ring);
        Ok(Some((Head::from_words(head), body)))
    }

    /// The next job that comes in a letter.
    fn next_letter(&mut self) -> Result<Packet, Gone> {
        loop {
            match self.long.pop_front() {
                Some(packet) => return Ok(packet.into()),
                None => self.hear_blocking()?,
            }
        }
    }

    /// A job is done: its room is the next one's.
    pub(super) fn clear(&mut self, job: Job) {
        if job.bytes.capacity() <= 2 * SHORT {
            self.room = job.bytes;
        }
    }

    /// Room for a result.
    pub(super) fn room_for_result(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.room_for_result)
    }

    /// Starts a job, unless it was taken back. A function that it names was told before it.
    fn start(&mut self, head: Head, bytes: Vec<u8>, handles: Vec<Arc<OwnedFd>>) -> Result<Option<Job>, Gone> {
        let Head { slot, turn, function, count, is_timed, .. } = head;
        while self.functions.len() <= function as usize {
            self.hear_blocking()?;
        }
        self.board.begin(usize::from(slot), 1, is_timed);
        if !self.board.start(usize::from(slot), turn) {
            return Ok(None);
        }
        if !handles.is_empty() {
            self.say(Answer::Took { slot, turn });
        }
        let Some(entry) = self.functions[function as usize] else {
            self.refuse(head);
            return Ok(None);
        };
        Ok(Some(Job { slot, turn, entry, is_timed, begun: 1, count, bytes, at: 0, handles }))
    }

    /// Tells that a job that was started is of a function that is none.
    fn refuse(&mut self, Head { slot, count, is_timed, .. }: Head) {
        for item in 0..count {
            self.board.begin(usize::from(slot), item + 1, is_timed);
            let reason = "there is no such function in the worker".into();
            self.put(slot, item, Err(Box::new(Report::Refused { reason })), 0);
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

    /// Looks for a moment, if that pays, whether the next job comes; its pool has what there is by then.
    pub(super) fn look(&mut self) -> bool {
        self.hand_over();
        self.spin.look(|| self.has_something());
        self.has_something()
    }

    fn has_something(&self) -> bool {
        !self.jobs.is_empty(self.board.jobs()) || self.board.mailed() != self.read
    }

    /// Waits until there may be something to do.
    pub(super) async fn wait(&mut self) -> Result<(), Gone> {
        self.hand_over();
        self.board.sleeper(Side::Worker).sleep(Sleep::Deep);
        if self.has_something() {
            self.board.sleeper(Side::Worker).awake();
            return Ok(());
        }
        self.hear().await
    }

    /// Waits for a letter: there is no hand free for a job.
    pub(super) async fn wait_for_letter(&mut self) -> Result<(), Gone> {
        self.hand_over();
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
    pub(super) fn put(&mut self, slot: u16, item: u32, result: Result<Parcel, Box<Report>>, elapsed: u64) {
        match result {
            Ok(Parcel { bytes, handles }) if handles.is_empty() && bytes.len() <= SHORT => {
                self.put_record(Mark::Returned, slot, elapsed, &bytes);
                self.room_for_result = bytes;
            }
            result => {
                // First its place, so that the pool always knows of it when the letter comes.
                self.put_record(Mark::Mailed, slot, elapsed, &[]);
                let result = result.map(|parcel| Packet::from(parcel).into()).map_err(|report| *report);
                self.say(Answer::Done { slot, item, result });
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

    /// Has the pool take what it has not read yet.
    fn hand_over(&mut self) {
        if !self.results.is_read(self.board.results()) {
            self.wake_pool(true);
        }
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
