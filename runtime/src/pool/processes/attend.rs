//! The tasks on the control thread that look after a pool's workers: one for each, and the keeper.

use std::any::Any;
use std::future::{pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::select;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::board::{Board, Side, Sleep};
use super::desk::Lot;
use super::letter::Answer;
use super::member::{Beginning, HUNG_UP, Member, hung_up};
use super::office::{Office, Start};
use super::scales::Scales;
use super::work::{First, work};
use crate::control::Control;
use crate::error::{Cause, ProcessError};
use crate::pipe::{Receiver, RecvError, simplex_with};
use crate::plan::Plan;
use crate::pool::init::Check;
use crate::pool::settings::with_frame;
use crate::pool::which::Function;
use crate::process::Process;

/// Keeps a pool until nothing is left of it.
pub(super) async fn keep(office: Arc<Office>, control: &'static Control) {
    while let Some((next, starts)) = office.keep() {
        for start in starts {
            control.run(attend(Arc::clone(&office), start));
        }
        select! {
            () = office.keeper_is_wanted() => {}
            () = until(next) => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// How long results may wait where they come in crowds.
const TICK: Duration = Duration::from_millis(1);

type Running = Process<Result<(), String>>;

/// Starts a worker, hears it, and sees it off.
async fn attend(office: Arc<Office>, start: Start) {
    let Start { number, unwanted } = start;
    let mut answers = None;
    // What makes the call of `init`, and what reads its error, is the user's.
    let hired = AssertUnwindSafe(hire(&office, number, &unwanted, &mut answers)).catch_unwind().await;
    let hired = hired.unwrap_or_else(|payload| Err(made_no_call(&office, &*payload)));
    let (process, board) = match hired {
        Ok(hired) => hired,
        Err(error) => {
            drop(answers);
            return if unwanted.is_cancelled() { office.dropped() } else { office.not_hired(&error) };
        }
    };
    let Some(answers) = answers else { return };
    let cause = listen(&office, number, process, answers, &board).await;
    drop(board);
    office.bury(number, cause);
}

fn made_no_call(office: &Office, payload: &(dyn Any + Send)) -> ProcessError {
    let cause = crate::panic::report_of(payload).into();
    ProcessError::new(office.settings.name.as_str(), None, cause)
}

/// Starts a worker, and waits until it has done what it does first.
async fn hire(
    office: &Office,
    number: u64,
    unwanted: &CancellationToken,
    answers: &mut Option<Receiver<Answer>>,
) -> Result<(Running, Board), ProcessError> {
    let settings = &office.settings;
    let name = format!("{}-{number}", settings.name);
    let failed = |cause| ProcessError::new(&*name, None, cause);
    let system = |what| move |error: std::io::Error| Cause::system(crate::Stage::Setup, what, &error);
    let board = Board::new().map_err(system("cannot make a board")).map_err(failed)?;
    let limits = with_frame(settings.limits);
    let (link, orders) = simplex_with(limits).map_err(system("cannot make a link")).map_err(failed)?;
    let (say, hear) = simplex_with(limits).map_err(system("cannot make a link")).map_err(failed)?;
    let lot = Lot {
        board: board.clone(),
        orders,
        answers: say,
        limits: settings.limits,
        concurrency: settings.concurrency,
    };
    let init = settings.init.as_ref().map(|init| init.next());
    let first = init.as_ref().map(|(plan, _)| first_of(plan)).transpose().map_err(failed)?;
    let call =
        work(lot, first).name(&*name).daemon(true).kill_on_drop(true).limits(with_frame(settings.limits));
    let call = match settings.start_method {
        Some(method) => call.start_method(method),
        None => call,
    };
    let ordered = Instant::now();
    let process = call.spawn().await?;
    let hear = answers.insert(hear);
    let is_off = async {
        select! {
            () = office.killed.cancelled() => {}
            () = unwanted.cancelled() => {}
        }
    };
    let (mut process, init) = greet(process, &name, hear, init, is_off).await?;
    let start = ordered.elapsed().saturating_sub(init);
    let beginning = Beginning { start, init };
    let member = Member::new(number, process.signaler(), board.clone(), link, settings, beginning);
    if let Some(unwanted) = office.hired(member) {
        drop((unwanted, process.kill().await));
        answers.take();
        office.dropped();
    }
    Ok((process, board))
}

/// Waits until a worker has done what it does first, or it is all off.
async fn greet(
    mut process: Running,
    name: &str,
    hear: &mut Receiver<Answer>,
    init: Option<(Plan, Check)>,
    is_off: impl Future<Output = ()>,
) -> Result<(Running, Duration), ProcessError> {
    let pid = process.pid();
    let limit = init.as_ref().and_then(|(plan, _)| plan.timeout);
    let ready = select! {
        biased;
        answer = hear.recv() => answer,
        ended = process.join() => return Err(why_it_ended(ended, name, pid)),
        () = is_off => return Err(end(process, name, Cause::Cancelled).await),
        after = late(limit) => return Err(end(process, name, Cause::TimedOut { after }).await),
    };
    let cause = match ready {
        Ok(Some(Answer::Ready { done: Ok(done), elapsed })) => {
            let checked = init.zip(done).map_or(Ok(()), |((_, check), done)| check(done.into()));
            match checked {
                Ok(()) => return Ok((process, Duration::from_nanos(elapsed))),
                Err(cause) => cause,
            }
        }
        Ok(Some(Answer::Ready { done: Err(report), .. })) => report.into(),
        Ok(Some(answer)) => Cause::BadMessage { reason: format!("{answer:?} before it is ready") },
        Ok(None) | Err(RecvError::CutOff) => match timeout(HUNG_UP, process.join()).await {
            Ok(ended) => return Err(why_it_ended(ended, name, pid)),
            Err(_elapsed) => Cause::BadMessage { reason: hung_up() },
        },
        Err(error) => Cause::BadMessage { reason: error.to_string() },
    };
    Err(end(process, name, cause).await)
}

fn why_it_ended(ended: Result<Result<(), String>, ProcessError>, name: &str, pid: u32) -> ProcessError {
    ended.map_or_else(|error| error, |left| ProcessError::new(name, Some(pid), why_it_left(left)))
}

/// Why a worker has ended whose function has returned.
fn why_it_left(left: Result<(), String>) -> Cause {
    left.map_or_else(|reason| Cause::start(crate::Stage::Boot, reason), |()| Cause::Exited { code: 0 })
}

/// Ends a worker that is not to be one.
async fn end(mut process: Running, name: &str, cause: Cause) -> ProcessError {
    let pid = process.pid();
    drop(process.kill().await);
    ProcessError::new(name, Some(pid), cause)
}

async fn late(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            limit
        }
        None => pending().await,
    }
}

/// What a worker is to do first.
fn first_of(plan: &Plan) -> Result<First, Cause> {
    plan.check_that_it_is_a_task()?;
    Ok(First { function: Function::of(plan.entry)?, arguments: plan.sendable_arguments()?.into() })
}

/// Hears a worker until it has ended; gives why it has.
async fn listen(
    office: &Office,
    number: u64,
    mut process: Running,
    mut answers: Receiver<Answer>,
    board: &Board,
) -> Cause {
    let pool = board.sleeper(Side::Pool);
    let mut is_talking = true;
    let mut scales = Scales::new(process.pid(), office.settings.max_rss);
    let ended = loop {
        // Said before it is looked: what the worker leaves after that wakes this task. Where much is about to come it is
        // not woken for each, and looks by itself.
        let how = office.with(number, |member| member.sleep()).unwrap_or(Sleep::Deep);
        pool.sleep(how);
        office.collect(number);
        if scales.is_too_heavy() {
            office.retire(number);
        }
        let tick = (how == Sleep::Light).then_some(TICK);
        select! {
            biased;
            answer = answers.recv(), if is_talking => match answer {
                Ok(Some(answer)) => office.hear(number, Some(answer)),
                // It has ended in the middle of a word, or between two.
                Ok(None) | Err(RecvError::CutOff) => {
                    is_talking = false;
                    office.hung_up(number);
                }
                Err(error) => {
                    is_talking = false;
                    let reason = error.to_string();
                    office.with(number, |member| member.kill(None, Cause::BadMessage { reason }));
                }
            },
            ended = process.join() => break ended,
            _ = late(tick) => {}
            () = poll_fn(|context| {
                office.with(number, |member| member.poll_letters(context));
                Poll::<()>::Pending
            }) => {}
        }
    };
    // What it has said before its end counts.
    while is_talking && let Ok(answer) = answers.try_recv() {
        office.hear(number, Some(answer));
    }
    ended.map_or_else(|error| error.cause().clone(), why_it_left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_their_causes() {
        let killed = Cause::Signaled { signal: 9, core_dumped: false };
        let boot = Cause::start(crate::Stage::Boot, "no tokio runtime");
        let of = |ended| why_it_ended(ended, "pool-1", 7).cause().clone();
        assert_eq!(of(Ok(Ok(()))), Cause::Exited { code: 0 });
        assert_eq!(of(Ok(Err("no tokio runtime".into()))), boot);
        assert_eq!(of(Err(ProcessError::new("pool-1", Some(7), killed.clone()))), killed);
    }
}
