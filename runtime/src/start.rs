//! Starting a child: from a plan to a process that is being told what to run.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getegid, geteuid, getgid, getuid, kill_process,
    pidfd_open, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::child::{Announcement, Child};
use crate::control::Control;
use crate::current::{current, depth};
use crate::error::{Cause, Stage};
use crate::image::Image;
use crate::link::Bootstrap;
use crate::plan::{Plan, StartMethod};
use crate::stdio::Ends;
use crate::surroundings::Surroundings;
use crate::sys;
use crate::wire::frame::{HEADER, Kind, MAX_REPORT, header};

/// How many generations of children may stand above one another: what stops a function that calls itself.
const MAX_DEPTH: u32 = 32;

/// Arguments up to this size go with what precedes them, in one write.
const SMALL: usize = 16 << 10;

/// A child that has just been started.
pub(crate) struct Newborn {
    pub(crate) child: Arc<Child>,
    pub(crate) announcement: Announcement,
    pub(crate) link: UnixStream,
    /// Readable when the child has ended.
    pub(crate) exit: AsyncFd<Arc<OwnedFd>>,
    pub(crate) greeting: Greeting,
    /// The parent's ends of standard input, output and errors.
    pub(crate) streams: [Option<OwnedFd>; 3],
}

/// Both ends of a child's standard input, output and errors.
struct Streams([Ends; 3]);

impl Streams {
    fn open(surroundings: &Surroundings) -> std::io::Result<Self> {
        let Surroundings { stdin, stdout, stderr, .. } = surroundings;
        Ok(Self([stdin.input()?, stdout.output()?, stderr.output()?]))
    }

    /// The child's ends at their numbers, and what else it is given.
    fn descriptors<'a>(&'a self, others: [(BorrowedFd<'a>, RawFd); 2]) -> Vec<(BorrowedFd<'a>, RawFd)> {
        let streams = self.0.iter().zip(0..);
        let theirs = streams.filter_map(|(ends, number)| Some((ends.theirs.as_ref()?.as_fd(), number)));
        theirs.chain(others).collect()
    }

    fn ours(self) -> [Option<OwnedFd>; 3] {
        self.0.map(|ends| ends.ours)
    }
}

/// What is written to a child first.
pub(crate) struct Greeting {
    pub(crate) head: Bytes,
    pub(crate) arguments: Bytes,
}

/// Starts a child.
pub(crate) fn start(plan: &Plan, name: &str) -> Result<Newborn, Cause> {
    launch(plan, name, greeting(plan, name)?)
}

/// Starts a child that will be told this.
fn launch(plan: &Plan, name: &str, greeting: Greeting) -> Result<Newborn, Cause> {
    let failed = |what| move |error: std::io::Error| Cause::system(Stage::Spawn, what, &error);
    let (ours, theirs) =
        std::os::unix::net::UnixStream::pair().map_err(failed("cannot make the link to the child"))?;
    ours.set_nonblocking(true).map_err(failed("cannot set the link up"))?;
    let link = UnixStream::from_std(ours).map_err(failed("cannot watch the link"))?;
    let lifeline = Control::get()?.lifeline().map_err(failed("cannot open the lifeline"))?;
    let streams = Streams::open(&plan.surroundings).map_err(failed("cannot open the standard streams"))?;
    let environment = plan.surroundings.environment.strings().map_err(failed("a bad environment"))?;
    let descriptors =
        streams.descriptors([(theirs.as_fd(), sys::LINK_FD), (lifeline.as_fd(), sys::LIFELINE_FD)]);
    let pid = match plan.start_method {
        StartMethod::Spawn => spawn(&environment, &descriptors).map_err(failed("posix_spawn"))?,
    };
    let pidfd = Arc::new(watched(pid)?);
    let (child, announcement) = Child::new(name.to_owned(), plan.daemon, pid, Arc::clone(&pidfd));
    let child = Arc::new(child);
    match sys::watch(pidfd) {
        Ok(exit) => Ok(Newborn { child, announcement, link, exit, greeting, streams: streams.ours() }),
        Err(error) => {
            give_up(pid);
            Err(failed("cannot watch the child")(error))
        }
    }
}

/// Checks that a child would be one, and writes down what it is to be told.
fn greeting(plan: &Plan, name: &str) -> Result<Greeting, Cause> {
    if !sys::armed() {
        return Err(Cause::start(
            Stage::Setup,
            "nothing would take a child over: call `procession::init()` as the first line of `main`, \
             or write `#[procession::main]`",
        ));
    }
    if sys::secure_mode() || getuid() != geteuid() || getgid() != getegid() {
        return Err(Cause::start(
            Stage::Setup,
            "this program has more rights than its caller (AT_SECURE), or has given some up: \
             a child could not tell who its parent is",
        ));
    }
    if depth() >= MAX_DEPTH {
        let reason =
            format!("{MAX_DEPTH} generations of processes stand above this one: does it call itself?");
        return Err(Cause::start(Stage::Depth, reason));
    }
    let arguments = plan.sendable_arguments()?;
    let image = Image::this()?;
    image.check_that_children_share_it()?;
    let bootstrap = Bootstrap {
        image: image.identity.clone(),
        entry: image.distance(plan.entry)?,
        place: plan.entry.place.to_string(),
        signature: (plan.entry.signature)().to_owned(),
        name: name.to_owned(),
        parent_name: current().name().to_owned(),
        parent_pid: current().pid(),
        depth: depth() + 1,
        limits: plan.limits,
        settings: plan.surroundings.settings.clone(),
    };
    written(&bootstrap, arguments)
}

fn written(bootstrap: &Bootstrap, arguments: Bytes) -> Result<Greeting, Cause> {
    let body =
        postcard::to_stdvec(bootstrap).map_err(|error| Cause::start(Stage::Setup, error.to_string()))?;
    if body.len() as u64 > MAX_REPORT {
        let reason = format!("what the child is to be told has {} bytes: is its name that long?", body.len());
        return Err(Cause::start(Stage::Setup, reason));
    }
    let mut head = BytesMut::with_capacity(2 * HEADER + body.len() + SMALL);
    head.put_slice(&header(Kind::Start, body.len() as u64));
    head.put_slice(&body);
    head.put_slice(&header(Kind::Arguments, arguments.len() as u64));
    let (small, large) =
        if arguments.len() <= SMALL { (arguments, Bytes::new()) } else { (Bytes::new(), arguments) };
    head.put_slice(&small);
    Ok(Greeting { head: head.freeze(), arguments: large })
}

/// This program again, with the marker as its second argument.
fn spawn(environment: &[CString], descriptors: &[(BorrowedFd<'_>, RawFd)]) -> std::io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| "procession".into());
    let arguments: Vec<CString> = [program.into_vec(), sys::MARKER.to_bytes().to_vec()]
        .into_iter()
        // Without the constructor a child still has the marker that it was started with.
        .chain(arguments.map(OsString::into_vec).skip_while(|argument| argument == sys::MARKER.to_bytes()))
        .map(|argument| CString::new(argument).map_err(std::io::Error::from))
        .collect::<Result<_, _>>()?;
    sys::spawn(c"/proc/self/exe", &arguments, environment, descriptors)
}

/// A pidfd of a child of ours: were it reaped by other code meanwhile, its number could be a stranger's by now.
fn watched(pid: Pid) -> Result<OwnedFd, Cause> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| {
        if error == Errno::SRCH {
            return Cause::Reaped;
        }
        give_up(pid);
        Cause::system(Stage::Spawn, "pidfd_open (Linux has it since 5.3)", &error.into())
    })?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Err(Errno::CHILD) => Err(Cause::Reaped),
        _ => Ok(pidfd),
    }
}

/// Ends a child that cannot be watched. It dies at once, so that waiting does not block.
fn give_up(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::frame::read_frame;

    /// A start in which the child is told something else than the truth.
    pub(crate) fn start_with(plan: &Plan, tamper: impl FnOnce(&mut Bootstrap)) -> Newborn {
        let Greeting { head, arguments } = greeting(plan, "tampered").unwrap();
        let mut head = &head[..];
        let (_, body) = read_frame(&mut head, u64::MAX).unwrap().unwrap();
        let mut bootstrap = postcard::from_bytes(&body).unwrap();
        tamper(&mut bootstrap);
        assert!(arguments.is_empty(), "small ones stand in the head");
        let (_, arguments) = read_frame(&mut head, u64::MAX).unwrap().unwrap();
        launch(plan, "tampered", written(&bootstrap, arguments.into()).unwrap()).unwrap()
    }
}
