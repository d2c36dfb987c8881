//! Which server a process uses now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep_until};

use super::serve::MORE_THREADS;
use super::spares::run;
use super::{Server, Station};
use crate::control::Control;
use crate::error::{Cause, Stage};
use crate::plan::Plan;

/// How long the next server waits when one has died or failed; it doubles from time to time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The fork servers of a process: one that is used, and those that have been.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    state: Mutex<State>,
    /// How many times a server was started, or tried to.
    attempts: AtomicU64,
    /// How many spares there are to be.
    pub(super) spares: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<Server>>,
    preloads: Vec<Plan>,
    /// Why this program can have none, whatever is tried.
    unfit: Option<Cause>,
    pause: Pause,
    /// How the last attempt has failed, and its number.
    failed: Option<(u64, Cause)>,
}

/// What lies between a server that has failed and the next.
#[derive(Debug, Default)]
struct Pause {
    length: Duration,
    until: Option<Instant>,
}

impl Pause {
    /// Lengthens it; a server that has served for longer than the longest pause was none that fails all the time.
    fn server_failed(&mut self) {
        let now = Instant::now();
        let calm = self.until.is_none_or(|until| now > until + LONGEST_PAUSE);
        self.length = if calm { FIRST_PAUSE } else { (self.length * 2).min(LONGEST_PAUSE) };
        self.until = Some(now + self.length);
    }

    async fn over(&self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
        }
    }
}

impl Servers {
    /// A server whose children may be taken for those of a process that is here: the one there is, or a new one.
    ///
    /// # Cancel safety
    /// Safe: a server that is being started goes on to start.
    pub(crate) async fn suiting(&'static self, here: &Station) -> Result<Arc<Server>, Cause> {
        let known = self.attempts.load(Relaxed);
        let mut state = self.state.lock().await;
        match &state.current {
            Some(server) if server.lives() && server.there.suits(here) => return Ok(Arc::clone(server)),
            Some(server) if !server.lives() => {
                state.current = None;
                state.pause.server_failed();
            }
            _ => {}
        }
        drop(state);
        let (told, started) = oneshot::channel();
        run(async move { drop(told.send(self.start_next(known).await)) });
        started
            .await
            .unwrap_or_else(|_gone| Err(Cause::StatusLost { reason: "nobody starts a server".into() }))
    }

    /// Starts a server, unless somebody else has done so since there were so many attempts: then theirs counts.
    async fn start_next(&'static self, known: u64) -> Result<Arc<Server>, Cause> {
        let mut state = self.state.lock().await;
        let here = Control::get()?.station()?;
        if let Some(server) =
            state.current.as_ref().filter(|server| server.lives() && server.there.suits(&here))
        {
            return Ok(Arc::clone(server));
        }
        if let Some((_, cause)) = state.failed.as_ref().filter(|(number, _)| *number > known) {
            return Err(cause.clone());
        }
        if let Some(unfit) = &state.unfit {
            return Err(unfit.clone());
        }
        state.pause.over().await;
        let number = self.attempts.fetch_add(1, Relaxed) + 1;
        let started = state.start(here).await;
        state.failed = started.as_ref().err().map(|cause| (number, cause.clone()));
        started.inspect(|server| self.refill(server))
    }

    /// The server there is, if that can be told at once.
    pub(crate) fn at_hand(&self) -> Option<Arc<Server>> {
        self.state.try_lock().ok()?.current.as_ref().filter(|server| server.seems_to_live()).map(Arc::clone)
    }

    /// The server there is, if there is one.
    pub(super) async fn current(&self) -> Option<Arc<Server>> {
        self.state.lock().await.current.clone()
    }

    /// Whether this program can have no server, and nothing that it wants depends on one.
    pub(crate) async fn are_unfit(&self) -> bool {
        let state = self.state.lock().await;
        state.unfit.is_some() && state.preloads.is_empty()
    }

    /// Starts a server that has run this, after those before it.
    pub(crate) async fn preload(&'static self, plan: Plan) -> Result<(), Cause> {
        let mut state = self.state.lock().await;
        let here = Control::get()?.station()?;
        state.preloads.push(plan);
        match state.start(here).await {
            Ok(server) => {
                self.refill(&server);
                Ok(())
            }
            Err(cause) => {
                state.preloads.pop();
                state.unfit = None;
                Err(cause)
            }
        }
    }
}

impl State {
    /// Starts one in place of the one there is.
    async fn start(&mut self, here: Station) -> Result<Arc<Server>, Cause> {
        let started = Server::start(here, &self.preloads).await;
        match started {
            Ok(server) => {
                if let Some(former) = self.current.replace(Arc::clone(&server)) {
                    former.retire();
                }
                Ok(server)
            }
            Err(cause) => {
                self.pause.server_failed();
                if self.preloads.is_empty() && is_of_threads(&cause) {
                    self.unfit = Some(cause.clone());
                }
                Err(cause)
            }
        }
    }
}

fn is_of_threads(cause: &Cause) -> bool {
    matches!(cause, Cause::Start { stage: Stage::Server, reason, .. } if reason.starts_with(MORE_THREADS))
}

pub(crate) fn cannot_look(error: &std::io::Error) -> Cause {
    Cause::system(Stage::Spawn, "cannot look at what a child is to inherit", error)
}
