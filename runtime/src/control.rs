//! The one control thread, with a small runtime of its own.
//!
//! It starts children, listens to them, watches their limits and reaps them. The futures that users hold wait
//! for it by tokio's runtime-agnostic channels, so that nothing depends on the runtime that happens to be
//! current: it may have no I/O driver, a paused clock, end first, or not exist at all.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::SigSet;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::error::{Cause, Stage};
use crate::fork_server::{Lookout, Servers, Station, cannot_look};
use crate::sys;

/// The control thread of a process.
#[derive(Debug)]
pub(crate) struct Control {
    /// Whose it is: a `fork` copies this memory, but not the thread.
    pid: u32,
    runtime: Handle,
    lifeline: Lifeline,
    lookout: Lookout,
    servers: Servers,
}

/// The control thread's runtime. Where descriptors are short, tokio itself panics for some of those that it wants.
fn runtime() -> io::Result<Runtime> {
    std::panic::catch_unwind(|| Builder::new_current_thread().enable_all().build())
        .unwrap_or_else(|_panic| Err(io::Error::other("no descriptors are left for its runtime")))
}

/// A pipe whose write end lives in this process alone: its end is the parent's end. Another is made when this process is
/// another user's, who may not open the first.
#[derive(Debug)]
struct Lifeline {
    pipes: Mutex<Vec<Pipe>>,
    /// A read end for the next child.
    next: Mutex<Option<OwnedFd>>,
}

#[derive(Debug)]
struct Pipe {
    path_to_reader: String,
    _reader: OwnedFd,
    _writer: OwnedFd,
}

static CONTROL: Mutex<Option<&'static Control>> = Mutex::new(None);

impl Control {
    /// The control thread of this process, started on first use.
    pub(crate) fn get() -> Result<&'static Self, Cause> {
        let mut control = CONTROL.lock().unwrap_or_else(PoisonError::into_inner);
        match *control {
            Some(running) if running.pid == std::process::id() => Ok(running),
            Some(_) => Err(Cause::start(
                Stage::Setup,
                "this process is a fork of one that has used Procession, without its threads: \
                 it can start children only after an exec",
            )),
            None => {
                let started = Self::start().map_err(|error| {
                    Cause::system(Stage::Setup, "cannot start the control thread", &error)
                })?;
                Ok(control.insert(Box::leak(Box::new(started))))
            }
        }
    }

    fn start() -> io::Result<Self> {
        let lifeline = Lifeline::new()?;
        let (made, outcome) = std::sync::mpsc::channel();
        // The runtime is made on its own thread: in the caller's context tokio forbids to drop one, should the rest fail.
        std::thread::Builder::new().name("procession".into()).spawn(move || {
            // Signals are for the program's own threads. A broken pipe, too: it is an error code here.
            let _ = SigSet::all().thread_block();
            match runtime().and_then(|runtime| Ok((runtime, Lookout::here()?))) {
                Ok((runtime, lookout)) => {
                    drop(made.send(Ok((runtime.handle().clone(), lookout))));
                    runtime.block_on(std::future::pending::<()>());
                }
                Err(error) => drop(made.send(Err(error))),
            }
        })?;
        let (runtime, lookout) = outcome.recv().map_err(io::Error::other)??;
        Ok(Self { pid: std::process::id(), runtime, lifeline, lookout, servers: Servers::default() })
    }

    /// Runs a task on the control thread.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// The control thread's runtime.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The fork servers of this process.
    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Where the control thread is, whichever asks: it is the one that starts servers.
    pub(crate) fn station(&self) -> Result<Station, Cause> {
        self.lookout.station().map_err(|error| cannot_look(&error))
    }

    /// Waits on the control thread until a descriptor is readable.
    pub(crate) async fn readable(&self, fd: OwnedFd) -> io::Result<()> {
        let watch = async move { sys::watch(Arc::new(fd))?.readable().await.map(drop) };
        let mut task = JoinSet::new();
        task.spawn_on(watch, &self.runtime);
        // The set ends its task when nobody waits any more.
        task.join_next()
            .await
            .map_or(Ok(()), |joined| joined.unwrap_or_else(|error| Err(io::Error::other(error))))
    }

    /// A read end of the lifeline for one child. Each has an open file description of its own, because that is
    /// what the kernel keeps the owner of the signal in.
    ///
    /// # Errors
    /// Those of `open(2)` and `pipe(2)`.
    pub(crate) fn lifeline(&self) -> io::Result<OwnedFd> {
        let next = self.lifeline.next().take();
        next.map_or_else(|| self.lifeline.open(), Ok)
    }

    /// Opens that of the next child, whose call then does not wait for it.
    pub(crate) fn prepare_lifeline(&self) {
        if self.lifeline.next().is_none() {
            // If it cannot be opened now, the next start tries again, and says why.
            let opened = self.lifeline.open().ok();
            *self.lifeline.next() = opened;
        }
    }
}

impl Lifeline {
    fn new() -> io::Result<Self> {
        Ok(Self { pipes: Mutex::new(vec![Pipe::new()?]), next: Mutex::default() })
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        match pipes.last().map(Pipe::open_reader) {
            Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Some(other) => return other,
            None => {}
        }
        let pipe = Pipe::new()?;
        let reader = pipe.open_reader();
        pipes.push(pipe);
        reader
    }

    fn next(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let path_to_reader = format!("/proc/self/fd/{}", reader.as_raw_fd());
        // Fails here, once, rather than at every start, where /proc is not what it should be.
        drop(File::open(&path_to_reader)?);
        Ok(Self { path_to_reader, _reader: reader, _writer: writer })
    }

    fn open_reader(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::open(&*self.path_to_reader, flags, Mode::empty())?)
    }
}
