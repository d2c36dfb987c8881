//! Those in this process that wait for something in a region.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// How many of those that wait for the same are woken when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    /// The first, and the next one when it has got what it wants, or gives up: for what one of them can have.
    One,
    All,
}

/// The queues, by the place of the word that they wait by.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Queues>);

#[derive(Debug, Default)]
struct Queues {
    tickets: u64,
    /// How often all were told to look again.
    stirs: u64,
    queues: BTreeMap<usize, Queue>,
}

#[derive(Debug)]
struct Queue {
    turns: Turns,
    waiting: VecDeque<Waiter>,
    /// Who was woken last, as long as it has neither slept again nor left: until then no other is.
    woken: Option<u64>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// The number of wake-ups that it knows of.
    epoch: u32,
    waker: Waker,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often all were told to look again, before somebody looks for the last time and sleeps.
    pub(super) fn stirs(&self) -> u64 {
        self.lock().stirs
    }

    /// Enters who waits, or says that it sleeps again; gives its ticket. `None` if all were told to look again since `stirs`
    /// was read: then who was woken still is, so that its turn is not lost.
    pub(super) fn sleep(
        &self,
        ticket: Option<u64>,
        at: usize,
        turns: Turns,
        (epoch, stirs): (u32, u64),
        waker: &Waker,
    ) -> Option<u64> {
        let mut queues = self.lock();
        if queues.stirs != stirs {
            return None;
        }
        queues.tickets += 1;
        let next = queues.tickets;
        let new = || Queue { turns, waiting: VecDeque::new(), woken: None };
        let queue = queues.queues.entry(at).or_insert_with(new);
        if let Some(waiter) = queue.waiting.iter_mut().find(|waiter| Some(waiter.ticket) == ticket) {
            waiter.epoch = epoch;
            waiter.waker.clone_from(waker);
            queue.woken.take_if(|woken| *woken == waiter.ticket);
            return Some(waiter.ticket);
        }
        queue.waiting.push_back(Waiter { ticket: next, epoch, waker: waker.clone() });
        Some(next)
    }

    /// Has somebody leave; if it was woken, the next one is.
    pub(super) fn leave(&self, ticket: u64, at: usize) {
        let mut queues = self.lock();
        let Some(queue) = queues.queues.get_mut(&at) else { return };
        queue.waiting.retain(|waiter| waiter.ticket != ticket);
        let was_woken = queue.woken.take_if(|woken| *woken == ticket).is_some();
        let next = if was_woken { queue.wake_first() } else { None };
        if queue.waiting.is_empty() {
            queues.queues.remove(&at);
        }
        drop(queues);
        next.into_iter().for_each(Waker::wake);
    }

    /// Has the next one behind somebody look, who has looked and sleeps again: there is something, but not what that one wants.
    pub(super) fn pass(&self, ticket: u64, at: usize) {
        let mut queues = self.lock();
        let next = queues.queues.get_mut(&at).and_then(|queue| queue.wake_behind(ticket));
        drop(queues);
        next.into_iter().for_each(Waker::wake);
    }

    /// Wakes those whose word has another number of wake-ups than they know of.
    pub(super) fn wake(&self, epoch: impl Fn(usize) -> u32) {
        self.wake_by(|(at, queue)| {
            let epoch = epoch(*at);
            match queue.turns {
                Turns::All => queue.wakers(|waiter| waiter.epoch != epoch),
                Turns::One if queue.waiting.front().is_some_and(|first| first.epoch != epoch) => {
                    queue.wake_first().into_iter().collect()
                }
                Turns::One => Vec::new(),
            }
        });
    }

    /// Has all look again: somebody has died, who may have been about to wake them.
    pub(super) fn stir(&self) {
        self.lock().stirs += 1;
        self.wake_by(|(_, queue)| match queue.turns {
            Turns::All => queue.wakers(|_| true),
            Turns::One => queue.wake_first().into_iter().collect(),
        });
    }

    fn wake_by(&self, wakers: impl FnMut((&usize, &mut Queue)) -> Vec<Waker>) {
        let mut wakers = wakers;
        let woken: Vec<_> = self.lock().queues.iter_mut().flat_map(&mut wakers).collect();
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    fn wakers(&self, which: impl Fn(&Waiter) -> bool) -> Vec<Waker> {
        self.waiting.iter().filter(|waiter| which(waiter)).map(|waiter| waiter.waker.clone()).collect()
    }

    fn wake_first(&mut self) -> Option<Waker> {
        self.wake_nth(0)
    }

    fn wake_behind(&mut self, ticket: u64) -> Option<Waker> {
        let place = self.waiting.iter().position(|waiter| waiter.ticket == ticket)?;
        self.wake_nth(place + 1)
    }

    fn wake_nth(&mut self, place: usize) -> Option<Waker> {
        if self.woken.is_some() {
            return None;
        }
        let waiter = self.waiting.get(place)?;
        self.woken = Some(waiter.ticket);
        Some(waiter.waker.clone())
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
        assert!(first.is_some());
        waiters.stir();
        assert_eq!(sleep(None, stirs), None);
        // The first one was woken, and its turn is still its own.
        assert_eq!(sleep(first, stirs), None);
        assert_eq!(waiters.lock().queues[&AT].woken, first);
        assert_eq!(sleep(first, waiters.stirs()), first);
        assert_eq!(waiters.lock().queues[&AT].woken, None);
    }
}
