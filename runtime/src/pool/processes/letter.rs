//! What goes by the link between a pool and a worker: all that is long, has handles, or comes seldom.

use serde::{Deserialize, Serialize};

use crate::link::Report;
use crate::pool::enclosed::Enclosed;
use crate::pool::which::Function;

/// What a pool tells a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Look at the board.
    Look,
    /// A function that jobs will name by its number: the first is zero.
    Function(Function),
    /// What the next job has for its bytes and handles whose place on the board says that it is too long for that.
    Job(Enclosed),
    /// Nobody waits any more for what this slot's job gives: it is to be given up where it stands.
    GiveUp { slot: u16, turn: u64 },
}

/// What a job's slot is, and what is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) slot: u16,
    pub(super) turn: u64,
    /// The number of its function.
    pub(super) function: u32,
    /// How many items it has: of one, the bytes are the arguments; of several, each has its length before it.
    pub(super) count: u32,
    /// Whether the worker is to tell when it starts each.
    pub(super) is_timed: bool,
    /// Whether the job itself comes in a letter: this is its place among the others.
    pub(super) is_long: bool,
}

impl Head {
    /// As it stands on the board, before so many bytes.
    pub(super) fn to_words(self, length: usize) -> [u64; 3] {
        let first = length as u64 | u64::from(self.slot) << 32 | u64::from(self.is_timed) << 48;
        let first = first | u64::from(self.is_long) << 49;
        [first, self.turn, u64::from(self.function) << 32 | u64::from(self.count)]
    }

    pub(super) fn from_words([first, turn, third]: [u64; 3]) -> Self {
        Self {
            slot: (first >> 32) as u16,
            turn,
            function: (third >> 32) as u32,
            count: third as u32,
            is_timed: first >> 48 & 1 == 1,
            is_long: first >> 49 & 1 == 1,
        }
    }
}

/// What a worker tells its pool.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Look at the board.
    Look,
    /// What became of what it does first, `None` if there was nothing to do, and how long that took, in nanoseconds.
    Ready { done: Result<Option<Enclosed>, Report>, elapsed: u64 },
    /// It has the handles of this slot's job, and starts it. The job may be done, and another one in its slot, when this is heard.
    Took { slot: u16, turn: u64 },
    /// What became of an item, whose place on the board it has left open.
    Done { slot: u16, item: u32, result: Result<Enclosed, Report> },
}

/// What a record of the ring of results says, in its head's first word above the length and the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// An item has returned, and this is what.
    Returned = 1,
    /// An item is done, and a letter says what became of it.
    Mailed = 2,
    /// The items that are left do not start, because the job was stopped.
    Stopped = 3,
}

impl Mark {
    /// As it stands on the board, before so many bytes, with how long the job has taken so far, in nanoseconds.
    pub(super) fn to_words(self, slot: u16, length: usize, elapsed: u64) -> [u64; 2] {
        [length as u64 | u64::from(slot) << 32 | (self as u64) << 48, elapsed]
    }

    pub(super) fn from_words([first, elapsed]: [u64; 2]) -> Option<(Self, u16, u64)> {
        let mark = match first >> 48 {
            1 => Self::Returned,
            2 => Self::Mailed,
            3 => Self::Stopped,
            _ => return None,
        };
        Some((mark, (first >> 32) as u16, elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_stand_on_the_board_as_they_are() {
        for (is_timed, is_long) in [(true, false), (false, true)] {
            let (slot, turn, function, count) = (u16::MAX, 1 << 50, u32::MAX - 1, 77_777);
            let head = Head { slot, turn, function, count, is_timed, is_long };
            let words = head.to_words(0xffff_ffff);
            assert_eq!((Head::from_words(words), words[0] as u32), (head, u32::MAX));
        }
        let marks = [Mark::Returned, Mark::Mailed, Mark::Stopped];
        assert!(marks.iter().all(|mark| Mark::from_words(mark.to_words(3, 9, 5)) == Some((*mark, 3, 5))));
        assert_eq!(Mark::from_words([9 << 48, 0]), None);
    }
}
