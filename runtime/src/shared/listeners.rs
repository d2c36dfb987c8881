//! Tasks that listen to the bells of a region, one in each runtime in which somebody waits.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::io::Interest;
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
    task: JoinHandle<()>,
}

/// Where the system has no room for a watch, those who wait look again so often.
const WITHOUT: Duration = Duration::from_millis(10);

impl Listeners {
    /// Has the current runtime listen to a bell from now on.
    pub(super) fn listen(&self, attachment: &Arc<Attachment>, bell: u32, waker: &Waker) {
        let control = Control::get().ok().map(Control::runtime);
        let current = Handle::try_current();
        let Some(runtime) = current.as_ref().ok().or(control) else { return waker.wake_by_ref() };
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = |it: &Listener| it.runtime == runtime.id() && it.bell == bell && !it.task.is_finished();
        if listeners.iter().any(is_this) {
            return;
        }
        listeners.retain(|listener| !listener.task.is_finished());
        match listener(attachment, bell, runtime) {
            Ok(task) => listeners.push(Listener { runtime: runtime.id(), bell, task }),
            Err(_no_room) => {
                let waker = waker.clone();
                let again = async move {
                    tokio::time::sleep(WITHOUT).await;
                    waker.wake();
                };
                drop(control.map(|control| control.spawn(again)));
            }
        }
    }

    pub(super) fn stop(&self) {
        let listeners = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        listeners.iter().for_each(|listener| listener.task.abort());
    }
}

fn listener(attachment: &Arc<Attachment>, bell: u32, runtime: &Handle) -> io::Result<JoinHandle<()>> {
    let socket = attachment.bells.listener(bell).ok_or(io::ErrorKind::NotFound)?;
    let _inside = runtime.enter();
    let watch = sys::watch_for(Arc::clone(socket), Interest::READABLE)?;
    let attachment: Weak<Attachment> = Arc::downgrade(attachment);
    Ok(runtime.spawn(async move {
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
    }))
}
