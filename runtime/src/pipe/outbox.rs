//! What a sender has accepted, and the kernel has not taken yet.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::lingering::Lingering;
use super::watch::{Done, Watch};
use crate::control::Control;
use crate::wire::handles::{self, CROWDED, MAX_HANDLES};

/// Short messages are gathered in pieces of up to this many bytes.
const PIECE: usize = 64 << 10;

/// How many bytes may wait for the receiver to make room, besides what the kernel holds. More is not accepted.
const BACKLOG: usize = 64 << 10;

/// How many bytes of a run of messages are written at once.
const BATCH: usize = 16 << 10;

/// How many pieces go with one call.
const AT_ONCE: usize = 16;

/// How long the control thread leaves it to the sender to write what it has accepted.
const TICK: Duration = Duration::from_millis(1);

/// After how many ticks without room it waits for room instead.
const PATIENCE: u32 = 10;

/// The bytes that wait, and the descriptors beside them.
#[derive(Debug)]
pub(super) struct Outbox {
    socket: Arc<OwnedFd>,
    state: Mutex<State>,
    /// Told when nothing waits any more.
    emptied: Notify,
    /// Whether a task of the runtime that was current is about to write.
    is_flushing: AtomicBool,
    /// Whether something waits, for those who need not know for sure.
    waits: AtomicBool,
    /// Whether a message has waited for others, and none came: it had better been written.
    was_alone: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
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
    /// Whether a task of the control thread looks after it.
    is_drained: bool,
    /// The sender's task, if it waits. Room that others make by writing is no event of the socket's.
    sender: Option<Waker>,
}

/// Bytes, and the descriptors that go beside the first of them.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    written: usize,
    pub(super) handles: Vec<Arc<OwnedFd>>,
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

impl Outbox {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Self {
        Self {
            socket,
            state: Mutex::default(),
            emptied: Notify::new(),
            is_flushing: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            was_alone: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing waits.
    ///
    /// # Errors
    /// If nothing can be written any more.
    pub(super) fn is_empty(&self) -> Result<bool, Broken> {
        let state = self.state();
        state.broken.map_or(Ok(state.unsent == 0), Err)
    }

    /// Whether one more message may wait.
    ///
    /// # Errors
    /// If nothing can be written any more.
    pub(super) fn has_room(&self) -> Result<bool, Broken> {
        let state = self.state();
        state.broken.map_or(Ok(state.waiting() == Waiting::Little), Err)
    }

    /// Whether something waits, or did a moment ago.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Relaxed)
    }

    /// Whether a message has waited in vain since this was asked.
    pub(super) fn take_was_alone(&self) -> bool {
        self.was_alone.load(Relaxed) && self.was_alone.swap(false, Relaxed)
    }

    /// Takes a frame, its head with the descriptors beside it and its long strings, and writes. One of a run waits for more of
    /// it, and is written soon whether or not its sender is used again: at the next chance of the runtime that is current,
    /// and by the control thread where that does not come.
    ///
    /// # Errors
    /// If nothing can be written any more.
    pub(super) fn push(
        self: &Arc<Self>,
        head: &[&[u8]],
        handles: Vec<Arc<OwnedFd>>,
        strings: Vec<Vec<u8>>,
        is_run: bool,
    ) -> Result<Waiting, Broken> {
        let mut state = self.state();
        state.push(head, handles, strings);
        let batch = if is_run { BATCH } else { 0 };
        if state.unsent >= batch.max(state.next_write) || state.broken.is_some() {
            self.write_locked(&mut state)?;
        }
        let waiting = state.waiting();
        if state.unsent > 0 {
            self.waits.store(true, Relaxed);
            // Looked at before it is written: that is cheaper, and most find it set.
            let flushes = state.unsent < batch
                && !self.is_flushing.load(Relaxed)
                && !self.is_flushing.swap(true, Relaxed);
            self.drain_locked(state);
            if flushes {
                // Not while it is locked: a runtime that has ended drops the task at once, which writes.
                self.flush_soon();
            }
        }
        Ok(waiting)
    }

    /// Writes as much as the kernel takes.
    ///
    /// # Errors
    /// If nothing can be written any more; what has waited is gone.
    pub(super) fn write(&self) -> Result<Written, Broken> {
        self.write_locked(&mut self.state())
    }

    /// The same, for the sender, who may wait for it.
    fn write_for_sender(&self) -> Result<Written, Broken> {
        let mut state = self.state();
        let before = state.unsent;
        let written = self.write_locked(&mut state);
        let sender = if state.unsent < before { state.sender.take() } else { None };
        drop(state);
        sender.into_iter().for_each(Waker::wake);
        written
    }

    /// Has this task woken when others have written.
    pub(super) fn wake_when_written(&self, context: &Context<'_>) {
        self.state().sender = Some(context.waker().clone());
    }

    fn write_locked(&self, state: &mut State) -> Result<Written, Broken> {
        let written = state.write(&self.socket);
        if state.unsent == 0 {
            self.waits.store(false, Relaxed);
            if state.is_drained {
                self.emptied.notify_one();
            }
        }
        written
    }

    /// The same, for a [`Watch`]; memory that the system is short of is not waited for here.
    pub(super) fn write_or_block(&self) -> io::Result<Done<Written>> {
        or_block(self.write())
    }

    fn flush_soon(self: &Arc<Self>) {
        let flushing = Flushing(Arc::downgrade(self));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(flushing.flush())),
            // The control thread will.
            Err(_none) => drop(flushing),
        }
    }

    /// Lets the control thread write what the sender does not.
    pub(super) fn drain(self: &Arc<Self>) {
        self.drain_locked(self.state());
    }

    fn drain_locked(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.is_drained || state.unsent == 0 {
            return;
        }
        // Without a control thread there is no process left to speak of.
        let Ok(control) = Control::get() else { return };
        state.is_drained = true;
        drop(state);
        control.run(drain(Arc::clone(self), Lingering::begin()));
    }

    async fn write_when_there_is_room(&self) {
        let mut watch = Watch::new(Interest::WRITABLE);
        // An epoll takes a descriptor once, and this one's may be in it for the sender.
        let Ok(socket) = self.socket.try_clone().map(Arc::new) else { return };
        drop(poll_fn(|context| watch.poll_by(&socket, context, || or_block(self.write_for_sender()))).await);
    }

    /// Whether the control thread is done.
    fn is_drained(&self) -> bool {
        let mut state = self.state();
        let is_drained = state.unsent == 0;
        state.is_drained = !is_drained;
        is_drained
    }
}

impl State {
    /// Behind descriptors nothing may wait: so their number stays bounded.
    fn waiting(&self) -> Waiting {
        if self.unsent <= BACKLOG && self.handles == 0 { Waiting::Little } else { Waiting::Much }
    }

    fn push(&mut self, head: &[&[u8]], handles: Vec<Arc<OwnedFd>>, strings: Vec<Vec<u8>>) {
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

    fn write(&mut self, socket: &OwnedFd) -> Result<Written, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
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
        let (is_drained, sender) = (self.is_drained, self.sender.take());
        *self = Self { broken: Some(broken), is_drained, sender, ..Self::default() };
        broken
    }
}

fn or_block(written: Result<Written, Broken>) -> io::Result<Done<Written>> {
    match written {
        Ok(Written::Full) => Err(io::ErrorKind::WouldBlock.into()),
        Ok(written) => Ok(Done::Some(written)),
        Err(broken) => Err(broken.into()),
    }
}

/// Writes when it is dropped: when its task is done, or when its runtime ends before that. A sender that is dropped does not
/// wait for it: the runtime may stand still.
struct Flushing(Weak<Outbox>);

impl Flushing {
    /// Waits for as long as each look finds more: whoever sends in a run is not done yet. A whole batch does not wait for this.
    async fn flush(self) {
        let mut waits = 0;
        loop {
            yield_now().await;
            let Some(outbox) = self.0.upgrade() else { return };
            let unsent = outbox.state().unsent;
            if unsent <= waits {
                return;
            }
            waits = unsent;
        }
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        let Some(outbox) = self.0.upgrade() else { return };
        outbox.is_flushing.store(false, Relaxed);
        if outbox.state().gathered == 1 {
            outbox.was_alone.store(true, Relaxed);
        }
        // What comes of it is told to whoever sends next; what is left is for the control thread.
        let _ = outbox.write_for_sender();
    }
}

/// Writes, on the control thread, until nothing is left.
async fn drain(outbox: Arc<Outbox>, _until_then: Lingering) {
    let (mut pause, mut ticks) = (TICK, 0);
    loop {
        sleep(pause).await;
        let written = outbox.write_for_sender();
        ticks = if written == Ok(Written::Full) { ticks + 1 } else { 0 };
        pause = if written == Ok(Written::Crowded) { CROWDED } else { TICK };
        if outbox.is_drained() {
            return;
        }
        if ticks > PATIENCE {
            select! {
                // An error is told to whoever sends next.
                () = outbox.write_when_there_is_room() => {}
                () = outbox.emptied.notified() => {}
            }
        }
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
