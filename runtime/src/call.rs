//! A call: what to run in a process of its own, and how.

use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::DropGuard;

use crate::block_on::block_on;
use crate::entry::{Body, Entry};
use crate::error::{Cause, ProcessError};
use crate::plan::{Plan, StartMethod};
use crate::process::{Ordered, Read, Spawn, Value, order};
use crate::stdio::Stdio;
use crate::surroundings::{Resource, Surroundings};
use crate::wire::{DecodeError, Encoder, Limits, Message, Packet, decode, unpack_whole};

/// What to run in a process of its own, and how: what a `#[process]` function returns.
///
/// It is to processes what a future is to an `async fn`: it does nothing until it runs. Await it, and the
/// function runs in a child and its value comes back; or [`spawn`](Self::spawn) it and keep a handle.
///
/// An awaited call gives its value as soon as the function has returned; its process may then still be on its way out,
/// and is among the [`children`](crate::children()) until it has ended. (One whose output is
/// [traced](crate::Stdio::traced) is waited for.) Where the next step counts on the end, spawn the call
/// and [`join`](crate::Process::join) the process.
///
/// # Cancel safety
/// Dropping a call that is being awaited kills its process, at once.
///
/// # Examples
/// ```
/// use procession::process;
///
/// #[process]
/// async fn double(n: u64) -> u64 {
///     n * 2
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let call = double(21).name("doubler");
/// assert_eq!(format!("{call:?}"), r#"Call("doubler", not started)"#);
/// assert_eq!(call.await?, 42);
/// # Ok(())
/// # }
/// ```
#[must_use = "a call does nothing until it is awaited or spawned"]
pub struct Call<T> {
    plan: Plan,
    read: Read<T>,
    read_plain: ReadPlain<T>,
    awaited: Awaited<T>,
}

/// Reads a value back that has no handles beside it.
type ReadPlain<T> = fn(&[u8], &Limits) -> Result<T, DecodeError>;

/// How a value is read back.
#[derive(Debug)]
pub(crate) struct Reading<T> {
    pub(crate) whole: Read<T>,
    pub(crate) plain: ReadPlain<T>,
}

enum Awaited<T> {
    NotYet,
    Running(Box<Running<T>>),
    Done,
}

struct Running<T> {
    value: Value<T>,
    cancels_when_dropped: DropGuard,
}

impl<T> Call<T> {
    pub(crate) fn new(entry: &'static Entry, arguments: Encoder) -> Self
    where
        T: Message,
    {
        let plan = Plan {
            entry,
            arguments: arguments.into_arguments(),
            name: None,
            timeout: None,
            limits: Limits::DEFAULT,
            start_method: None,
            surroundings: Surroundings::default(),
            daemon: false,
            kill_on_drop: false,
        };
        Self { plan, read: unpack_whole::<T>, read_plain: decode::<T>, awaited: Awaited::NotYet }
    }

    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }

    /// The same call a second time. A handle that one process owns goes with the first.
    pub(crate) fn again(&mut self) -> Self {
        let Self { read, read_plain, .. } = *self;
        Self { plan: self.plan.take(), read, read_plain, awaited: Awaited::NotYet }
    }

    /// What runs, and how its value is read back.
    pub(crate) fn parts(&self) -> (&Plan, Reading<T>) {
        (&self.plan, Reading { whole: self.read, plain: self.read_plain })
    }

    pub(crate) fn into_parts(self) -> (Plan, Read<T>) {
        (self.plan, self.read)
    }

    /// Names the process, instead of after its function and a number.
    ///
    /// The name stands in errors, in [`current`](crate::current), and, its first 15 bytes, in `ps`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.plan.name = Some(name.into());
        self
    }

    /// Limits how long the function may run, from its start in the child; a process that exceeds it is killed.
    ///
    /// To stop waiting without ending the process, [`spawn`](Self::spawn) it and use [`tokio::time::timeout`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.plan.timeout = Some(limit);
        self
    }

    /// Limits the encoded size of all arguments together, and of the result, in bytes; 16 MiB if not set.
    ///
    /// What is larger is refused where it would be sent, before a byte of it is.
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.plan.limits = self.plan.limits.max_message(bytes);
        self
    }

    /// Sets all limits on what is sent and read back.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.plan.limits = limits;
        self
    }

    /// Chooses how the process comes into being; else it is as [`StartMethod::set_default`] says.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.plan.start_method = Some(method);
        self
    }

    /// Sets a variable in the child's environment, which else is the parent's.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.plan.surroundings.environment.set(key.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets several variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        variables.into_iter().fold(self, |call, (key, value)| call.env(key, value))
    }

    /// Takes a variable out of the child's environment.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.plan.surroundings.environment.remove(key.as_ref().to_owned());
        self
    }

    /// Empties the child's environment; what is set after this stands.
    pub fn env_clear(mut self) -> Self {
        self.plan.surroundings.environment.clear();
        self
    }

    /// Sets the child's working directory, which else is the parent's.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.plan.surroundings.settings.directory = Some(directory.as_ref().into());
        self
    }

    /// Sets where the child's standard input comes from; it is empty if nothing is said.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.plan.surroundings.stdin = stdio.into();
        self
    }

    /// Sets where the child's standard output goes; to the parent's if nothing is said.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.plan.surroundings.stdout = stdio.into();
        self
    }

    /// Sets where the child's standard errors go; to the parent's if nothing is said.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.plan.surroundings.stderr = stdio.into();
        self
    }

    /// Sets the permissions that files of the child's do not get, such as `0o077`. See `umask(2)`.
    pub fn umask(mut self, mask: u32) -> Self {
        self.plan.surroundings.settings.umask = Some(mask);
        self
    }

    /// Limits a resource of the child's, softly and hard; `u64::MAX` is no limit. See `setrlimit(2)`.
    ///
    /// It holds from before the arguments are decoded.
    pub fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.plan.surroundings.settings.limits.insert(resource, (soft, hard));
        self
    }

    /// Makes the child nicer than its parent, by up to 39: others get more of the processors. See `nice(2)`.
    pub fn nice(mut self, increment: i32) -> Self {
        self.plan.surroundings.settings.nice = increment;
        self
    }

    /// Whether the process is one that [`join_children`](crate::join_children) does not wait for, but ends. Python's
    /// `daemon`.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.plan.daemon = daemon;
        self
    }

    /// Whether dropping the [`Process`](crate::Process) kills the process, instead of letting it go on.
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.plan.kill_on_drop = kill;
        self
    }

    /// Starts the process and gives a handle to it.
    pub fn spawn(self) -> Spawn<T> {
        Spawn::new(self.plan, self.read)
    }

    /// Runs the function in a process, and blocks this thread until its value comes back: for a program without
    /// a runtime. Within one, await the call instead.
    ///
    /// # Errors
    /// Why there is no value.
    pub fn blocking(self) -> Result<T, ProcessError> {
        block_on(self)
    }

    /// Runs the function in this process, for a test or a debugger: its arguments and its result are encoded and
    /// read back as they would be for a child. A panic is the caller's, and no time limit holds.
    ///
    /// A plain `fn` runs on a thread for blocking work where a tokio runtime is current. The future is not `Send`,
    /// because the function's own need not be.
    pub fn local(self) -> Local<T>
    where
        T: 'static,
    {
        Local { running: Box::pin(run_here(self.plan, self.read)) }
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        if let Awaited::NotYet = call.awaited {
            // A call that cannot be ordered is done with.
            call.awaited = Awaited::Done;
            let Ordered { value, guard, .. } = order(call.plan.take(), call.read, true)?;
            call.awaited = Awaited::Running(Box::new(Running { value, cancels_when_dropped: guard }));
        }
        let Awaited::Running(running) = &mut call.awaited else {
            return Poll::Ready(Err(ProcessError::new(call.plan.display_name(), None, Cause::Taken)));
        };
        let ended = std::task::ready!(running.value.poll(context));
        if let Awaited::Running(running) = std::mem::replace(&mut call.awaited, Awaited::Done) {
            // Its process may still be on its way out.
            drop(running.cancels_when_dropped.disarm());
        }
        Poll::Ready(ended)
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.awaited {
            Awaited::NotYet => "not started",
            Awaited::Running(_) => "running",
            Awaited::Done => "done",
        };
        write!(f, "Call({:?}, {state})", self.plan.display_name())
    }
}

/// A future that runs a process function in this process, made by [`Call::local`].
///
/// # Cancel safety
/// Dropping it drops the function's own future; a plain `fn` that has started runs to its end.
#[must_use = "futures do nothing unless you await or poll them"]
pub struct Local<T> {
    running: Pin<Box<dyn Future<Output = Result<T, ProcessError>>>>,
}

impl<T> Future for Local<T> {
    type Output = Result<T, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.running.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

async fn run_here<T>(mut plan: Plan, read: Read<T>) -> Result<T, ProcessError> {
    let name = plan.display_name().to_owned();
    let value = match encoded_here(plan.entry.body, &mut plan).await {
        Ok(result) => read(result, &plan.limits).map_err(Cause::Decode),
        Err(cause) => Err(cause),
    };
    value.map_err(|cause| ProcessError::new(name, None, cause))
}

async fn encoded_here(body: Body, plan: &mut Plan) -> Result<Packet, Cause> {
    let (arguments, limits) = (plan.sendable_arguments()?, plan.limits);
    plan.forget_handles();
    match body {
        Body::Async { prepare, .. } => Ok(prepare(arguments, limits).map_err(Cause::Decode)?.await?),
        Body::Plain { prepare, .. } => {
            let run = move || Ok(prepare(arguments, limits).map_err(Cause::Decode)?()?);
            match Handle::try_current() {
                Err(_no_runtime) => run(),
                Ok(runtime) => match runtime.spawn_blocking(run).await {
                    Ok(result) => result,
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_the_runtime_ends) => Err(Cause::Cancelled),
                },
            }
        }
    }
}
