//! What this process has of a region.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use rustix::fs::fstat;
use tokio::runtime::Handle;
use tokio::task::coop::poll_proceed;

use super::bells::Bells;
use super::deaths;
use super::identity;
use super::layout::{self, Layout};
use super::lines::Lines;
use super::listeners::{Listeners, driver};
use super::waiters::{Ticket, Turns, Waiters};
use super::words::{Member, Members, SLOTS, Wait};
use crate::sys::{self, Overlay, Place, Shared};

/// A region, mapped: one for each region that this process has handles of, however many these are.
#[derive(Debug)]
pub(crate) struct Attachment {
    shared: Arc<Shared>,
    members: Place<[AtomicU64; SLOTS]>,
    memory: Arc<OwnedFd>,
    pub(super) bells: Bells,
    key: Key,
    /// Who this process is in it, below the number of forks that it knows of.
    me: AtomicU64,
    pub(crate) waiters: Waiters,
    pub(super) lines: Lines,
    pub(super) listeners: Listeners,
    /// The number of forks, when it began to watch for deaths.
    watches: AtomicU64,
    /// How often those who sleep until somebody joins had been woken, when it last looked who has.
    joins_seen: AtomicU32,
}

/// Which memory it is, as the kernel knows it: device and inode.
type Key = (u64, u64);

static ATTACHED: Mutex<BTreeMap<Key, Weak<Attachment>>> = Mutex::new(BTreeMap::new());

fn attached() -> MutexGuard<'static, BTreeMap<Key, Weak<Attachment>>> {
    ATTACHED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attachment {
    /// Maps a region, or gives what this process has of it already, and takes part in it.
    ///
    /// # Errors
    /// If it is none, if it is full, or if the system has no room for it.
    pub(super) fn new(memory: Arc<OwnedFd>, bells: Bells) -> io::Result<Arc<Self>> {
        // First, since the others may ask a file system, and who serves that may be slow.
        let length = layout::check(memory.as_fd())?;
        let stat = fstat(&memory)?;
        let key = (stat.st_dev, stat.st_ino);
        if let Some(known) = attached().get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let shared = Arc::new(Shared::map(memory.as_fd(), length)?);
        layout::check_header(&shared, &bells)?;
        let members = shared.place(Layout::MEMBERS).ok_or(io::ErrorKind::InvalidData)?;
        let attachment = Arc::new(Self {
            shared,
            members,
            memory,
            bells,
            key,
            me: AtomicU64::new(0),
            waiters: Waiters::default(),
            lines: Lines::default(),
            listeners: Listeners::default(),
            watches: AtomicU64::new(u64::MAX),
            joins_seen: AtomicU32::new(0),
        });
        attachment.join()?;
        // Whoever was faster meanwhile stays; the other one leaves when the lock is free again.
        let mut attached = attached();
        let known = attached.get(&key).and_then(Weak::upgrade);
        Ok(known.unwrap_or_else(|| {
            attached.insert(key, Arc::downgrade(&attachment));
            Arc::clone(&attachment)
        }))
    }

    /// The descriptors that stand for the region in a message.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        [&self.memory].into_iter().chain(self.bells.handles())
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What lies at a place that was checked when its handle was made.
    pub(super) fn at<T: Overlay>(&self, at: usize) -> &T {
        self.shared.at(at).expect("the place of a handle lies within its region")
    }

    #[inline]
    pub(crate) fn members(&self) -> Members<'_> {
        Members(&*self.members)
    }

    /// Who sleeps until somebody joins.
    pub(super) fn joins(&self) -> &Wait {
        self.at(Layout::JOINS)
    }

    /// Who this process is; `None` in a fork of one that took part, if no slot is free for it.
    #[inline]
    pub(crate) fn me(&self) -> Option<Member> {
        self.known(sys::forks()).or_else(|| self.join().ok())
    }

    /// Who this process is, after so many forks; `None` if it does not take part as yet.
    #[inline]
    pub(super) fn known(&self, forks: u64) -> Option<Member> {
        let me = self.me.load(Relaxed);
        if me >> Member::BITS == forks { Member::from_bits(me) } else { None }
    }

    #[cold]
    fn join(&self) -> io::Result<Member> {
        let who = identity::mine()?;
        let members = self.members();
        let me = members.join(who).or_else(|| {
            members.iter().filter(|(_, who)| has_ended(*who)).for_each(|(dead, _)| _ = members.remove(dead));
            members.join(who)
        });
        let me = me.ok_or_else(|| {
            io::Error::other(format!("a region has {SLOTS} processes, and no room for more"))
        })?;
        self.me.store(sys::forks() << Member::BITS | me.bits(), Relaxed);
        // Those that sleep must watch this process before it can keep anything from them.
        self.bells.ring(self.joins().wake());
        Ok(me)
    }

    /// Wakes all that sleep by a word.
    #[inline]
    pub(crate) fn wake(&self, wait: &Wait) {
        let bells = wait.wake();
        if bells != 0 {
            self.bells.ring(bells);
            self.look();
        }
    }

    /// Wakes those of this process whose word has changed.
    pub(super) fn look(&self) {
        self.waiters.wake(|at| self.shared.at::<Wait>(at).map_or(0, Wait::epoch));
    }

    /// Has somebody of this process sleep by a word, unless that has another number of wake-ups by now, or all were told
    /// to look again.
    pub(super) fn sleep(
        self: &Arc<Self>,
        ticket: &mut Option<Ticket>,
        at: usize,
        turns: Turns,
        (epoch, stirs): (u32, u64),
        waker: &Waker,
    ) -> bool {
        let runtime = driver();
        let key = (at, runtime.as_ref().map(Handle::id));
        let Some(entered) = self.waiters.sleep(*ticket, key, turns, (epoch, stirs), waker) else {
            return false;
        };
        *ticket = Some(entered);
        // In a fork of a process that has a control thread there is no runtime: it looks by turns.
        if let (Some(me), Some(runtime)) = (self.me(), &runtime) {
            self.listeners.listen(self, self.bells.of(me), runtime, waker);
        }
        self.watch();
        self.at::<Wait>(at).epoch() == epoch
    }

    /// Watches for deaths from now on; gives whether there may be some that it did not watch before.
    pub(crate) fn watch(self: &Arc<Self>) -> bool {
        let forks = sys::forks();
        let begins = self.me().is_some() && self.watches.swap(forks, Relaxed) != forks;
        if begins {
            deaths::watch(self);
        }
        // Where nobody slept nobody has heard of those who have joined: see `sleep_until_one_joins`.
        let is_behind = self.joins().epoch() != self.joins_seen.load(Acquire);
        if is_behind {
            self.look();
        }
        begins || is_behind
    }

    /// Has the task that watches those who join sleep, on the control thread. It has no listener of its own, which would wake that
    /// thread with each bell: those who sleep in this process hear of it, and look, and so does each that begins to.
    pub(super) fn sleep_until_one_joins(
        &self,
        ticket: &mut Option<Ticket>,
        (epoch, stirs): (u32, u64),
        waker: &Waker,
    ) -> bool {
        let entered = self.waiters.sleep(*ticket, (Layout::JOINS, None), Turns::All, (epoch, stirs), waker);
        *ticket = entered.or(*ticket);
        entered.is_some() && self.joins().epoch() == epoch
    }

    /// All that had joined before this number of wake-ups are watched.
    pub(super) fn has_seen(&self, joins: u32) {
        self.joins_seen.store(joins, Release);
    }

    /// Frees the slot of a member that has died, and has those of this process look whether they waited for it.
    pub(super) fn bury(&self, dead: Member) {
        self.members().remove(dead);
        self.waiters.stir();
    }

    /// Looks whether any other member has died.
    pub(crate) fn check_all(&self) {
        let me = self.me();
        self.members()
            .iter()
            .filter(|(member, _)| Some(*member) != me)
            .for_each(|(member, _)| self.check(member));
    }

    /// Looks whether a member has died: where nobody waits, nobody watches.
    pub(crate) fn check(&self, member: Member) {
        if self.members().identity(member).is_some_and(has_ended) {
            self.bury(member);
        }
    }
}

fn has_ended(who: super::words::Identity) -> bool {
    matches!(identity::follow(who), Ok(None))
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut attached = attached();
        // It may be attached again by now, by another handle.
        if attached.get(&self.key).is_some_and(|other| other.strong_count() == 0) {
            attached.remove(&self.key);
        }
        drop(attached);
        self.listeners.stop();
        self.waiters.stir();
        let me = self.me.load(Relaxed);
        // In a fork the slot is the other process's.
        if me >> Member::BITS == sys::forks()
            && let Some(me) = Member::from_bits(me)
        {
            self.members().remove(me);
            // What a guard that was forgotten keeps is free from now on, as after a death.
            self.bells.ring(self.joins().wake());
            deaths::forget(self);
        }
    }
}

/// Somebody that waits for something in a region, poll by poll.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    attachment: &'a Arc<Attachment>,
    /// The place of the word that it sleeps by.
    at: usize,
    turns: Turns,
    ticket: Option<Ticket>,
}

/// Every so manieth time a thread asks whether a task is to give way before that has what is there for it.
const UNASKED: u32 = 32;

/// Whether somebody may have what is there for it without being asked to give way.
#[inline]
pub(super) fn is_unasked() -> bool {
    thread_local! {
        static TIMES: Cell<u32> = const { Cell::new(0) };
    }
    let times = TIMES.get().wrapping_add(1);
    TIMES.set(times);
    !times.is_multiple_of(UNASKED)
}

/// How often it tries in one poll: a hostile peer may wake it all the time.
const TRIES: usize = 8;

impl<'a> Waiting<'a> {
    pub(crate) const fn new(attachment: &'a Arc<Attachment>, at: usize, turns: Turns) -> Self {
        Self { attachment, at, turns, ticket: None }
    }

    /// Tries, and sleeps until it is worth to try again. Between the two, `is_to_sleep` has the last word: what it sees has
    /// happened before anybody could wake this one.
    pub(crate) fn poll<R>(
        &mut self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut() -> Option<R>,
        is_to_sleep: impl Fn() -> bool,
    ) -> Poll<R> {
        // A task that always gets what it wants gives way to others now and then.
        ready!(poll_proceed(context)).made_progress();
        if self.turns == Turns::InOrder
            && let Some(behind) = self.attachment.waiters.get_in_line(self.ticket, self.at, context.waker())
        {
            self.ticket = Some(behind);
            return Poll::Pending;
        }
        let wait = self.attachment.at::<Wait>(self.at);
        for _ in 0..TRIES {
            if let Some(done) = attempt() {
                self.leave();
                return Poll::Ready(done);
            }
            let Some(me) = self.attachment.me() else { break };
            // Before the last look: a death after it is seen by who sleeps.
            let stirs = self.attachment.waiters.stirs();
            let epoch = wait.sleep(self.attachment.bells.of(me));
            if let Some(done) = attempt() {
                self.leave();
                return Poll::Ready(done);
            }
            let (at, turns, waker) = (self.at, self.turns, context.waker());
            if is_to_sleep() && self.attachment.sleep(&mut self.ticket, at, turns, (epoch, stirs), waker) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Leaves the turn to the next one, although this one sleeps: for what is too little for it, and may be enough for another.
    pub(super) fn pass(&self) {
        if let Some(ticket) = self.ticket {
            self.attachment.waiters.pass(ticket);
        }
    }

    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.attachment.waiters.leave(ticket);
        }
    }
}

/// Who gives up leaves its turn to the next.
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
