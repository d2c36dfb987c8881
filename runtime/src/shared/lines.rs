//! In which order those of this process wait that others can only count.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::words::Member;

/// The lines of a region: by the place of what is waited for, and by who this process was when they began to wait, because in
/// a fork those of the other process wait for nothing.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    tickets: u64,
    lines: HashMap<Key, VecDeque<u64>>,
}

/// Which line.
pub(super) type Key = (usize, Member);

/// All that changes what is counted is done while the lines are locked, so that both say the same.
impl Lines {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the last one, if it is counted; gives its ticket.
    pub(super) fn enter(&self, key: Key, count: impl FnOnce() -> bool) -> Option<u64> {
        let mut all = self.lock();
        if !count() {
            return None;
        }
        all.tickets += 1;
        let ticket = all.tickets;
        all.lines.entry(key).or_default().push_back(ticket);
        Some(ticket)
    }

    /// Whether one is among the first of so many.
    pub(super) fn is_among(&self, key: Key, ticket: u64, first: impl FnOnce() -> u64) -> bool {
        let all = self.lock();
        let first = usize::try_from(first()).unwrap_or(usize::MAX);
        all.lines.get(&key).is_some_and(|line| line.iter().take(first).any(|other| *other == ticket))
    }

    /// Has one leave, which tells the count how many are before it.
    pub(super) fn leave<R>(&self, key: Key, ticket: u64, uncount: impl FnOnce(u64) -> R) -> Option<R> {
        let mut all = self.lock();
        let line = all.lines.get_mut(&key)?;
        // They are in the order of their tickets.
        let before = line.binary_search(&ticket).ok()?;
        let done = uncount(before as u64);
        line.remove(before);
        if line.is_empty() {
            all.lines.remove(&key);
        }
        Some(done)
    }
}
