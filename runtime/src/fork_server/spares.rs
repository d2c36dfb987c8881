//! Children that are started ahead.

use std::future::Future;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Ahead, Forked, Server, Servers};
use crate::control::Control;
use crate::end::{End, adopt};
use crate::error::{Cause, ProcessError, Stage};
use crate::sys;

/// How long spares wait for a call, any call, before they are given up.
const IDLE: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(60) };

/// Spares are refilled when nothing was started for so long: a fork beside a call that is in a hurry would slow it down.
const PAUSE: Duration = Duration::from_millis(2);

/// How often that is waited for: where starts do not cease, spares come all the same.
const PAUSES: u32 = 10;

/// Keeps up to `count` child processes started ahead, each for one call of any function: a call then costs no start, but a
/// message. Waits until they are there; from then on they are refilled in the background. With 0 they are given up.
///
/// A spare serves the calls that use [`StartMethod::ForkServer`](crate::StartMethod::ForkServer). Environment, directory
/// and all else is that of the call, or the parent's at the time of the call. One that has died is never handed out. When
/// no child was started for a minute the spares are ended; the next call starts without one, and has them refilled.
///
/// # Errors
/// Why they cannot be started. The number holds all the same, and calls start their children themselves.
///
/// # Cancel safety
/// When this is dropped after it was polled, the number holds, and the spares come.
pub async fn warm(count: usize) -> Result<(), ProcessError> {
    let warmed = async {
        let control = Control::get()?;
        let (told, warm) = oneshot::channel();
        control.run(async move { drop(told.send(control.servers().warm(count).await)) });
        warm.await.unwrap_or_else(|_gone| Err(Cause::StatusLost { reason: "nobody watches over it".into() }))
    };
    warmed.await.map_err(|cause| ProcessError::new("spare", None, cause))
}

/// The spares of one server.
#[derive(Debug, Default)]
pub(super) struct Spares {
    waiting: Mutex<Waiting>,
    /// Held by whoever sees to it that there are enough.
    filling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    spares: Vec<Forked>,
    /// When a child was last started.
    last_used: Option<Instant>,
    /// Whether somebody will end them when they are idle.
    watched: bool,
}

impl Spares {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are that live.
    fn len(&self) -> usize {
        let mut waiting = self.waiting();
        let dead =
            waiting.spares.extract_if(.., |spare| sys::is_readable(spare.pidfd.as_fd())).collect::<Vec<_>>();
        dead.into_iter().for_each(end);
        waiting.spares.len()
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        let spares = std::mem::take(&mut self.waiting().spares);
        spares.into_iter().for_each(end);
    }
}

fn end(spare: Forked) {
    // An error means that it has ended.
    let _ = pidfd_send_signal(&spare.pidfd, Signal::KILL);
    run(async move {
        if let End::Forked(told) = spare.end
            && told.await.is_err()
        {
            adopt(spare.pidfd).await;
        }
    });
}

impl Server {
    /// A spare that lives, if there is one.
    pub(crate) fn take_spare(&self) -> Option<Forked> {
        let mut waiting = self.spares.waiting();
        waiting.last_used = Some(Instant::now());
        loop {
            let spare = waiting.spares.pop()?;
            if !sys::is_readable(spare.pidfd.as_fd()) {
                return Some(spare);
            }
            end(spare);
        }
    }

    /// Starts spares until there are as many as there are to be; some may die meanwhile, but whatever ends all of them would end
    /// the next, too.
    async fn fill(&self, count: &AtomicUsize) -> Result<(), Cause> {
        for _ in 0..=2 * count.load(Relaxed) {
            if self.spares.len() >= count.load(Relaxed) || self.is_retired() || !self.lives() {
                return Ok(());
            }
            let requested = self.request(Ahead::Everything).await?;
            let spare = self.hello(requested, &CancellationToken::new()).await?;
            if self.is_retired() || !self.lives() || self.spares.len() >= count.load(Relaxed) {
                end(spare);
                return Ok(());
            }
            self.spares.waiting().spares.push(spare);
        }
        Err(Cause::start(Stage::Spawn, "spare processes end as soon as they are there"))
    }

    /// Ends those that are too many.
    fn keep_spares(&self, count: usize) {
        let mut waiting = self.spares.waiting();
        let kept = waiting.spares.len().min(count);
        let excess = waiting.spares.split_off(kept);
        drop(waiting);
        excess.into_iter().for_each(end);
    }
}

impl Servers {
    async fn warm(&'static self, count: usize) -> Result<(), Cause> {
        self.spares.store(count, Relaxed);
        if count == 0 {
            if let Some(server) = self.current().await {
                server.keep_spares(0);
            }
            return Ok(());
        }
        loop {
            let here = Control::get()?.station()?;
            let server = self.suiting(&here).await?;
            server.spares.waiting().last_used = Some(Instant::now());
            server.keep_spares(count);
            let _filling = server.spares.filling.lock().await;
            self.fill(&server).await?;
            // Another may have taken its place meanwhile, and its spares with it.
            if !server.is_retired() {
                return Ok(());
            }
        }
    }

    /// Has the spares of a server be as many as there are to be, in the background.
    pub(crate) fn refill(&'static self, server: &Arc<Server>) {
        if self.spares.load(Relaxed) <= server.spares.waiting().spares.len() {
            return;
        }
        let server = Arc::clone(server);
        run(async move {
            let Ok(_filling) = server.spares.filling.try_lock() else { return };
            for _ in 0..PAUSES {
                sleep(PAUSE).await;
                if server.spares.waiting().last_used.is_none_or(|last| last.elapsed() >= PAUSE) {
                    break;
                }
            }
            if let Err(error) = self.fill(&server).await {
                tracing::warn!(target: "procession", %error, "no spare process can be started");
            }
        });
    }

    async fn fill(&self, server: &Arc<Server>) -> Result<(), Cause> {
        let filled = server.fill(&self.spares).await;
        let mut waiting = server.spares.waiting();
        if !waiting.spares.is_empty() && !std::mem::replace(&mut waiting.watched, true) {
            run(end_idle_spares(Arc::downgrade(server), Instant::now()));
        }
        filled
    }
}

/// Ends the spares once nobody has started a child for [`IDLE`].
async fn end_idle_spares(server: Weak<Server>, mut used: Instant) {
    while used.elapsed() < IDLE {
        sleep(IDLE.saturating_sub(used.elapsed())).await;
        let Some(server) = server.upgrade() else { return };
        used = server.spares.waiting().last_used.map_or(used, |last| last.max(used));
    }
    if let Some(server) = server.upgrade() {
        server.spares.waiting().watched = false;
        server.spares.clear();
    }
}

/// Runs a task on the control thread.
pub(super) fn run(task: impl Future<Output = ()> + Send + 'static) {
    // This runs there: it is there.
    if let Ok(control) = Control::get() {
        control.run(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[procession_macros::process(crate = crate)]
    fn nothing() {}

    async fn count() -> usize {
        let server = Control::get().unwrap().servers().current().await;
        server.map_or(0, |server| server.spares.len())
    }

    async fn eventually(number: usize) {
        let watchdog = Instant::now();
        while count().await != number {
            assert!(watchdog.elapsed() < Duration::from_secs(60), "there are {}", count().await);
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn idle_spares_are_given_up_and_come_again() {
        warm(2).await.unwrap();
        eventually(0).await;
        nothing().await.unwrap();
        eventually(2).await;
        eventually(0).await;
        warm(0).await.unwrap();
    }
}
