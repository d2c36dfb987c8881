//! Watching for the last sender, and the last receiver, to be gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::channel::Channel;
use super::lives::{Lives, Role, has_hung_up};
use crate::control::Control;
use crate::sys;

/// Begins when somebody first waits: who does not finds it out by the next message that does not go, or come.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The number of forks, when it began.
    forks: AtomicU64,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// How often a process looks that can have no control thread, or no descriptor for a watch.
const TURN: Duration = Duration::from_millis(10);

impl Watch {
    pub(super) fn begin(&self, channel: &Weak<Channel>, lives: &Lives) {
        let forks = sys::forks();
        if self.forks.swap(forks, Relaxed) == forks {
            return;
        }
        let Ok(control) = Control::get() else { return look_by_turns(Weak::clone(channel)) };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for role in [Role::Sender, Role::Receiver] {
            let (channel, pipe) = (Weak::clone(channel), Arc::clone(lives.of_role(role)));
            let task = control.runtime().spawn(async move {
                gone(&pipe).await;
                if let Some(channel) = channel.upgrade() {
                    channel.close();
                }
            });
            tasks.push(task.abort_handle());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn gone(pipe: &Arc<OwnedFd>) {
    while !has_hung_up(pipe) {
        if changed(pipe).await.is_err() {
            tokio::time::sleep(TURN).await;
        }
    }
}

/// Waits until something becomes of a pipe: whatever is written to it by a hostile process stays there, and is heard once.
async fn changed(pipe: &Arc<OwnedFd>) -> io::Result<()> {
    let watch = sys::watch(Arc::clone(pipe))?;
    loop {
        let mut readable = watch.readable().await?;
        if has_hung_up(pipe) {
            return Ok(());
        }
        readable.clear_ready();
    }
}

fn look_by_turns(channel: Weak<Channel>) {
    let look = move || {
        while let Some(channel) = channel.upgrade() {
            channel.look_for_lives();
            let is_closed = channel.is_closed();
            drop(channel);
            if is_closed {
                return;
            }
            std::thread::sleep(TURN);
        }
    };
    // Where the system has no room for a thread, those that wait do so until they are given up.
    drop(std::thread::Builder::new().name("procession".into()).spawn(look));
}
