//! What a sender has accepted, and who writes it: the sender, a task of its runtime, or one of the control thread.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::select;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::lingering::Lingering;
use super::queue::{BATCH, Broken, Queue, Waiting, Written};
use super::watch::{Done, Watch};
use crate::control::Control;
use crate::wire::handles::CROWDED;

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

/// What its tasks share.
#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Whether a task of the control thread looks after it.
    is_drained: bool,
    /// The sender's task, if it waits. Room that others make by writing is no event of the socket's.
    sender: Option<Waker>,
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
        state.queue.check()?;
        Ok(state.queue.unsent() == 0)
    }

    /// Whether one more message may wait.
    ///
    /// # Errors
    /// If nothing can be written any more.
    pub(super) fn has_room(&self) -> Result<bool, Broken> {
        let state = self.state();
        state.queue.check()?;
        Ok(state.queue.waiting() == Waiting::Little)
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
    /// and by the control thread where that does not come. Where no runtime is current it is written at once.
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
        state.queue.push(head, handles, strings);
        let batch = if is_run { BATCH } else { 0 };
        if state.queue.is_due(batch) {
            self.write_locked(&mut state)?;
        }
        let waiting = state.queue.waiting();
        if state.queue.unsent() > 0 {
            self.waits.store(true, Relaxed);
            // Looked at before it is written: that is cheaper, and most find it set.
            let flushes = state.queue.unsent() < batch
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

    /// As [`write`](Self::write), for a [`Watch`]: where there is no room it would block. What the system is short of is not
    /// waited for here.
    ///
    /// # Errors
    /// `WouldBlock`, or that nothing can be written any more.
    pub(super) fn write_or_block(&self) -> io::Result<Done<Written>> {
        or_block(self.write())
    }

    /// As [`write`](Self::write), by a task: wakes the sender's, which may wait for room.
    fn write_for_sender(&self) -> Result<Written, Broken> {
        let mut state = self.state();
        let before = state.queue.unsent();
        let written = self.write_locked(&mut state);
        let sender = if state.queue.unsent() < before { state.sender.take() } else { None };
        drop(state);
        sender.into_iter().for_each(Waker::wake);
        written
    }

    /// Has this task woken when others have written.
    pub(super) fn wake_when_written(&self, context: &Context<'_>) {
        self.state().sender = Some(context.waker().clone());
    }

    fn write_locked(&self, state: &mut State) -> Result<Written, Broken> {
        let written = state.queue.write(&self.socket);
        if state.queue.unsent() == 0 {
            self.waits.store(false, Relaxed);
            if state.is_drained {
                self.emptied.notify_one();
            }
        }
        written
    }

    fn flush_soon(self: &Arc<Self>) {
        let flushing = Flushing(Arc::downgrade(self));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(flushing.flush())),
            // Nothing would come between this thread's messages: what is dropped writes now.
            Err(_none) => drop(flushing),
        }
    }

    /// Lets the control thread write what the sender does not.
    pub(super) fn drain(self: &Arc<Self>) {
        self.drain_locked(self.state());
    }

    fn drain_locked(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.is_drained || state.queue.unsent() == 0 {
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
        let is_drained = state.queue.unsent() == 0;
        state.is_drained = !is_drained;
        is_drained
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
            let unsent = outbox.state().queue.unsent();
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
        if outbox.state().queue.gathered() == 1 {
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
