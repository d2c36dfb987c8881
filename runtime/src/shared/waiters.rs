//! Those in this process that wait for something in a region.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// Those that wait, in queues.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queues: Mutex<Queues>,
    /// How many queues there are in which nobody overtakes, for a look without the lock.
    in_order: AtomicUsize,
    /// How often all were told to look again; it changes under the lock.
    stirs: AtomicU64,
}

/// The place of the word that they wait by, and the runtime in which they do.
type Key = (usize, Option<Id>);

#[derive(Debug, Default)]
struct Queues {
    tickets: u64,
    /// Few mostly, so that to look through them is faster than any other way to find one.
    queues: Vec<Queue>,
    /// In how many of them somebody waits who is not to be overtaken.
    in_order: usize,
}

/// How many queues are kept when nobody waits in them any more: whoever comes next finds room there.
const KEPT: usize = 4;

#[derive(Debug)]
struct Queue {
    key: Key,
    turns: Turns,
    /// By their tickets, and so in the order in which they came.
    waiting: VecDeque<Waiter>,
    /// Who was woken last, as long as it has neither slept again nor left: until then no other is.
    woken: Option<u64>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// The number of wake-ups that it knows of.
    epoch: u32,
    /// Until it is woken. Cloned, called and dropped without the lock: it is somebody else's code that does so, and may
    /// come back here.
    waker: Option<Waker>,
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

    /// Enters who waits in a runtime, or says that it sleeps again; gives its ticket. `None` if all were told to look again
    /// since `stirs` was read: then who was woken still is, so that its turn is not lost.
    pub(super) fn sleep(
        &self,
        ticket: Option<Ticket>,
        key: Key,
        turns: Turns,
        (epoch, stirs): (u32, u64),
        waker: &Waker,
    ) -> Option<Ticket> {
        let moved = ticket.filter(|ticket| ticket.key != key);
        let waker = waker.clone();
        let mut queues = self.lock();
        if self.stirs() != stirs {
            return None;
        }
        let left = moved.map(|ticket| queues.leave(ticket));
        let (ticket, before) = queues.enter(ticket.filter(|_| moved.is_none()), key, turns, epoch, waker);
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
        let waker = waker.clone();
        let mut queues = self.lock();
        let first = queues.find(key)?.waiting.front()?.ticket;
        if ticket.is_some_and(|ticket| ticket.number == first) {
            return None;
        }
        let (ticket, before) = queues.enter(ticket, key, Turns::InOrder, 0, waker);
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
        let queue = queues.find(ticket.key);
        let next = queue.and_then(|queue| queue.wake_first(ticket.number + 1));
        drop(queues);
        next.into_iter().for_each(wake);
    }

    /// Wakes those whose word has another number of wake-ups than they know of.
    pub(super) fn wake(&self, epoch: impl Fn(usize) -> u32) {
        self.wake_by(|queue, woken| {
            let (at, _) = queue.key;
            let epoch = epoch(at);
            let is_to_look = |waiter: &Waiter| waiter.epoch != epoch;
            match queue.turns {
                Turns::All => woken.extend(queue.wake_all(is_to_look)),
                Turns::One | Turns::InOrder if queue.waiting.front().is_some_and(is_to_look) => {
                    woken.extend(queue.wake_front());
                }
                Turns::One | Turns::InOrder => {}
            }
        });
    }

    /// Has all look again: somebody has died, who may have been about to wake them.
    pub(crate) fn stir(&self) {
        let queues = self.lock();
        self.stirs.fetch_add(1, AcqRel);
        drop(queues);
        self.wake_by(|queue, woken| match queue.turns {
            Turns::All => woken.extend(queue.wake_all(|_| true)),
            Turns::One | Turns::InOrder => woken.extend(queue.wake_front()),
        });
    }

    fn wake_by(&self, mut take: impl FnMut(&mut Queue, &mut Vec<Waker>)) {
        let mut woken = Vec::new();
        self.lock().queues.iter_mut().for_each(|queue| take(queue, &mut woken));
        woken.into_iter().for_each(wake);
    }
}

/// Somebody else's code, which may panic: the others are woken all the same.
fn wake(waker: Waker) {
    drop(catch_unwind(AssertUnwindSafe(move || waker.wake())));
}

/// Who has left, and who is to be woken in its place: for when the lock is free again.
struct Left {
    _waiter: Option<Waiter>,
    next: Option<Waker>,
}

impl Left {
    fn go(self) {
        self.next.into_iter().for_each(wake);
    }
}

impl Queues {
    fn find(&mut self, key: Key) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.key == key)
    }

    /// Gives the ticket, and what stood in its place.
    fn enter(
        &mut self,
        ticket: Option<Ticket>,
        key: Key,
        turns: Turns,
        epoch: u32,
        waker: Waker,
    ) -> (Ticket, Option<Waiter>) {
        self.tickets += 1;
        let number = ticket.map_or(self.tickets, |ticket| ticket.number);
        let is_empty = |queue: &Queue| queue.waiting.is_empty();
        let known = self.queues.iter().position(|queue| queue.key == key);
        let place = known.or_else(|| self.queues.iter().position(is_empty)).unwrap_or_else(|| {
            self.queues.push(Queue { key, turns, waiting: VecDeque::new(), woken: None });
            self.queues.len() - 1
        });
        let queue = &mut self.queues[place];
        if is_empty(queue) {
            (queue.key, queue.turns) = (key, turns);
            self.in_order += usize::from(turns == Turns::InOrder);
        }
        queue.woken.take_if(|woken| *woken == number);
        let before = queue.put(Waiter { ticket: number, epoch, waker: Some(waker) });
        (Ticket { number, key }, before)
    }

    fn leave(&mut self, ticket: Ticket) -> Left {
        let nobody = Left { _waiter: None, next: None };
        let Some(place) = self.queues.iter().position(|queue| queue.key == ticket.key) else { return nobody };
        let queue = &mut self.queues[place];
        let Some(waiter) = queue.take(ticket.number) else { return nobody };
        queue.woken.take_if(|woken| *woken == ticket.number);
        let next = if queue.turns == Turns::All { None } else { queue.wake_first(0) };
        if queue.waiting.is_empty() {
            self.in_order -= usize::from(queue.turns == Turns::InOrder);
            if self.queues.len() > KEPT {
                self.queues.swap_remove(place);
            }
        }
        Left { _waiter: Some(waiter), next }
    }
}

impl Queue {
    /// Where a ticket stands, or would stand.
    fn place(&self, ticket: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket)
    }

    /// Gives what stood in its place.
    fn put(&mut self, waiter: Waiter) -> Option<Waiter> {
        match self.place(waiter.ticket) {
            Ok(place) => Some(std::mem::replace(&mut self.waiting[place], waiter)),
            Err(place) => {
                self.waiting.insert(place, waiter);
                None
            }
        }
    }

    fn take(&mut self, ticket: u64) -> Option<Waiter> {
        self.place(ticket).ok().and_then(|place| self.waiting.remove(place))
    }

    fn wake_all(&mut self, which: impl Fn(&Waiter) -> bool) -> impl Iterator<Item = Waker> {
        self.waiting.iter_mut().filter(move |waiter| which(waiter)).filter_map(|waiter| waiter.waker.take())
    }

    /// Wakes the first, unless it is the one that was woken: one behind it, to which it has passed its turn, need not want all that there is
    /// now.
    fn wake_front(&mut self) -> Option<Waker> {
        let front = self.waiting.front()?.ticket;
        self.woken.take_if(|woken| *woken != front);
        self.wake_first(0)
    }

    /// Wakes the first whose ticket is not before a number, if nobody was woken as yet.
    fn wake_first(&mut self, from: u64) -> Option<Waker> {
        if self.woken.is_some() {
            return None;
        }
        let (Ok(place) | Err(place)) = self.place(from);
        let waiter = self.waiting.get_mut(place)?;
        self.woken = Some(waiter.ticket);
        waiter.waker.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    const AT: usize = 64;

    /// How often somebody was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_turn_that_was_passed_on_keeps_nobody_asleep() {
        for stirs in [false, true] {
            let (waiters, first, second) =
                (Waiters::default(), Arc::<Woken>::default(), Arc::<Woken>::default());
            let sleep = |ticket, epoch, who: &Arc<Woken>| {
                let known = (epoch, waiters.stirs());
                waiters.sleep(ticket, (AT, None), Turns::One, known, &Arc::clone(who).into())
            };
            let (ticket, _) = (sleep(None, 0, &first), sleep(None, 0, &second));
            waiters.wake(|_at| 1);
            let ticket = sleep(ticket, 1, &first);
            waiters.pass(ticket.unwrap());
            assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (1, 1));
            // Before the second has looked there is more, and perhaps what the first wants.
            if stirs {
                waiters.stir()
            } else {
                waiters.wake(|_at| 2)
            }
            assert_eq!(first.0.load(Relaxed), 2);
        }
    }

    #[test]
    fn who_has_looked_before_a_stir_looks_again() {
        let waiters = Waiters::default();
        let key = (AT, None);
        let sleep = |ticket, stirs| waiters.sleep(ticket, key, Turns::One, (0, stirs), Waker::noop());
        let stirs = waiters.stirs();
        let first = sleep(None, stirs);
        assert!(first.is_some());
        waiters.stir();
        assert_eq!(sleep(None, stirs), None);
        // The first one was woken, and its turn is still its own.
        assert_eq!(sleep(first, stirs), None);
        assert_eq!(waiters.lock().find(key).unwrap().woken, first.map(|first| first.number));
        assert_eq!(sleep(first, waiters.stirs()), first);
        assert_eq!(waiters.lock().find(key).unwrap().woken, None);
    }
}
