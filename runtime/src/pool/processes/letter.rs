//! What goes by the link between a pool and a worker: all that is long, has handles, or comes seldom.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::error::Cause;
use crate::image::Image;
use crate::link::Report;
use crate::pipe::Held;
use crate::wire::Packet;

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

/// A process function, as both sides know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::pool) struct Function {
    /// The entry's distance from the anchor.
    distance: i64,
    /// The entry's place and signature, in words: they must be those of what stands at that distance.
    place: String,
    signature: String,
}

impl Function {
    pub(in crate::pool) fn of(entry: &'static Entry) -> Result<Self, Cause> {
        let distance = Image::this()?.distance(entry)?;
        let (place, signature) = (entry.place.to_string(), (entry.signature)().to_owned());
        Ok(Self { distance, place, signature })
    }

    /// What stands there, if it is the same.
    pub(in crate::pool) fn find(&self) -> Option<&'static Entry> {
        let entry = Image::this().ok()?.entry_at(self.distance)?;
        let is_same = entry.place.to_string() == self.place && (entry.signature)() == self.signature;
        is_same.then_some(entry)
    }
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
    /// What became of what it does first; `None` if there was nothing to do.
    Ready(Result<Option<Enclosed>, Report>),
    /// It has the handles of this slot's job, and starts it.
    Took { slot: u16 },
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

/// A packet in a letter.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::pool) struct Enclosed {
    bytes: Bytes,
    handles: Vec<Held>,
}

impl From<Packet> for Enclosed {
    fn from(Packet { bytes, handles }: Packet) -> Self {
        Self { bytes, handles: handles.into_iter().map(Held).collect() }
    }
}

impl From<Enclosed> for Packet {
    fn from(Enclosed { bytes, handles }: Enclosed) -> Self {
        let handles: Vec<Arc<OwnedFd>> = handles.into_iter().map(|Held(handle)| handle).collect();
        Self { bytes, handles }
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
