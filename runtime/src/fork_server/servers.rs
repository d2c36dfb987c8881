//! Which server a process uses now.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::serve::MORE_THREADS;
use super::{Server, Station};
use crate::error::{Cause, Stage};
use crate::plan::Plan;

/// How long the next server waits when one has died or failed; it doubles from time to time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The fork servers of a process: one that is used, and those that have been.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    state: Mutex<State>,
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
    pub(crate) async fn suiting(&'static self, here: &Station) -> Result<Arc<Server>, Cause> {
        let mut state = self.state.lock().await;
        if let Some(server) = &state.current {
            if server.lives() && server.there.suits(here) {
                return Ok(Arc::clone(server));
            }
            if !server.lives() {
                state.current = None;
                state.pause.server_failed();
            }
        }
        if let Some(unfit) = &state.unfit {
            return Err(unfit.clone());
        }
        state.pause.over().await;
        // Anew: it may have waited for its turn.
        let here = Station::now().map_err(|error| cannot_look(&error))?;
        let server = state.start(here).await?;
        self.refill(&server);
        Ok(server)
    }

    /// The server there is, if that can be told at once.
    pub(crate) fn at_hand(&self) -> Option<Arc<Server>> {
        self.state.try_lock().ok()?.current.as_ref().filter(|server| server.seems_to_live()).map(Arc::clone)
    }

    /// Whether this program can have no server, and nothing that it wants depends on one.
    pub(crate) async fn are_unfit(&self) -> bool {
        let state = self.state.lock().await;
        state.unfit.is_some() && state.preloads.is_empty()
    }

    /// Starts a server that has run this, after those before it.
    pub(crate) async fn preload(&'static self, plan: Plan) -> Result<(), Cause> {
        let mut state = self.state.lock().await;
        let here = Station::now().map_err(|error| cannot_look(&error))?;
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
    Cause::system(Stage::Setup, "cannot look at what a child is to inherit", error)
}
