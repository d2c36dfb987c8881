//! Tasks that listen to the bells of a region, one in each runtime in which somebody waits.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;

use super::attachment::Attachment;
use crate::control::Control;
use crate::sys;

/// In each runtime in which somebody waits, because each drives its own: another may have ended, or stand still. Who waits where
/// no runtime is current has the control thread listen.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Vec<Listener>>);

#[derive(Debug)]
struct Listener {
    runtime: Id,
    bell: u32,
    /// The task's: it goes with its runtime.
    watch: Weak<Watch>,
    task: JoinHandle<()>,
}

type Watch = AsyncFd<Arc<OwnedFd>>;

thread_local! {
    /// Whether this thread blocks until a future is ready.
    static BLOCKS: Cell<bool> = const { Cell::new(false) };
}

/// The runtime in which this thread waits: the current one, or, where there is none, or where it could not run while this thread
/// blocks, that of the control thread.
pub(super) fn driver() -> Option<Handle> {
    let current = if BLOCKS.get() { None } else { Handle::try_current().ok() };
    current.or_else(|| Some(Control::get().ok()?.runtime().clone()))
}

/// Blocks this thread until a future is ready.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    /// What was before, also if the future panics.
    struct Before(bool);

    impl Drop for Before {
        fn drop(&mut self) {
            BLOCKS.set(self.0);
        }
    }

    let _before = Before(BLOCKS.replace(true));
    crate::block_on::block_on(future)
}

/// Where the system has no room for a watch, those who wait look again so often.
const WITHOUT: Duration = Duration::from_millis(10);

impl Listeners {
    /// Has a runtime listen to a bell from now on. A waker is called now and then where that cannot be had.
    pub(super) fn listen(&self, attachment: &Arc<Attachment>, bell: u32, runtime: &Handle, waker: &Waker) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = |it: &Listener| it.runtime == runtime.id() && it.bell == bell && !it.task.is_finished();
        if let Some(listener) = listeners.iter().find(|it| is_this(it)) {
            let watch = listener.watch.upgrade();
            drop(listeners);
            // Who sleeps last mostly is the only one, and then is woken by the bell itself, sooner than by the task. The task hears
            // whatever this one is told now.
            watch.inspect(|watch| drop(watch.poll_read_ready(&mut Context::from_waker(waker))));
            return;
        }
        listeners.retain(|listener| !listener.task.is_finished());
        match Listener::start(attachment, bell, runtime) {
            Ok(listener) => listeners.push(listener),
            Err(_no_room) => {
                let waker = waker.clone();
                let again = async move {
                    tokio::time::sleep(WITHOUT).await;
                    waker.wake();
                };
                // Its runtime has a clock.
                drop(Control::get().map(|control| control.run(again)));
            }
        }
    }

    pub(super) fn stop(&self) {
        let listeners = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        listeners.iter().for_each(|listener| listener.task.abort());
    }
}

impl Listener {
    fn start(attachment: &Arc<Attachment>, bell: u32, runtime: &Handle) -> io::Result<Self> {
        let socket = attachment.bells.listener(bell).ok_or(io::ErrorKind::NotFound)?;
        let _inside = runtime.enter();
        let watch = Arc::new(sys::watch_for(Arc::clone(socket), Interest::READABLE)?);
        let weak = Arc::downgrade(&watch);
        let task = runtime.spawn(listen(watch, Arc::downgrade(attachment)));
        Ok(Self { runtime: runtime.id(), bell, watch: weak, task })
    }
}

async fn listen(watch: Arc<Watch>, attachment: Weak<Attachment>) {
    while let Ok(mut rung) = watch.readable().await {
        // It is never read: a bell is heard by its edges. One that was closed stays so, and has none.
        let is_closed = rung.ready().is_read_closed();
        rung.clear_ready();
        let Some(attachment) = attachment.upgrade() else { return };
        attachment.look();
        drop(attachment);
        if is_closed {
            return std::future::pending().await;
        }
    }
}
