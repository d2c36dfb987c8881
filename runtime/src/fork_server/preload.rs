//! What a server does once, before its first fork, for all its children.

use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::boot::find;
use crate::call::Call;
use crate::control::Control;
use crate::entry::Body;
use crate::error::{Cause, ProcessError, Stage};
use crate::failure::Failure;
use crate::link::{self, Bootstrap, Report};
use crate::panic;
use crate::plan::Plan;
use crate::wire::decode;
use crate::wire::frame::{Kind, Told, read_frame_with};

/// Runs a call once in the fork server, before its first fork: what it leaves in memory, in a `static`, every child has
/// from its first moment, and shares with all others until it writes to it.
///
/// Calls that are made meanwhile wait for it, without a time limit of theirs.
///
/// It runs in a new server, after the preloads before it, which run again there; so all of them do when the server has died. The
/// former server goes when its last child has ended. What takes long is best loaded by one function. Children that are started with
/// [`StartMethod::Spawn`](crate::StartMethod::Spawn) know nothing of it.
///
/// The function must be a plain `fn`, and must not leave a thread running. What it opens stays open in every child. It
/// takes no handles, and starts from the parent's environment and directory; what it changes of them holds for itself alone. Of what the call says
/// about its surroundings, its time limit holds.
///
/// # Errors
/// With [`Stage::Preload`]: it has failed, panicked, crashed or left a thread, or is an `async fn`; [`Cause::TimedOut`]: it
/// has exceeded its time limit. It then is no preload, and children are started without it. One that fails when it runs
/// again is the error of each start from then on.
///
/// # Cancel safety
/// When this is dropped after it was polled, the preload goes on, and holds if it succeeds.
///
/// # Examples
/// ```
/// use std::sync::OnceLock;
/// use procession::{Failure, process};
///
/// static WORDS: OnceLock<Vec<String>> = OnceLock::new();
///
/// #[process]
/// fn load(text: String) -> Result<(), Failure> {
///     WORDS.get_or_init(|| text.split(' ').map(str::to_owned).collect());
///     Ok(())
/// }
///
/// #[process]
/// async fn word(n: usize) -> Option<String> {
///     WORDS.get()?.get(n).cloned()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// procession::preload(load("one two three".to_owned())).await?;
/// assert_eq!(word(1).await?.as_deref(), Some("two"));
/// assert!(WORDS.get().is_none());
/// # Ok(())
/// # }
/// ```
pub async fn preload(call: Call<Result<(), Failure>>) -> Result<(), ProcessError> {
    let plan = call.into_plan();
    let name = plan.display_name().to_owned();
    let loaded = async {
        if !matches!(plan.entry.body, Body::Plain { .. }) {
            return Err(Cause::start(Stage::Preload, "it is an `async fn`; a preload is a plain `fn`"));
        }
        if !plan.sendable_arguments()?.handles.is_empty() {
            return Err(Cause::start(
                Stage::Preload,
                "a preload runs again in each new server, and takes no handles",
            ));
        }
        let control = Control::get()?;
        let (told, loaded) = oneshot::channel();
        control.run(async move { drop(told.send(control.servers().preload(plan).await)) });
        loaded
            .await
            .unwrap_or_else(|_gone| Err(Cause::StatusLost { reason: "nobody watches over it".into() }))
    };
    loaded.await.map_err(|cause| ProcessError::new(name, None, cause))
}

type Hook = Box<dyn FnOnce() + Send>;

static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

/// Has something done in every child that the fork server makes, when it has the surroundings that its call says, and before
/// its arguments are read: for use in a [preload](fn@preload), which runs in the server.
///
/// All children start as copies of the server: a generator of random numbers that a preload has seeded gives all of them
/// the same numbers, and a `HashMap` that it has made gives theirs the same seed. A hook can seed a generator anew. One
/// that panics ends the child, with that panic.
///
/// In any other process than a fork server it is never called.
pub fn on_fork(hook: impl FnOnce() + Send + 'static) {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
}

/// Runs the hooks, in the order in which they came.
pub(crate) fn run_hooks() {
    let hooks = std::mem::take(&mut *HOOKS.lock().unwrap_or_else(PoisonError::into_inner));
    for hook in hooks {
        hook();
    }
}

/// Reads a preload from the link, runs it, and tells what came of it.
///
/// # Errors
/// Why the server is of no use any more.
pub(super) fn run(link: &mut UnixStream) -> Result<(), String> {
    let unread = |error| format!("it cannot read what it is to preload: {error}");
    let Some(Told { kind: Kind::Start, body, .. }) = read_frame_with(link, 0).map_err(unread)? else {
        return Err("it was not told what to preload".into());
    };
    let bootstrap: Bootstrap = postcard::from_bytes(&body).map_err(|error| error.to_string())?;
    let entry = find(&bootstrap)?;
    let arguments = link::read_arguments(link, &bootstrap.limits).map_err(unread)?;
    let arguments = arguments.ok_or("its parent is gone")?;
    let Body::Plain { prepare, .. } = entry.body else { return Err("an `async fn` is no preload".into()) };
    let run = || prepare(arguments, bootstrap.limits).map_err(Report::Decode)?().map_err(Report::Encode);
    let outcome =
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| Err(panic::report_of(&*payload)));
    let told = match &outcome {
        Ok(result) => link::send_result(result),
        Err(report) => link::send_report(report),
    };
    told.map_err(|error| error.to_string())
}

/// Why what a preload has returned is no success.
pub(super) fn outcome(plan: &Plan, result: &[u8]) -> Result<(), Cause> {
    match decode::<Result<(), Failure>>(result, &plan.limits) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(failed(plan, format!("failed: {failure}"))),
        Err(error) => Err(Cause::Decode(error)),
    }
}

/// The cause of a preload that has not succeeded.
pub(super) fn failed(plan: &Plan, what: impl std::fmt::Display) -> Cause {
    Cause::start(Stage::Preload, format!("the preload `{}` {what}", plan.display_name()))
}
