//! Children that are started ahead.

use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::server::known;
use super::{Ahead, Forked, Server, Servers};
use crate::control::Control;
use crate::end::{End, adopt};
use crate::error::{Cause, ProcessError, Stage};
use crate::life::{Order, live_on};
use crate::start::{Called, Newborn};
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

/// A child that waits for a call, as those see it who may call it. A task on the control thread holds the rest. Dropping this
/// ends it.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) pid: Pid,
    pub(crate) pidfd: Arc<OwnedFd>,
    link: Option<Arc<OwnedFd>>,
    /// Calls off what it was told.
    pub(crate) cancelled: CancellationToken,
    desk: Arc<Desk>,
}

/// Where it is said what is to become of a spare.
#[derive(Debug, Default)]
struct Desk {
    word: Mutex<Word>,
    wake: Notify,
}

#[derive(Debug, Default)]
enum Word {
    #[default]
    Nothing,
    /// Something has become of it, and only whoever has taken it knows what that means.
    Awaited,
    /// It was told what to run.
    Called(Box<(Order, Called)>),
    Claimed(oneshot::Sender<Forked>),
    /// Nobody wants it any more.
    Dismissed,
}

impl Desk {
    fn word(&self) -> MutexGuard<'_, Word> {
        self.word.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a word there. The task is woken for it, or hears of it when something becomes of the spare.
    fn put(&self, word: Word, wakes: bool) {
        let former = std::mem::replace(&mut *self.word(), word);
        if wakes || matches!(former, Word::Awaited) {
            self.wake.notify_one();
        }
    }

    /// The word, if there is one; else whoever puts one there is to wake the task.
    fn take(&self) -> Option<Word> {
        match std::mem::replace(&mut *self.word(), Word::Awaited) {
            Word::Nothing | Word::Awaited => None,
            word => Some(word),
        }
    }
}

impl Spare {
    /// A child becomes one. Called on the control thread.
    fn new(forked: Forked, server: &Arc<Server>) -> Self {
        let spare = Self {
            pid: forked.pid,
            pidfd: Arc::clone(&forked.pidfd),
            link: Some(forked.link.socket()),
            cancelled: CancellationToken::new(),
            desk: Arc::default(),
        };
        run(attend(forked, Arc::clone(&spare.desk), spare.cancelled.clone(), Arc::downgrade(server)));
        spare
    }

    /// Where it is told what to run.
    pub(crate) fn link(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    fn lives(&self) -> bool {
        !sys::is_readable(self.pidfd.as_fd())
    }

    /// Leaves the rest of its life to its task: it was told what to run. Nobody needs to wake the control thread for that if
    /// nothing is to be done until something becomes of it.
    pub(crate) fn called(mut self, order: Order, called: Called) {
        // When its end is told, nothing of it is open here.
        self.link = None;
        let wakes = !called.needs_nothing(&order);
        self.desk.put(Word::Called(Box::new((order, called))), wakes);
    }

    /// What its task holds, and the task's end. `None` if the control thread is gone.
    pub(crate) async fn claimed(mut self) -> Option<Forked> {
        self.link = None;
        let (give, given) = oneshot::channel();
        self.desk.put(Word::Claimed(give), true);
        given.await.ok()
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if self.link.take().is_some() {
            // An error means that it has ended.
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            self.desk.put(Word::Dismissed, true);
        }
    }
}

/// Holds a spare until it is known what is to become of it, and sees to that.
///
/// A call wakes this task only if it must: it is there when the child answers, ends or is called off.
async fn attend(forked: Forked, desk: Arc<Desk>, cancelled: CancellationToken, server: Weak<Server>) {
    let Forked { pid, pidfd, link, end: End::Forked(mut told) } = forked else { return };
    let (mut heard, mut watches) = (None, true);
    let word = loop {
        tokio::select! {
            biased;
            () = desk.wake.notified() => {}
            _ = link.readable(), if watches => {}
            word = &mut told, if watches => heard = Some(word),
            () = cancelled.cancelled(), if watches => {}
        }
        watches = false;
        match desk.take() {
            Some(word) => break word,
            // It has ended before anybody has taken it.
            None if server.upgrade().is_none_or(|server| server.spares.forget(&desk)) => {
                break Word::Dismissed;
            }
            None => {}
        }
    };
    drop((desk, server));
    let end = heard.map_or_else(|| End::Forked(told), |word| End::Forked(known(word)));
    let forked = Forked { pid, pidfd, link, end };
    match word {
        Word::Called(called) => {
            let (order, called) = *called;
            live_on(order, Newborn::of(called, forked)).await;
        }
        // Whoever has claimed it and gone has closed its link, by which it ends.
        Word::Claimed(give) => drop(give.send(forked)),
        Word::Nothing | Word::Awaited | Word::Dismissed => end_of(forked).await,
    }
}

/// Ends a child that nobody has called.
async fn end_of(forked: Forked) {
    // An error means that it has ended.
    let _ = pidfd_send_signal(&forked.pidfd, Signal::KILL);
    drop(forked.link);
    if let End::Forked(told) = forked.end
        && told.await.is_err()
    {
        adopt(forked.pidfd).await;
    }
}

/// The spares of one server.
#[derive(Debug, Default)]
pub(super) struct Spares {
    waiting: Mutex<Waiting>,
    /// Held by whoever sees to it that there are enough.
    filling: tokio::sync::Mutex<()>,
    /// Whether somebody is about to.
    is_to_be_filled: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    spares: Vec<Spare>,
    /// When a child was last started.
    last_used: Option<Instant>,
    /// Whether somebody will end them when they are idle.
    watched: bool,
}

impl Spares {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, but for those that are known to have ended.
    fn len(&self) -> usize {
        self.waiting().spares.len()
    }

    /// Lets go of those that have ended.
    fn forget_dead(&self) {
        let mut waiting = self.waiting();
        let dead = waiting.spares.extract_if(.., |spare| !spare.lives()).collect::<Vec<_>>();
        drop(waiting);
        drop(dead);
    }

    /// Takes one from among those that wait; whether it was there.
    fn forget(&self, desk: &Arc<Desk>) -> bool {
        let mut waiting = self.waiting();
        let place = waiting.spares.iter().position(|spare| Arc::ptr_eq(&spare.desk, desk));
        let forgotten = place.map(|place| waiting.spares.swap_remove(place));
        drop(waiting);
        forgotten.is_some()
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        let spares = std::mem::take(&mut self.waiting().spares);
        drop(spares);
    }
}

impl Server {
    /// A spare that lives, if there is one.
    pub(crate) fn take_spare(&self) -> Option<Spare> {
        let mut waiting = self.spares.waiting();
        waiting.last_used = Some(Instant::now());
        loop {
            let spare = waiting.spares.pop()?;
            if spare.lives() {
                return Some(spare);
            }
        }
    }

    /// Starts spares until there are as many as there are to be; some may die meanwhile, but whatever ends all of them would end
    /// the next, too.
    async fn fill(self: &Arc<Self>, count: &AtomicUsize) -> Result<(), Cause> {
        self.spares.forget_dead();
        for _ in 0..=2 * count.load(Relaxed) {
            if self.spares.len() >= count.load(Relaxed) || self.is_retired() || !self.lives() {
                return Ok(());
            }
            let requested = self.request(Ahead::Everything).await?;
            Control::get()?.prepare_lifeline();
            let spare = Spare::new(self.hello(requested, &CancellationToken::new()).await?, self);
            if self.is_retired() || !self.lives() || self.spares.len() >= count.load(Relaxed) {
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
        drop(excess);
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
        if self.spares.load(Relaxed) <= server.spares.len()
            || server.spares.is_to_be_filled.swap(true, Relaxed)
        {
            return;
        }
        let server = Arc::clone(server);
        run(async move {
            for _ in 0..PAUSES {
                sleep(PAUSE).await;
                if server.spares.waiting().last_used.is_none_or(|last| last.elapsed() >= PAUSE) {
                    break;
                }
            }
            let _filling = server.spares.filling.lock().await;
            // Whoever takes one from now on has another filler see to it.
            server.spares.is_to_be_filled.store(false, Relaxed);
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
