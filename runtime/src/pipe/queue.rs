//! What waits to be written to a socket: bytes in pieces, and descriptors beside them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use crate::wire::handles::{self, MAX_HANDLES};

/// Short messages are gathered in pieces of up to this many bytes.
const PIECE: usize = 64 << 10;

/// How many bytes may wait for the receiver to make room, besides what the kernel holds. More is not accepted.
const BACKLOG: usize = 64 << 10;

/// How many bytes of a run of messages are written at once.
pub(super) const BATCH: usize = 16 << 10;

/// How many pieces go with one call.
const AT_ONCE: usize = 16;

/// Frames in the order in which they were accepted.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes in all of them.
    unsent: usize,
    /// Messages that came since something was written.
    gathered: usize,
    /// Descriptors beside them.
    handles: usize,
    /// The room of a piece that was written.
    spare: Vec<u8>,
    /// How much is to wait before the socket is tried again: it was full.
    next_write: usize,
    broken: Option<Broken>,
}

/// Bytes, and the descriptors that go beside the first of them.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    written: usize,
    handles: Vec<Arc<OwnedFd>>,
}

/// Why nothing can be written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The receiver is gone.
    Closed,
    System(Errno),
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    Little,
    /// So many bytes, or descriptors, that one more message may not.
    Much,
}

/// What came of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    All,
    /// The receiver has not made room.
    Full,
    /// The system is short of something that comes back: memory, or descriptors in flight.
    Crowded,
}

impl Queue {
    /// How many bytes wait.
    pub(super) const fn unsent(&self) -> usize {
        self.unsent
    }

    /// How many messages have come since something was written.
    pub(super) const fn gathered(&self) -> usize {
        self.gathered
    }

    /// Behind descriptors nothing may wait: so their number stays bounded.
    pub(super) const fn waiting(&self) -> Waiting {
        if self.unsent <= BACKLOG && self.handles == 0 { Waiting::Little } else { Waiting::Much }
    }

    /// # Errors
    /// If nothing can be written any more.
    pub(super) fn check(&self) -> Result<(), Broken> {
        self.broken.map_or(Ok(()), Err)
    }

    /// Whether to write now: a batch waits, and the socket is worth a try, or it is to be heard that it is broken.
    pub(super) fn is_due(&self, batch: usize) -> bool {
        self.unsent >= batch.max(self.next_write) || self.broken.is_some()
    }

    /// Takes a frame: its head with the descriptors beside it, and its long strings.
    pub(super) fn push(&mut self, head: &[&[u8]], handles: Vec<Arc<OwnedFd>>, strings: Vec<Vec<u8>>) {
        if self.broken.is_some() {
            return;
        }
        self.gathered += 1;
        self.push_head(head, handles);
        for bytes in strings {
            self.unsent += bytes.len();
            self.pieces.push_back(Piece { bytes, ..Piece::default() });
        }
    }

    fn push_head(&mut self, head: &[&[u8]], handles: Vec<Arc<OwnedFd>>) {
        let length: usize = head.iter().map(|part| part.len()).sum();
        self.unsent += length;
        self.handles += handles.len();
        let fits = |piece: &&mut Piece| handles.is_empty() && piece.bytes.len() + length <= PIECE;
        if let Some(last) = self.pieces.back_mut().filter(fits) {
            head.iter().for_each(|part| last.bytes.extend_from_slice(part));
            return;
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.reserve(length);
        head.iter().for_each(|part| bytes.extend_from_slice(part));
        if handles.len() <= MAX_HANDLES {
            self.pieces.push_back(Piece { bytes, written: 0, handles });
        } else {
            self.push_in_turns(bytes, &handles);
        }
    }

    /// More descriptors than go with one call: each byte takes as many as there may be.
    fn push_in_turns(&mut self, mut bytes: Vec<u8>, handles: &[Arc<OwnedFd>]) {
        let mut turns = handles.chunks(MAX_HANDLES).peekable();
        while let Some(turn) = turns.next() {
            let rest = if turns.peek().is_some() { bytes.split_off(1) } else { Vec::new() };
            self.pieces.push_back(Piece { bytes, written: 0, handles: turn.to_vec() });
            bytes = rest;
        }
    }

    /// Writes as much as the kernel takes.
    ///
    /// # Errors
    /// If nothing can be written any more; what has waited is gone.
    pub(super) fn write(&mut self, socket: &OwnedFd) -> Result<Written, Broken> {
        self.check()?;
        while self.unsent > 0 {
            match self.write_once(socket) {
                Ok(written) => {
                    self.gathered = 0;
                    self.advance(written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.next_write = self.unsent + BATCH;
                    return Ok(Written::Full);
                }
                Err(Errno::TOOMANYREFS | Errno::NOMEM | Errno::NOBUFS) => return Ok(Written::Crowded),
                Err(error) => return Err(self.give_up(error)),
            }
        }
        self.next_write = 0;
        Ok(Written::All)
    }

    fn write_once(&self, socket: &OwnedFd) -> rustix::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        let first = self.pieces.front().map_or(&[][..], |piece| &piece.handles);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            if count > 0 && !piece.handles.is_empty() {
                break;
            }
            *slice = IoSlice::new(&piece.bytes[piece.written..]);
            count += 1;
        }
        let beside: Vec<_> = first.iter().map(AsFd::as_fd).collect();
        handles::send_now(socket, &slices[..count], &beside)
    }

    fn advance(&mut self, mut written: usize) {
        self.unsent -= written;
        while let Some(first) = self.pieces.front_mut() {
            self.handles -= first.handles.len();
            first.handles = Vec::new();
            let left = first.bytes.len() - first.written;
            if written < left {
                first.written += written;
                return;
            }
            written -= left;
            if let Some(Piece { mut bytes, .. }) = self.pieces.pop_front()
                && bytes.capacity() <= 2 * PIECE
            {
                bytes.clear();
                self.spare = bytes;
            }
            if written == 0 {
                return;
            }
        }
    }

    fn give_up(&mut self, error: Errno) -> Broken {
        let is_gone = matches!(error, Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN);
        let broken = if is_gone { Broken::Closed } else { Broken::System(error) };
        *self = Self { broken: Some(broken), ..Self::default() };
        broken
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Closed => io::ErrorKind::BrokenPipe.into(),
            Broken::System(error) => error.into(),
        }
    }
}
