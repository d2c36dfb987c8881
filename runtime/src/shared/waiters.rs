//! Those in this process that wait for something in a region.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::runtime::Id;

use super::listeners::driver;

/// How many of those that wait for the same are woken when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turns {
    /// The first of each runtime, and the next one when it has got what it wants, or gives up: for what one of them can have.
    /// Not the first of all, because its runtime may have nobody who drives it.
    One,
    /// The same, and who comes later gets in line, even if it could have it at once.
    InOrder,
    All,
}

/// The queues, by the place of the word that they wait by and the runtime in which they do.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queues: Mutex<Queues>,
    /// How many queues there are in which nobody overtakes, for a look without the lock.
    in_order: AtomicUsize,
    /// How often all were told to look again; it changes under the lock.
    stirs: AtomicU64,
}

type Key = (usize, Option<Id>);

#[derive(Debug, Default)]
struct Queues {
    tickets: u64,
    queues: HashMap<Key, Queue>,
    /// How many of them are `Turns::InOrder`.
    in_order: usize,
}

#[derive(Debug)]
struct Queue {
    turns: Turns,
    /// By their tickets, and so in the order in which they came.
    waiting: BTreeMap<u64, Waiter>,
    /// Who was woken last, as long as it has neither slept again nor left: until then no other is.
    woken: Option<u64>,
}

#[derive(Debug)]
struct Waiter {
    /// The number of wake-ups that it knows of.
    epoch: u32,
    /// Cloned and dropped without the lock: it is somebody else's code that does so, and may come back here.
    waker: Arc<Waker>,
}

/// A place in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    number: u64,
    key: Key,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often all were told to look again, before somebody looks for the last time and sleeps.
    pub(crate) fn stirs(&self) -> u64 {
        self.stirs.load(Acquire)
    }

    /// Enters who waits, or says that it sleeps again; gives its ticket. `None` if all were told to look again since `stirs`
    /// was read: then who was woken still is, so that its turn is not lost.
    pub(super) fn sleep(
        &self,
        ticket: Option<Ticket>,
        at: usize,
        turns: Turns,
        (epoch, stirs): (u32, u64),
        waker: &Waker,
    ) -> Option<Ticket> {
        let key = (at, driver().map(|runtime| runtime.id()));
        let moved = ticket.filter(|ticket| ticket.key != key);
        let waiter = Waiter { epoch, waker: Arc::new(waker.clone()) };
        let mut queues = self.lock();
        if self.stirs() != stirs {
            return None;
        }
        let left = moved.map(|ticket| queues.leave(ticket));
        let (ticket, before) = queues.enter(ticket.filter(|_| moved.is_none()), key, turns, waiter);
        self.in_order.store(queues.in_order, Relaxed);
        drop(queues);
        drop(before);
        left.into_iter().for_each(Left::go);
        Some(ticket)
    }

    /// Whether anybody waits in line. Who has come before on the same thread is seen.
    #[inline]
    pub(super) fn is_anybody_in_line(&self) -> bool {
        self.in_order.load(Relaxed) != 0
    }

    /// Has somebody wait behind others of its runtime, who have the turn or will have it. `None` if there are none before it.
    pub(super) fn get_in_line(&self, ticket: Option<Ticket>, at: usize, waker: &Waker) -> Option<Ticket> {
        if !self.is_anybody_in_line() {
            return None;
        }
        let key = (at, driver().map(|runtime| runtime.id()));
        // One that has moved to another runtime comes in the usual way.
        let ticket = ticket.map_or(Some(None), |ticket| (ticket.key == key).then_some(Some(ticket)))?;
        let waiter = Waiter { epoch: 0, waker: Arc::new(waker.clone()) };
        let mut queues = self.lock();
        let (first, _) = queues.queues.get(&key)?.waiting.first_key_value()?;
        if ticket.is_some_and(|ticket| ticket.number == *first) {
            return None;
        }
        let (ticket, before) = queues.enter(ticket, key, Turns::InOrder, waiter);
        drop(queues);
        drop(before);
        Some(ticket)
    }

    /// Has somebody leave, and the next one look: none behind the first need have said that it sleeps.
    pub(super) fn leave(&self, ticket: Ticket) {
        let mut queues = self.lock();
        let left = queues.leave(ticket);
        self.in_order.store(queues.in_order, Relaxed);
        drop(queues);
        left.go();
    }

    /// Has the next one behind somebody look, who has looked and sleeps again: there is something, but not what that one wants.
    pub(super) fn pass(&self, ticket: Ticket) {
        let mut queues = self.lock();
        let queue = queues.queues.get_mut(&ticket.key);
        let next = queue.and_then(|queue| queue.wake_first(ticket.number + 1));
        drop(queues);
        next.into_iter().for_each(wake);
    }

    /// Wakes those whose word has another number of wake-ups than they know of.
    pub(super) fn wake(&self, epoch: impl Fn(usize) -> u32) {
        self.wake_by(|(at, _), queue| {
            let epoch = epoch(*at);
            let is_to_look = |waiter: &Waiter| waiter.epoch != epoch;
            match queue.turns {
                Turns::All => queue.wakers(is_to_look),
                Turns::One | Turns::InOrder if queue.waiting.values().next().is_some_and(is_to_look) => {
                    queue.wake_first(0).into_iter().collect()
                }
                Turns::One | Turns::InOrder => Vec::new(),
            }
        });
    }

    /// Has all look again: somebody has died, who may have been about to wake them.
    pub(crate) fn stir(&self) {
        let queues = self.lock();
        self.stirs.fetch_add(1, AcqRel);
        drop(queues);
        self.wake_by(|_, queue| match queue.turns {
            Turns::All => queue.wakers(|_| true),
            Turns::One | Turns::InOrder => queue.wake_first(0).into_iter().collect(),
        });
    }

    fn wake_by(&self, mut wakers: impl FnMut(&Key, &mut Queue) -> Vec<Arc<Waker>>) {
        let of = |(key, queue): (&Key, &mut Queue)| wakers(key, queue);
        let woken: Vec<_> = self.lock().queues.iter_mut().flat_map(of).collect();
        woken.into_iter().for_each(wake);
    }
}

/// Somebody else's code, which may panic: the others are woken all the same.
fn wake(waker: Arc<Waker>) {
    drop(catch_unwind(AssertUnwindSafe(move || waker.wake_by_ref())));
}

/// Who has left, and who is to be woken in its place: for when the lock is free again.
struct Left {
    _waiter: Option<Waiter>,
    next: Option<Arc<Waker>>,
}

impl Left {
    fn go(self) {
        self.next.into_iter().for_each(wake);
    }
}

impl Queues {
    /// Gives the ticket, and what stood in its place.
    fn enter(
        &mut self,
        ticket: Option<Ticket>,
        key: Key,
        turns: Turns,
        waiter: Waiter,
    ) -> (Ticket, Option<Waiter>) {
        self.tickets += 1;
        let number = ticket.map_or(self.tickets, |ticket| ticket.number);
        let queue = self.queues.entry(key).or_insert_with(|| {
            self.in_order += usize::from(turns == Turns::InOrder);
            Queue { turns, waiting: BTreeMap::new(), woken: None }
        });
        queue.woken.take_if(|woken| *woken == number);
        (Ticket { number, key }, queue.waiting.insert(number, waiter))
    }

    fn leave(&mut self, ticket: Ticket) -> Left {
        let Some(queue) = self.queues.get_mut(&ticket.key) else { return Left { _waiter: None, next: None } };
        let waiter = queue.waiting.remove(&ticket.number);
        queue.woken.take_if(|woken| *woken == ticket.number);
        let next = if queue.turns == Turns::All { None } else { queue.wake_first(0) };
        if queue.waiting.is_empty() {
            self.in_order -= usize::from(queue.turns == Turns::InOrder);
            self.queues.remove(&ticket.key);
        }
        Left { _waiter: waiter, next }
    }
}

impl Queue {
    fn wakers(&self, which: impl Fn(&Waiter) -> bool) -> Vec<Arc<Waker>> {
        self.waiting.values().filter(|waiter| which(waiter)).map(|waiter| Arc::clone(&waiter.waker)).collect()
    }

    /// Wakes the first whose ticket is not before a number, if nobody was woken as yet.
    fn wake_first(&mut self, from: u64) -> Option<Arc<Waker>> {
        if self.woken.is_some() {
            return None;
        }
        let (number, waiter) = self.waiting.range(from..).next()?;
        self.woken = Some(*number);
        Some(Arc::clone(&waiter.waker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: usize = 64;

    #[test]
    fn who_has_looked_before_a_stir_looks_again() {
        let waiters = Waiters::default();
        let sleep = |ticket, stirs| waiters.sleep(ticket, AT, Turns::One, (0, stirs), Waker::noop());
        let stirs = waiters.stirs();
        let first = sleep(None, stirs);
        let key = first.unwrap().key;
        assert!(first.is_some());
        waiters.stir();
        assert_eq!(sleep(None, stirs), None);
        // The first one was woken, and its turn is still its own.
        assert_eq!(sleep(first, stirs), None);
        assert_eq!(waiters.lock().queues[&key].woken, first.map(|first| first.number));
        assert_eq!(sleep(first, waiters.stirs()), first);
        assert_eq!(waiters.lock().queues[&key].woken, None);
    }
}
