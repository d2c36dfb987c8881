//! What the ends of a mailbox in one process share.

mod waits;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};

use super::body::{Bodies, take_room};
use super::config::{CELLS, CLOSED, Config, DRAINED, ENDS, GIVEN_BACK, RECEIVERS, SENDERS};
use super::error::RecvError;
use super::large::Large;
use super::lives::Lives;
use super::socket::{Came, Sent, Socket, Ticket};
use super::spin::Spin;
use super::watch::Watch;
use crate::shared::words::{Ends, Member, Receipt, Ring, Take, Undone, Wait};
use crate::shared::{Attachment, Kind, Object, Region, Turns, Waiting};
use crate::sys::{Place, Places};
use crate::wire::Parcel;

/// A mailbox, as this process has it.
pub(super) struct Channel {
    pub(super) object: Object,
    pub(super) config: Config,
    ends: Place<Ends>,
    cells: Places<AtomicU64>,
    slots: Places<AtomicU64>,
    receivers: Place<Wait>,
    closed: Place<Wait>,
    senders: Place<Wait>,
    drained: Place<Wait>,
    given_back: Place<AtomicU64>,
    bodies: Bodies,
    /// What carries the messages, if they can have handles.
    socket: Option<Socket>,
    pub(super) lives: Lives,
    /// Where to look first for a free slot.
    cursor: AtomicUsize,
    /// How many deaths and returns were looked into.
    looked_into: AtomicU64,
    /// About how many messages this process has taken.
    taken: AtomicU64,
    watch: Watch,
    spin: Spin,
    this: Weak<Self>,
}

/// What came of looking for a message.
#[derive(Debug)]
pub(super) enum Found {
    InSlot(usize),
    /// The kernel has carried it, or has lost it. Boxed, because what stands in a slot is to be found fast.
    Carried(Box<Result<Parcel, RecvError>>),
    /// None, and none will come.
    End,
}

/// What came of sending a message, where there was room for it.
#[derive(Debug)]
pub(super) enum Put {
    Done,
    Closed,
    /// The kernel is short of something.
    Crowded,
    Failed(io::Error),
}

/// Why a message was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    Closed,
    System(io::Error),
}

/// How many messages a process takes before it sees to it that deaths are watched.
const TAKEN_UNWATCHED: u64 = 256;

/// Before the first look: another number than comes of any.
const NEVER: u64 = u64::MAX;

impl Channel {
    /// Makes one, for its first sender and its first receiver.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it, or the configuration is none.
    pub(super) fn pair(config: Config, lives: &Lives) -> io::Result<(Arc<Self>, Arc<Self>)> {
        let shape = config.shape()?;
        let region = Region::for_one(shape.size)?;
        let object = Object::new(&region, Kind::Mailbox, shape.size)?;
        let large = Large::new(&config)?;
        let sockets = if config.has_handles { Some(Socket::pair()?) } else { None };
        let (sends, receives) = sockets.unzip();
        let sender = Self::of(object.clone(), config, large.clone(), sends, lives.clone())?;
        Ring::begin(&sender.cells);
        Ok((sender, Self::of(object, config, large, receives, lives.clone())?))
    }

    /// One that stands in a region already.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn of(
        object: Object,
        config: Config,
        large: Option<Large>,
        socket: Option<Socket>,
        lives: Lives,
    ) -> io::Result<Arc<Self>> {
        let shape = config.shape()?;
        let ends = object.words(ENDS)?;
        let cells = object.all_words(CELLS, shape.cell_count)?;
        let slots = object.all_words(shape.slots, config.capacity as usize)?;
        let wait = |at| object.words::<Wait>(at);
        let (receivers, closed, senders, drained) =
            (wait(RECEIVERS)?, wait(CLOSED)?, wait(SENDERS)?, wait(DRAINED)?);
        let given_back = object.words(GIVEN_BACK)?;
        let bodies = Bodies::new(&object, shape.bodies, &config, large)?;
        Ok(Arc::new_cyclic(|this| Self {
            object,
            config,
            ends,
            cells,
            slots,
            receivers,
            closed,
            senders,
            drained,
            given_back,
            bodies,
            socket,
            lives,
            cursor: AtomicUsize::new(0),
            looked_into: AtomicU64::new(NEVER),
            taken: AtomicU64::new(0),
            watch: Watch::default(),
            spin: Spin::default(),
            this: Weak::clone(this),
        }))
    }

    /// Whether an object of this size can be one.
    pub(super) fn is_size_of(config: &Config, size: usize) -> bool {
        config.shape().is_ok_and(|shape| shape.size == size)
    }

    #[inline]
    pub(super) fn ring(&self) -> Ring<'_> {
        Ring { ends: &self.ends, cells: &self.cells, slots: &self.slots }
    }

    #[inline]
    pub(super) fn attachment(&self) -> &Arc<Attachment> {
        &self.object.attachment
    }

    #[inline]
    pub(super) fn me(&self) -> Option<Member> {
        self.attachment().me()
    }

    /// The descriptors that stand for it in a message, but for those of its region.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.lives.handles().chain(self.bodies.handle()).chain(self.socket.as_ref().map(Socket::handle))
    }

    pub(super) fn waiting(&self, at: usize, turns: Turns) -> Waiting<'_> {
        Waiting::new(self.attachment(), self.object.at + at, turns)
    }

    #[inline]
    fn wake(&self, wait: &Wait) {
        self.attachment().wake(wait);
    }

    /// Claims a slot for a message; `None` if all are in use, or this process can take no part.
    #[inline]
    pub(super) fn claim(&self) -> Option<usize> {
        self.claim_for(self.me()?)
    }

    #[inline]
    fn claim_for(&self, me: Member) -> Option<usize> {
        let slot = self.ring().claim(me, self.attachment().members(), self.cursor.load(Relaxed))?;
        self.cursor.store(slot + 1, Relaxed);
        Some(slot)
    }

    /// Sends a message; `None` if there is no room for it now.
    #[inline]
    pub(super) fn put(&self, message: &Parcel) -> Option<Put> {
        let me = self.me();
        let Some((me, slot)) = me.and_then(|me| Some((me, self.claim_for(me)?))) else {
            return self.is_closed().then_some(Put::Closed);
        };
        match &self.socket {
            None => Some(self.put_in(me, slot, &message.bytes)),
            Some(socket) => self.post(me, socket, slot, message),
        }
    }

    /// Writes a message to a slot that was claimed for it, and queues it. Where that fails, frees it.
    #[inline]
    pub(super) fn put_in(&self, me: Member, slot: usize, message: &[u8]) -> Put {
        if let Err(error) = self.bodies.write(slot, message, self.ring().sent()) {
            self.free(slot);
            return Put::Failed(error);
        }
        match self.ring().publish(me, slot) {
            Ok(is_slept_by) => {
                // One that was stopped before it could wake them has left them asleep, and its message behind.
                if is_slept_by || self.receivers.is_slept_by() && self.ring().has_more_than_one() {
                    self.wake(&self.receivers);
                }
                Put::Done
            }
            Err(_closed) => {
                self.free(slot);
                Put::Closed
            }
        }
    }

    /// Has the kernel carry a message, for which a slot was claimed.
    fn post(&self, me: Member, socket: &Socket, slot: usize, message: &Parcel) -> Option<Put> {
        let stamp = self.ring().begin_to_send(me, slot);
        let put = match socket.send(Ticket { slot: slot as u32, stamp }, message) {
            Sent::Done => {
                self.ring().end_to_send(me, slot, stamp);
                self.wake(&self.receivers);
                return Some(Put::Done);
            }
            Sent::Full => {
                // Nobody waits for this slot alone: there is room when something is received.
                self.ring().free(slot);
                return None;
            }
            Sent::Crowded => Put::Crowded,
            Sent::Closed => Put::Closed,
            Sent::Failed(error) => Put::Failed(error),
        };
        self.free(slot);
        Some(put)
    }

    /// Looks for a message: first for those that were delivered and not done.
    #[inline]
    pub(super) fn take(&self, receipt: Receipt) -> Option<Found> {
        if let Some(socket) = &self.socket {
            return self.receive(socket);
        }
        let me = self.me()?;
        if let Some(slot) = self.take_undone(me, receipt) {
            return Some(Found::InSlot(slot));
        }
        match self.ring().take(me, receipt) {
            Take::Taken(slot) => {
                self.count_taken();
                Some(Found::InSlot(slot))
            }
            Take::Empty => None,
            Take::Closed => (!self.may_come_back(me)).then_some(Found::End),
        }
    }

    /// Has deaths be watched now and then where nobody sleeps, who would see to that: what the dead have held is not to wait for ever
    /// behind what comes without end.
    #[inline]
    fn count_taken(&self) {
        let taken = self.taken.load(Relaxed).wrapping_add(1);
        self.taken.store(taken, Relaxed);
        if taken.is_multiple_of(TAKEN_UNWATCHED) {
            self.attachment().watch();
        }
    }

    /// Receives what the kernel carries.
    fn receive(&self, socket: &Socket) -> Option<Found> {
        let news = self.news();
        let is_to_look = self.looked_into.load(Relaxed) != news;
        let members = self.attachment().members();
        let out: Vec<_> = if is_to_look { self.ring().on_the_way(members).collect() } else { Vec::new() };
        let (ticket, came) = match socket.receive(take_room(), self.config.limits.max_message) {
            Came::Packet(ticket, parcel) => (Some(ticket), Ok(parcel)),
            Came::Unreadable(ticket, error) => (ticket, Err(error.into())),
            Came::NoDescriptors(ticket) => (ticket, Err(RecvError::NoDescriptors)),
            Came::End => return Some(Found::End),
            Came::Empty => {
                // What was on its way before that was received by others, or by one that has died with it.
                let cleared = out.into_iter().filter(|lost| self.ring().clear(*lost)).count();
                self.looked_into.store(news, Relaxed);
                if cleared > 0 {
                    self.freed();
                }
                return None;
            }
        };
        if ticket.is_some_and(|Ticket { slot, stamp }| self.ring().received(slot as usize, stamp)) {
            self.freed();
        }
        Some(Found::Carried(Box::new(came)))
    }

    #[inline]
    pub(super) const fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    #[inline]
    fn take_undone(&self, me: Member, receipt: Receipt) -> Option<usize> {
        let news = self.news();
        if self.looked_into.load(Relaxed) == news {
            return None;
        }
        let mut undone = self.undone().into_iter().filter(|undone| !self.is_poisoned(undone.deliveries));
        let taken = undone.find(|undone| self.ring().retake(*undone, me, receipt));
        if taken.is_none() {
            self.looked_into.store(news, Relaxed);
        }
        Some(taken?.slot)
    }

    /// Another number whenever messages may have come back.
    #[inline]
    fn news(&self) -> u64 {
        self.attachment().waiters.stirs().wrapping_add(self.given_back.load(Acquire))
    }

    /// What was delivered and not done, in the order in which it was sent.
    fn undone(&self) -> Vec<Undone> {
        let mut undone: Vec<_> = self.ring().undone(self.attachment().members()).collect();
        undone.sort_by_key(|undone| self.bodies.sent_as(undone.slot));
        undone
    }

    fn may_come_back(&self, me: Member) -> bool {
        self.ring().may_come_back(me, self.attachment().members(), |deliveries| self.is_poisoned(deliveries))
    }

    fn is_poisoned(&self, deliveries: u64) -> bool {
        self.config.deliveries != 0 && deliveries >= u64::from(self.config.deliveries)
    }

    /// Takes a message that was delivered as often as it may be.
    pub(super) fn take_poisoned(&self) -> Option<usize> {
        let me = self.me()?;
        let mut poisoned = self.undone().into_iter().filter(|undone| self.is_poisoned(undone.deliveries));
        Some(poisoned.find(|undone| self.ring().retake(*undone, me, Receipt::Final))?.slot)
    }

    /// Frees a slot: there is room for another message.
    #[inline]
    pub(super) fn free(&self, slot: usize) {
        self.free_quietly(slot);
        self.freed();
    }

    /// The same, without a word to those that wait for it.
    #[inline]
    pub(super) fn free_quietly(&self, slot: usize) {
        // Not before: what was delivered and is not done comes back whole.
        self.bodies.clear(slot);
        self.ring().free(slot);
    }

    /// Wakes those that wait for slots that were freed.
    #[inline]
    pub(super) fn freed(&self) {
        self.wake(&self.senders);
        if self.drained.is_slept_by() {
            self.wake(&self.drained);
        }
    }
}

/// What both ends can tell.
impl Channel {
    /// How many messages are queued, those that were given back among them.
    pub(super) fn len(&self) -> usize {
        if self.socket.is_some() {
            return self.ring().sent_and_not_received();
        }
        let is_plain = self.news() == 0;
        self.ring().len() + if is_plain { 0 } else { self.ring().undone(self.attachment().members()).count() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.ring().is_full(self.attachment().members())
    }

    pub(super) fn describe(&self, mut debug: fmt::DebugStruct<'_, '_>) -> fmt::Result {
        debug
            .field("len", &self.len())
            .field("capacity", &self.config.capacity)
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f.debug_struct("Channel"))
    }
}
