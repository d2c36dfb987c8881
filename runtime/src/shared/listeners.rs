//! Tasks that listen to the bells of a region, one in each runtime in which somebody waits.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

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
    looks: Waker,
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
    fn lock(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a runtime listen to a bell from now on. A waker is called now and then where that cannot be had.
    pub(super) fn listen(&self, attachment: &Arc<Attachment>, bell: u32, runtime: &Handle, waker: &Waker) {
        // Without the lock from here on: one that cannot be started wakes those that wait for it.
        let known = hint(&self.lock(), runtime.id(), bell);
        if let Some((watch, looks)) = known {
            // Whatever this is told now the task hears as well.
            drop(watch.poll_read_ready(&mut Context::from_waker(&looks)));
            return;
        }
        match Listener::start(attachment, bell, runtime) {
            Ok(listener) => self.add(listener),
            Err(_no_room) => wake_later(waker.clone()),
        }
    }

    fn add(&self, new: Listener) {
        let mut listeners = self.lock();
        if hint(&listeners, new.runtime, new.bell).is_none() {
            listeners.push(new);
        } else {
            drop(listeners);
            new.task.abort();
        }
    }

    /// Lets go of those whose runtimes have ended, and have closed what they had.
    fn tidy(&self) {
        let ended: Vec<_> =
            self.lock().extract_if(.., |listener| listener.watch.strong_count() == 0).collect();
        drop(ended);
    }

    pub(super) fn stop(&self) {
        let listeners = std::mem::take(&mut *self.lock());
        listeners.iter().for_each(|listener| listener.task.abort());
    }
}

fn wake_later(waker: Waker) {
    let Ok(control) = Control::get() else { return waker.wake() };
    // Its runtime has a clock.
    control.run(async move {
        tokio::time::sleep(WITHOUT).await;
        waker.wake();
    });
}

impl Listener {
    fn start(attachment: &Arc<Attachment>, bell: u32, runtime: &Handle) -> io::Result<Self> {
        let descriptor = attachment.bells.listener(bell).ok_or(io::ErrorKind::NotFound)?;
        let _inside = runtime.enter();
        let watch = Arc::new(sys::watch(Arc::clone(descriptor))?);
        let (weak, attachment) = (Arc::downgrade(&watch), Arc::downgrade(attachment));
        let looks = Waker::from(Arc::new(Looks(Weak::clone(&attachment))));
        let task = runtime.spawn(Listening { watch: Some(watch), attachment }.run());
        if weak.strong_count() == 0 {
            // The runtime is ending.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(Self { runtime: runtime.id(), bell, watch: weak, looks, task })
    }
}

/// What has a runtime look as soon as it hears a bell, which is sooner than by the task: its driver need not be asked once more what is
/// ready before somebody goes on who is no task. `None` if nobody listens there.
fn hint(listeners: &[Listener], runtime: Id, bell: u32) -> Option<(Arc<Watch>, Waker)> {
    let these = listeners.iter().filter(|listener| listener.runtime == runtime && listener.bell == bell);
    these.filter_map(|listener| Some((listener.watch.upgrade()?, listener.looks.clone()))).next()
}

/// Looks who is to be woken. It stands in for the wakers of those that wait: the driver would keep these, and call them, where nobody
/// may.
struct Looks(Weak<Attachment>);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.upgrade().inspect(|attachment| attachment.look());
    }
}

/// A task that listens.
struct Listening {
    watch: Option<Arc<Watch>>,
    attachment: Weak<Attachment>,
}

impl Listening {
    async fn run(self) {
        let Some(watch) = &self.watch else { return };
        while let Ok(mut rung) = watch.readable().await {
            // It is never read: a bell is heard by its edges.
            rung.clear_ready();
            let Some(attachment) = self.attachment.upgrade() else { return };
            attachment.look();
        }
    }
}

/// A runtime that ends may have somebody left who waits by it, on a thread that it waits for.
impl Drop for Listening {
    fn drop(&mut self) {
        self.watch = None;
        if let Some(attachment) = self.attachment.upgrade() {
            attachment.listeners.tidy();
            attachment.waiters.stir();
        }
    }
}
