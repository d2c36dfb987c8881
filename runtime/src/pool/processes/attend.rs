//! The tasks on the control thread that look after a pool's workers: one for each, and the keeper.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::select;
use tokio::time::sleep_until;

use super::board::{Board, Side, Sleep};
use super::desk::Lot;
use super::letter::Answer;
use super::member::Member;
use super::office::Office;
use super::work::{First, work};
use crate::control::Control;
use crate::error::{Cause, ProcessError};
use crate::pipe::{Receiver, simplex_with};
use crate::process::Process;
use crate::wire::Limits;

/// What the frame of a letter takes, besides what is in it.
const FRAME: u64 = 4 << 10;

/// Keeps a pool until nothing is left of it.
pub(super) async fn keep(office: Arc<Office>, control: &'static Control) {
    while let Some((next, starts)) = office.keep() {
        for number in starts {
            control.run(attend(Arc::clone(&office), number));
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

type Running = Process<Result<(), String>>;

/// Starts a worker, hears it, and sees it off.
async fn attend(office: Arc<Office>, number: u64) {
    let mut answers = None;
    let hired = hire(&office, number, &mut answers).await;
    let (process, board) = match hired {
        Ok(hired) => hired,
        Err(error) => {
            drop(answers);
            return office.not_hired(&error);
        }
    };
    let Some(answers) = answers else { return };
    let cause = listen(&office, number, process, answers, &board).await;
    drop(board);
    office.bury(number, cause);
}

/// Starts a worker, and waits until it has done what it does first.
async fn hire(
    office: &Office,
    number: u64,
    answers: &mut Option<Receiver<Answer>>,
) -> Result<(Running, Board), ProcessError> {
    let settings = &office.settings;
    let name = format!("{}-{number}", settings.name);
    let failed = |cause| ProcessError::new(&*name, None, cause);
    let system = |what| move |error: std::io::Error| Cause::system(crate::Stage::Setup, what, &error);
    let board = Board::new().map_err(system("cannot make a board")).map_err(failed)?;
    let limits = letters(settings.limits);
    let (link, orders) = simplex_with(limits).map_err(system("cannot make a link")).map_err(failed)?;
    let (say, hear) = simplex_with(limits).map_err(system("cannot make a link")).map_err(failed)?;
    let lot = Lot {
        board: board.clone(),
        orders,
        answers: say,
        limits: settings.limits,
        concurrency: settings.concurrency,
    };
    let call = work(lot, None::<First>).name(&*name).daemon(true).kill_on_drop(true);
    let call = match settings.start_method {
        Some(method) => call.start_method(method),
        None => call,
    };
    let mut process = call.spawn().await?;
    let pid = process.pid();
    let hear = answers.insert(hear);
    let ready = select! {
        biased;
        answer = hear.recv() => answer,
        ended = process.join() => return Err(why_it_ended(ended, &name, pid)),
        () = office.killed.cancelled() => {
            drop(process.kill().await);
            return Err(ProcessError::new(&*name, Some(pid), Cause::Cancelled));
        }
    };
    match ready {
        Ok(Some(Answer::Ready(Ok(_)))) => {}
        Ok(Some(Answer::Ready(Err(report)))) => {
            drop(process.kill().await);
            return Err(ProcessError::new(&*name, Some(pid), report.into()));
        }
        Ok(None) => return Err(why_it_ended(process.join().await, &name, pid)),
        Ok(Some(answer)) => {
            return Err(misbehaved(process, &name, format!("{answer:?} before it is ready")).await);
        }
        Err(error) => return Err(misbehaved(process, &name, error.to_string()).await),
    }
    let member = Member::new(
        number,
        process.signaler(),
        board.clone(),
        link,
        settings.concurrency,
        settings.max_tasks,
    );
    if let Some(unwanted) = office.hired(member) {
        drop((unwanted, process.kill().await));
        answers.take();
    }
    Ok((process, board))
}

/// The limits of a letter, in which a message of a task's stands.
fn letters(limits: Limits) -> Limits {
    Limits { max_message: limits.max_message.saturating_add(FRAME), max_heap: None, ..limits }
}

fn why_it_ended(ended: Result<Result<(), String>, ProcessError>, name: &str, pid: u32) -> ProcessError {
    ended.err().unwrap_or_else(|| ProcessError::new(name, Some(pid), Cause::Exited { code: 0 }))
}

async fn misbehaved(mut process: Running, name: &str, reason: String) -> ProcessError {
    let pid = process.pid();
    drop(process.kill().await);
    ProcessError::new(name, Some(pid), Cause::BadMessage { reason })
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
    let ended = loop {
        // Said before it is looked: what the worker leaves after that wakes this task.
        pool.sleep(Sleep::Deep);
        office.collect(number);
        select! {
            biased;
            answer = answers.recv(), if is_talking => match answer {
                Ok(Some(answer)) => office.hear(number, Some(answer)),
                Ok(None) => is_talking = false,
                Err(error) => {
                    is_talking = false;
                    let reason = error.to_string();
                    office.with(number, |member| member.kill(None, Cause::BadMessage { reason }));
                }
            },
            ended = process.join() => break ended,
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
    match ended {
        Ok(Ok(())) => Cause::Exited { code: 0 },
        Ok(Err(reason)) => Cause::start(crate::Stage::Boot, reason),
        Err(error) => error.cause().clone(),
    }
}
