//! A handle to a child process.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;

use crate::child::Child;
use crate::control::Control;
use crate::error::{Cause, ProcessError};
use crate::life::{Birth, Ending, Order, live};
use crate::plan::Plan;
use crate::signaler::Signaler;
use crate::start::{Begun, begin};
use crate::status::ExitStatus;
use crate::stdio::{ChildInput, ChildOutput};
use crate::wire::{DecodeError, Limits, Packet};

/// Reads a value back. A pointer, so that what holds one needs no bounds on `T`.
pub(crate) type Read<T> = fn(Packet, &Limits) -> Result<T, DecodeError>;

/// A process that was ordered: what comes of it, and the way to call it off.
pub(crate) struct Ordered<T> {
    pub(crate) value: Value<T>,
    born: oneshot::Receiver<Birth>,
    kill_on_drop: bool,
    /// Cancels the process when dropped.
    pub(crate) guard: DropGuard,
}

/// Orders a process. It starts whether or not anybody polls; its life is lived on the control thread. An early value is
/// told as soon as it is there, another when the process has ended.
pub(crate) fn order<T>(plan: Plan, read: Read<T>, early: bool) -> Result<Ordered<T>, ProcessError> {
    let name = plan.name_of_next();
    let control = Control::get().map_err(|cause| ProcessError::new(&*name, None, cause))?;
    let (born, told_born) = oneshot::channel();
    let (ended, told_ended) = oneshot::channel();
    let value = Value { name: name.clone(), limits: plan.limits, ending: Some(told_ended), read };
    let kill_on_drop = plan.kill_on_drop;
    // What it has written is told before its value, and the last lines belong to the error of one that cannot be read.
    let early = early && !plan.surroundings.are_traced();
    let begun = begin(control, &plan, &name, early);
    let cancelled = begun.as_ref().and_then(Begun::cancelled).unwrap_or_default();
    let guard = cancelled.clone().drop_guard();
    let order = Order { plan, name, cancelled, born, ended, early };
    match begun {
        Some(Begun::Told(told)) => told.leave_to_its_task(control, order),
        Some(Begun::Asked(asked)) => control.run(live(order, Some(asked))),
        None => control.run(live(order, None)),
    }
    Ok(Ordered { value, born: told_born, kill_on_drop, guard })
}

/// The value of a process, once it has ended. It can be taken once.
pub(crate) struct Value<T> {
    name: String,
    limits: Limits,
    ending: Option<oneshot::Receiver<Ending>>,
    read: Read<T>,
}

impl<T> Value<T> {
    pub(crate) fn error(&self, pid: Option<u32>, cause: Cause) -> ProcessError {
        ProcessError::new(&*self.name, pid, cause)
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, ProcessError>> {
        let Some(ending) = &mut self.ending else {
            return Poll::Ready(Err(self.error(None, Cause::Taken)));
        };
        let ending = ready!(Pin::new(ending).poll(context));
        let Ending { pid, result, stderr } = ending.unwrap_or_else(|_gone| Ending::unknown());
        self.ending = None;
        let value = result.and_then(|result| (self.read)(result, &self.limits).map_err(Cause::Decode));
        Poll::Ready(value.map_err(|cause| self.error(pid, cause).with_stderr(stderr)))
    }
}

/// A future that starts a process, made by [`Call::spawn`](crate::Call::spawn); it gives the [`Process`] once the
/// system has started it.
///
/// # Cancel safety
/// If it is dropped before it is ready, the process is killed.
#[must_use = "a process is spawned when this is awaited"]
pub struct Spawn<T> {
    state: SpawnState<T>,
}

enum SpawnState<T> {
    Planned(Box<Plan>, Read<T>),
    Starting(Ordered<T>),
    /// The start has failed, and the reason is on its way.
    Failing(Value<T>),
    Done,
}

impl<T> Spawn<T> {
    pub(crate) fn new(plan: Plan, read: Read<T>) -> Self {
        Self { state: SpawnState::Planned(Box::new(plan), read) }
    }
}

impl<T> Future for Spawn<T> {
    type Output = Result<Process<T>, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match std::mem::replace(&mut self.state, SpawnState::Done) {
                SpawnState::Planned(plan, read) => {
                    self.state = SpawnState::Starting(order(*plan, read, false)?)
                }
                SpawnState::Starting(mut ordered) => match Pin::new(&mut ordered.born).poll(context) {
                    Poll::Ready(Ok(birth)) => return Poll::Ready(Ok(Process::new(birth, ordered))),
                    Poll::Ready(Err(_never_born)) => self.state = SpawnState::Failing(ordered.value),
                    Poll::Pending => {
                        self.state = SpawnState::Starting(ordered);
                        return Poll::Pending;
                    }
                },
                SpawnState::Failing(mut value) => {
                    let Poll::Ready(ended) = value.poll(context) else {
                        self.state = SpawnState::Failing(value);
                        return Poll::Pending;
                    };
                    return Poll::Ready(Err(ended.err().unwrap_or_else(|| value.error(None, Cause::Taken))));
                }
                SpawnState::Done => return Poll::Ready(Err(ProcessError::new("", None, Cause::Taken))),
            }
        }
    }
}

impl<T> fmt::Debug for Spawn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").finish_non_exhaustive()
    }
}

/// A child process that runs a process function: to wait for, to ask about, to end.
///
/// It is a future of the function's value, the same as [`join`](Self::join). Dropping it lets the process go on:
/// it is reaped when it ends, and it ends with this process at the latest.
///
/// # Examples
/// ```
/// # use procession::process;
/// #[process]
/// fn forever() {
///     loop {
///         std::thread::park();
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut process = forever().name("sieve").spawn().await?;
/// assert_eq!(format!("{process:?}"), format!("Process(\"sieve\", pid {}, running)", process.pid()));
///
/// let status = process.kill().await?;
/// assert_eq!(status.signal(), Some(9));
/// assert_eq!(process.join().await.unwrap_err().signal(), Some(9));
/// # Ok(())
/// # }
/// ```
#[must_use = "a process that nobody holds goes on, unseen; await it, or keep it to end it"]
pub struct Process<T> {
    child: Arc<Child>,
    value: Value<T>,
    stdin: Option<ChildInput>,
    stdout: Option<ChildOutput>,
    stderr: Option<ChildOutput>,
    kill_on_drop: bool,
}

impl<T> Process<T> {
    fn new(birth: Birth, ordered: Ordered<T>) -> Self {
        let Ordered { value, guard, kill_on_drop, .. } = ordered;
        guard.disarm();
        Self {
            child: birth.child,
            value,
            stdin: birth.stdin.map(ChildInput::new),
            stdout: birth.stdout.map(ChildOutput::new),
            stderr: birth.stderr.map(ChildOutput::new),
            kill_on_drop,
        }
    }

    /// The name of the process.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.child.name
    }

    /// The id of the process. It stays what it was when the process has ended, and may then be another's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether the process is there: it has not ended, or nobody has noticed yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.child.ended().is_none()
    }

    /// How the process ended, as Python's `exitcode`: its code, or minus the number of the signal; `None` while
    /// it is alive, or if that could not be learned.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.child.ended().and_then(Result::ok).map(ExitStatus::exit_code)
    }

    /// The child's standard input, if it is [piped](crate::Stdio::piped) and was not taken before.
    pub fn stdin(&mut self) -> Option<ChildInput> {
        self.stdin.take()
    }

    /// The child's standard output, if it is [piped](crate::Stdio::piped) and was not taken before.
    pub fn stdout(&mut self) -> Option<ChildOutput> {
        self.stdout.take()
    }

    /// The child's standard errors, if they are [piped](crate::Stdio::piped) and were not taken before.
    pub fn stderr(&mut self) -> Option<ChildOutput> {
        self.stderr.take()
    }

    /// A handle that can only send signals, for whoever is to end the process while another waits for it.
    #[must_use]
    pub fn signaler(&self) -> Signaler {
        Signaler::new(Arc::clone(&self.child))
    }

    /// Waits for the function's value.
    ///
    /// # Errors
    /// Why there is no value; [`Cause::Taken`] if an earlier `join` has given it.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when this is dropped, and the process goes on.
    pub fn join(&mut self) -> Join<'_, T> {
        Join { process: self }
    }

    /// Waits until the process has ended, whatever became of its function. It can be asked again and again.
    ///
    /// # Errors
    /// If other code has reaped the process, or the system does not tell how it ended.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when this is dropped, and the process goes on.
    pub async fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        let ended = self.child.wait().await;
        ended.map_err(|cause| self.value.error(Some(self.child.pid()), cause))
    }

    /// Ends the process at once, by SIGKILL, and waits until it is reaped.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// The signal is sent when this is first polled; dropping it then only ends the waiting.
    pub async fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        let system = |error| Cause::StatusLost { reason: format!("cannot send SIGKILL: {error}") };
        self.start_kill().map_err(|error| self.value.error(Some(self.child.pid()), system(error)))?;
        self.wait().await
    }

    /// Makes the process stop: asks its function to ([`Current::stopping`](crate::Current::stopping)); when `grace` is
    /// over, sends SIGTERM; half a second later SIGKILL to it and what it has started in its group. Gives how it ended;
    /// its value, if it has one, is for [`join`](Self::join).
    ///
    /// It returns within `grace` and one second, measured by the system's clock.
    ///
    /// # Errors
    /// [`Cause::Unkillable`] if it is still there after SIGKILL; else as [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// Once this was polled the process is made to stop, whether or not anybody waits.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus, ProcessError> {
        let ended = self.child.stop(grace).await;
        ended.map_err(|cause| self.value.error(Some(self.child.pid()), cause))
    }

    /// Sends SIGKILL, and does not wait. A process that has ended is left alone, and that is no error.
    ///
    /// # Errors
    /// Those of `pidfd_send_signal(2)`: the process now belongs to another user.
    pub fn start_kill(&self) -> io::Result<()> {
        self.child.signal(Signal::KILL)
    }

    /// Sends SIGTERM, which a process can handle; by default it ends at once. Python's `terminate`.
    ///
    /// # Errors
    /// As [`start_kill`](Self::start_kill).
    pub fn terminate(&self) -> io::Result<()> {
        self.child.signal(Signal::TERM)
    }

    /// Sends SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// As [`start_kill`](Self::start_kill).
    pub fn interrupt(&self) -> io::Result<()> {
        self.child.signal(Signal::INT)
    }
}

impl<T> Drop for Process<T> {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // An error means that it now belongs to another user.
            drop(self.start_kill());
        }
    }
}

/// The pidfd of the process: readable when it has ended. See `pidfd_open(2)`.
impl<T> AsFd for Process<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }
}

impl<T> Future for Process<T> {
    type Output = Result<T, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.value.poll(context)
    }
}

impl<T> fmt::Debug for Process<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({:?}, pid {}, ", self.name(), self.pid())?;
        match self.child.ended() {
            None => f.write_str("running)"),
            Some(Ok(status)) => write!(f, "{status})"),
            Some(Err(cause)) => write!(f, "{cause})"),
        }
    }
}

/// A future of a process's value, made by [`Process::join`].
///
/// # Cancel safety
/// Safe: nothing is lost when this is dropped, and the process goes on.
#[must_use = "futures do nothing unless you await or poll them"]
pub struct Join<'a, T> {
    process: &'a mut Process<T>,
}

impl<T> fmt::Debug for Join<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Join").field(self.process).finish()
    }
}

impl<T> Future for Join<'_, T> {
    type Output = Result<T, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.process.value.poll(context)
    }
}
