//! Starting a child: from a plan to a process that is being told what to run.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getegid, geteuid, getgid, getuid, kill_process,
    pidfd_open, pidfd_send_signal, waitid,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::child::{Announcement, Child};
use crate::control::Control;
use crate::current::{current, depth};
use crate::end::End;
use crate::error::{Cause, Stage};
use crate::family::Membership;
use crate::fork_server::{Forked, Inherited, Requested, Server, Spare, Station, own_streams};
use crate::image::Image;
use crate::life::{Order, START_LIMIT};
use crate::link::{Bootstrap, Program};
use crate::plan::{Plan, StartMethod};
use crate::stdio::{Ends, Theirs};
use crate::surroundings::{Said, Surroundings};
use crate::sys;
use crate::wire::frame::{HEADER, Kind, MAX_START, header_with};
use crate::wire::handles::{CROWDED, is_crowded};
use crate::wire::{Connection, EncodeError, Packet, handles};

/// How many generations of children may stand above one another: what stops a function that calls itself.
const MAX_DEPTH: u32 = 32;

/// Arguments up to this size go with what precedes them, in one write.
const SMALL: usize = 16 << 10;

/// Longer than what a child is told about itself mostly is.
const MOSTLY: usize = 512;

/// A child that has just been started.
pub(crate) struct Newborn {
    pub(crate) child: Arc<Child>,
    pub(crate) announcement: Announcement,
    pub(crate) membership: Membership,
    pub(crate) link: Connection,
    pub(crate) end: End,
    /// What is still to be written to it.
    pub(crate) greeting: Greeting,
    /// Whether it has said that it is there.
    pub(crate) said_hello: bool,
    /// The parent's ends of standard input, output and errors.
    pub(crate) streams: [Option<OwnedFd>; 3],
}

impl Newborn {
    /// One that a server has forked, and that has said so.
    pub(crate) fn of(called: Called, forked: Forked) -> Self {
        let Called { child, announcement, membership, greeting, streams } = called;
        let Forked { link, end, .. } = forked;
        Self { child, announcement, membership, link, end, greeting, said_hello: true, streams }
    }
}

/// What a forked child becomes when it is told what to run.
#[derive(Debug)]
pub(crate) struct Called {
    child: Arc<Child>,
    announcement: Announcement,
    membership: Membership,
    greeting: Greeting,
    streams: [Option<OwnedFd>; 3],
}

impl Called {
    fn new(
        pid: Pid,
        pidfd: &Arc<OwnedFd>,
        greeting: Greeting,
        streams: Streams,
        plan: &Plan,
        name: &str,
    ) -> Self {
        let (child, announcement) = Child::new(name.to_owned(), plan.daemon, pid, Arc::clone(pidfd));
        let child = Arc::new(child);
        let membership = Membership::of(&child);
        Self { child, announcement, membership, greeting, streams: streams.ours() }
    }

    /// Whether nobody has anything to do for it until something becomes of it: everything was written, and nobody waits for
    /// its birth or watches its time or its output.
    pub(crate) fn needs_nothing(&self, order: &Order) -> bool {
        let Greeting { head, arguments } = &self.greeting;
        let is_told = head.is_empty() && arguments.bytes.is_empty();
        is_told && order.early && order.plan.timeout.is_none() && self.streams.iter().all(Option::is_none)
    }
}

/// Both ends of a child's standard input, output and errors.
struct Streams([Ends; 3]);

impl Streams {
    fn open(surroundings: &Surroundings) -> std::io::Result<Self> {
        let Said { stdin, stdout, stderr, .. } = &**surroundings;
        Ok(Self([stdin.input()?, stdout.output()?, stderr.output()?]))
    }

    /// The child's ends, for one that has `/dev/null` where none is given.
    fn instead_of_null<'a>(&'a self, own: [Option<BorrowedFd<'a>>; 3]) -> [Option<BorrowedFd<'a>>; 3] {
        let [stdin, stdout, stderr] = &self.0;
        let [own_stdin, own_stdout, own_stderr] = own;
        [(stdin, own_stdin), (stdout, own_stdout), (stderr, own_stderr)].map(|(ends, own)| {
            match &ends.theirs {
                Theirs::Parents => own,
                Theirs::Null => None,
                Theirs::Given(theirs) => Some(theirs.as_fd()),
            }
        })
    }

    /// The child's ends, for one that has its parent's where none is given.
    fn instead_of_parents<'a>(&'a self, null: &'a OwnedFd) -> [Option<BorrowedFd<'a>>; 3] {
        self.0.each_ref().map(|ends| match &ends.theirs {
            Theirs::Parents => None,
            Theirs::Null => Some(null.as_fd()),
            Theirs::Given(theirs) => Some(theirs.as_fd()),
        })
    }

    fn ours(self) -> [Option<OwnedFd>; 3] {
        self.0.map(|ends| ends.ours)
    }
}

/// What is written to a child first.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    pub(crate) head: Bytes,
    /// What of the arguments does not stand in the head: those that are long, or have handles beside them.
    pub(crate) arguments: Packet,
}

/// What was done of a start on the thread that orders it.
pub(crate) enum Begun {
    Told(Told),
    Asked(Asked),
}

impl Begun {
    /// What calls it off, if that is settled.
    pub(crate) fn cancelled(&self) -> Option<CancellationToken> {
        match self {
            Self::Told(told) => Some(told.spare.cancelled.clone()),
            Self::Asked(_) => None,
        }
    }
}

/// A spare that was told what to run.
pub(crate) struct Told {
    server: Arc<Server>,
    spare: Spare,
    called: Called,
}

impl Told {
    /// Gives its life to the task that holds it.
    pub(crate) fn leave_to_its_task(self, control: &'static Control, order: Order) {
        let Self { server, spare, called } = self;
        spare.called(order, called);
        control.servers().refill(&server);
    }
}

/// A child of a fork server that was asked for before it was known whether it is the right one.
pub(crate) struct Asked {
    server: Arc<Server>,
    candidate: Candidate,
}

enum Candidate {
    Spare(Spare),
    Requested(Requested),
}

/// Does on the thread that orders a child what takes no waiting, if there is a server: tells a spare what to run, or asks for
/// a child, which then is there the sooner. One that turns out to be of no use sees that its link is closed, and ends.
pub(crate) fn begin(control: &Control, plan: &Plan, name: &str, early: bool) -> Option<Begun> {
    if plan.start_method.or_else(StartMethod::set) == Some(StartMethod::Spawn) {
        return None;
    }
    let server = control.servers().at_hand()?;
    let Some(spare) = server.take_spare() else {
        let candidate = Candidate::Requested(server.try_request(plan.entry.body.ahead()).ok()?);
        return Some(Begun::Asked(Asked { server, candidate }));
    };
    Some(match tell_ahead(control, &server, spare.link(), plan, name, early) {
        Some((greeting, streams)) => {
            let called = Called::new(spare.pid, &spare.pidfd, greeting, streams, plan, name);
            Begun::Told(Told { server, spare, called })
        }
        None => Begun::Asked(Asked { server, candidate: Candidate::Spare(spare) }),
    })
}

/// `None` if something is in the way: the control thread then tries the same, and waits, or says what it is.
fn tell_ahead(
    control: &Control,
    server: &Server,
    link: Option<BorrowedFd<'_>>,
    plan: &Plan,
    name: &str,
    lingers: bool,
) -> Option<(Greeting, Streams)> {
    check().ok()?;
    let here = control.station().ok().filter(|here| server.there.suits(here))?;
    let streams = Streams::open(&plan.surroundings).ok()?;
    let mut introduction = Introduction::new(server, &here, &streams, plan, name, lingers).ok()?;
    introduction.send(link?).ok()?;
    Some((introduction.greeting, streams))
}

/// Starts a child.
///
/// One that is cancelled is not told what to run; whatever was told before that is seen through.
pub(crate) async fn start(
    plan: &Plan,
    name: &str,
    asked: Option<Asked>,
    cancelled: &CancellationToken,
) -> Result<Newborn, Cause> {
    if cancelled.is_cancelled() {
        return Err(Cause::Cancelled);
    }
    check()?;
    plan.sendable_arguments()?;
    match plan.start_method.or_else(StartMethod::set) {
        Some(StartMethod::Spawn) => spawn(plan, name),
        Some(StartMethod::ForkServer) => fork(plan, name, asked, cancelled).await,
        None => match fork(plan, name, asked, cancelled).await {
            Err(_) if Control::get()?.servers().are_unfit().await => spawn(plan, name),
            forked => forked,
        },
    }
}

/// Starts a child by exec.
fn spawn(plan: &Plan, name: &str) -> Result<Newborn, Cause> {
    launch(plan, name, greeting(plan, name, None, false)?)
}

/// Starts a child by exec that will be told this.
fn launch(plan: &Plan, name: &str, greeting: Greeting) -> Result<Newborn, Cause> {
    let failed = |what| move |error: std::io::Error| Cause::system(Stage::Spawn, what, &error);
    let streams = Streams::open(&plan.surroundings).map_err(failed("cannot open the standard streams"))?;
    let environment = plan.surroundings.environment.strings().map_err(failed("a bad environment"))?;
    let Executed { link, pid, pidfd } = execute(&environment, &streams)?;
    let (child, announcement) = Child::new(name.to_owned(), plan.daemon, pid, Arc::clone(&pidfd));
    let child = Arc::new(child);
    match sys::watch(pidfd) {
        Ok(pidfd) => Ok(Newborn {
            membership: Membership::of(&child),
            child,
            announcement,
            link,
            end: End::Ours(pidfd),
            greeting,
            said_hello: false,
            streams: streams.ours(),
        }),
        Err(error) => {
            give_up(pid);
            Err(failed("cannot watch the child")(error))
        }
    }
}

/// A process of this program that will be taken over.
pub(crate) struct Executed {
    pub(crate) link: Connection,
    pub(crate) pid: Pid,
    pub(crate) pidfd: Arc<OwnedFd>,
}

/// A process that is to be a fork server.
pub(crate) fn execute_server() -> Result<Executed, Cause> {
    let failed = |what| move |error: std::io::Error| Cause::system(Stage::Server, what, &error);
    let surroundings = Surroundings::default();
    let streams = Streams::open(&surroundings).map_err(failed("cannot open the standard streams"))?;
    let environment = surroundings.environment.strings().map_err(failed("a bad environment"))?;
    execute(&environment, &streams)
}

fn execute(environment: &[CString], streams: &Streams) -> Result<Executed, Cause> {
    let failed = |what| move |error: std::io::Error| Cause::system(Stage::Spawn, what, &error);
    let control = Control::get()?;
    let (ours, theirs) =
        std::os::unix::net::UnixStream::pair().map_err(failed("cannot make the link to the child"))?;
    ours.set_nonblocking(true).map_err(failed("cannot set the link up"))?;
    let link = Connection::new(ours).map_err(failed("cannot watch the link"))?;
    let lifeline = control.lifeline().map_err(failed("cannot open the lifeline"))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(|error| failed("cannot open /dev/null")(error.into()))?;
    let streams = streams.instead_of_parents(&null).into_iter().zip(0..);
    let streams = streams.filter_map(|(stream, number)| Some((stream?, number)));
    let others = [(theirs.as_fd(), sys::LINK_FD), (lifeline.as_fd(), sys::LIFELINE_FD)];
    let descriptors: Vec<(BorrowedFd<'_>, RawFd)> = streams.chain(others).collect();
    let pid = program(environment, &descriptors).map_err(failed("posix_spawn"))?;
    let pidfd = Arc::new(watched(pid)?);
    control.prepare_lifeline();
    Ok(Executed { link, pid, pidfd })
}

/// Starts a child by the fork server. A server that has died is followed by another; once, because a child that has said
/// nothing has done nothing yet.
async fn fork(
    plan: &Plan,
    name: &str,
    asked: Option<Asked>,
    cancelled: &CancellationToken,
) -> Result<Newborn, Cause> {
    match try_fork(plan, name, asked, cancelled).await {
        Err((Some(server), _)) if !server.lives() => {
            try_fork(plan, name, None, cancelled).await.map_err(|(_, cause)| cause)
        }
        other => other.map_err(|(_, cause)| cause),
    }
}

/// An error says which server it was, if it came to one.
async fn try_fork(
    plan: &Plan,
    name: &str,
    asked: Option<Asked>,
    cancelled: &CancellationToken,
) -> Result<Newborn, (Option<Arc<Server>>, Cause)> {
    let control = Control::get().map_err(|cause| (None, cause))?;
    let servers = control.servers();
    let here = control.station().map_err(|cause| (None, cause))?;
    let asked = asked.filter(|asked| !asked.server.is_retired() && asked.server.there.suits(&here));
    let (server, candidate) = match asked {
        Some(Asked { server, candidate }) => (server, Some(candidate)),
        None => {
            let server = tokio::select! {
                biased;
                () = cancelled.cancelled() => Err(Cause::Cancelled),
                server = servers.suiting(&here) => server,
            };
            (server.map_err(|cause| (None, cause))?, None)
        }
    };
    let newborn = fork_by(&server, candidate, &here, plan, name, cancelled).await;
    servers.refill(&server);
    newborn.map_err(|cause| (Some(server), cause))
}

async fn fork_by(
    server: &Server,
    candidate: Option<Candidate>,
    here: &Station,
    plan: &Plan,
    name: &str,
    cancelled: &CancellationToken,
) -> Result<Newborn, Cause> {
    let candidate = match candidate {
        Some(candidate) => candidate,
        None => match server.take_spare() {
            Some(spare) => Candidate::Spare(spare),
            None => Candidate::Requested(server.request(plan.entry.body.ahead()).await?),
        },
    };
    let streams = Streams::open(&plan.surroundings)
        .map_err(|error| Cause::system(Stage::Spawn, "cannot open the standard streams", &error))?;
    if cancelled.is_cancelled() {
        // The child sees that its link is closed, and ends.
        return Err(Cause::Cancelled);
    }
    let (forked, greeting) = match candidate {
        Candidate::Spare(spare) => {
            let lost = || Cause::StatusLost { reason: "nobody watches over it".into() };
            let spare = spare.claimed().await.ok_or_else(lost)?;
            let rest =
                greet(spare.link.as_fd(), server, here, &streams, plan, name).await.inspect_err(|_| {
                    // A copy of this process, made by `fork`, may hold its link open. An error means that it has ended.
                    let _ = pidfd_send_signal(&spare.pidfd, Signal::KILL);
                });
            (spare, rest?)
        }
        Candidate::Requested(requested) => {
            // While the server forks.
            let rest = greet(requested.link.as_fd(), server, here, &streams, plan, name).await?;
            (server.hello(requested, cancelled).await?, rest)
        }
    };
    let called = Called::new(forked.pid, &forked.pidfd, greeting, streams, plan, name);
    Ok(Newborn::of(called, forked))
}

/// Writes to a forked child who it is and what it is to run, as far as the link takes it at once.
async fn greet(
    link: BorrowedFd<'_>,
    server: &Server,
    here: &Station,
    streams: &Streams,
    plan: &Plan,
    name: &str,
) -> Result<Greeting, Cause> {
    let mut introduction = Introduction::new(server, here, streams, plan, name, false)?;
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match introduction.send(link) {
            Ok(()) => return Ok(introduction.greeting),
            Err(error) if is_crowded(&error) && Instant::now() < deadline => sleep(CROWDED).await,
            Err(error) => return Err(cannot_tell(error)),
        }
    }
}

/// What is written to a forked child first, and the descriptors beside it.
struct Introduction<'a> {
    greeting: Greeting,
    streams: [Option<BorrowedFd<'a>>; 3],
    directory: Option<OwnedFd>,
}

impl<'a> Introduction<'a> {
    fn new(
        server: &Server,
        here: &Station,
        streams: &'a Streams,
        plan: &Plan,
        name: &str,
        lingers: bool,
    ) -> Result<Self, Cause> {
        let difference = server.difference_from(here, &plan.surroundings.environment);
        let mut inherited =
            difference.map_err(|error| Cause::system(Stage::Spawn, "a bad environment", &error))?;
        let streams = streams.instead_of_null(own_streams());
        let directory = inherited.open_directory().map_err(cannot_tell)?;
        inherited.streams = streams.map(|stream| stream.is_some());
        let beside = streams.iter().flatten().count() + usize::from(directory.is_some());
        let beside = u16::try_from(beside).map_err(std::io::Error::other).map_err(cannot_tell)?;
        Ok(Self { greeting: greeting(plan, name, Some((inherited, beside)), lingers)?, streams, directory })
    }

    /// Writes what the link takes at once. After an error nothing of it is written.
    fn send(&mut self, link: BorrowedFd<'_>) -> std::io::Result<()> {
        let beside = self.streams.into_iter().flatten().chain(self.directory.as_ref().map(AsFd::as_fd));
        match handles::send(link, &self.greeting.head, &beside.collect::<Vec<_>>()) {
            Ok(sent) => self.greeting.head.advance(sent),
            // It has ended, or was ended; what comes of that is told by its end.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.greeting = Greeting::default()
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn cannot_tell(error: std::io::Error) -> Cause {
    Cause::system(Stage::Spawn, "cannot tell the child what to run", &error)
}

/// Checks that a child would be one.
fn check() -> Result<(), Cause> {
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
    Image::this()?.check_that_children_share_it()
}

/// What a fork server is told to run once.
pub(crate) fn preloading(plan: &Plan) -> Result<Greeting, Cause> {
    greeting(plan, plan.display_name(), None, false)
}

/// Writes down what a child is to be told. What it is to inherit, and how many descriptors come beside that, is for one
/// that is forked by a server.
fn greeting(
    plan: &Plan,
    name: &str,
    inherited: Option<(Inherited, u16)>,
    lingers: bool,
) -> Result<Greeting, Cause> {
    let arguments = plan.sendable_arguments()?;
    let image = Image::this()?;
    let (inherited, beside) = inherited.unzip();
    let bootstrap = Bootstrap {
        entry: image.distance(plan.entry)?,
        program: inherited.is_none().then(|| Program {
            image: image.identity.clone(),
            place: plan.entry.place.to_string(),
            signature: (plan.entry.signature)().to_owned(),
        }),
        name: name.to_owned(),
        parent_name: current().name().to_owned(),
        parent_pid: current().pid(),
        depth: depth() + 1,
        limits: plan.limits,
        is_timed: plan.timeout.is_some(),
        lingers,
        settings: plan.surroundings.settings.clone(),
        default_method: StartMethod::set(),
        inherited,
    };
    written(&bootstrap, beside.unwrap_or(0), arguments)
}

fn written(bootstrap: &Bootstrap, beside: u16, arguments: Packet) -> Result<Greeting, Cause> {
    let body = postcard::to_extend(bootstrap, Vec::with_capacity(MOSTLY))
        .map_err(|error| Cause::start(Stage::Setup, error.to_string()))?;
    if body.len() as u64 > MAX_START {
        let reason = format!(
            "what the child is to be told has {} bytes: are its name and environment that long?",
            body.len()
        );
        return Err(Cause::start(Stage::Setup, reason));
    }
    let length = arguments.bytes.len();
    let handles = u16::try_from(arguments.handles.len()).map_err(|_too_many| {
        EncodeError::TooManyHandles { count: arguments.handles.len(), limit: u16::MAX }
    })?;
    let announced = header_with(Kind::Arguments, length as u64, handles);
    let mut head = BytesMut::with_capacity(2 * HEADER + body.len() + length.min(SMALL));
    head.put_slice(&header_with(Kind::Start, body.len() as u64, beside));
    head.put_slice(&body);
    let rest = if handles > 0 {
        // Descriptors come with the first bytes of a frame.
        Packet { bytes: [&announced[..], &arguments.bytes].concat().into(), ..arguments }
    } else if length > SMALL {
        head.put_slice(&announced);
        arguments
    } else {
        head.put_slice(&announced);
        head.put_slice(&arguments.bytes);
        Packet::default()
    };
    Ok(Greeting { head: head.freeze(), arguments: rest })
}

/// This program again, with the marker as its second argument.
fn program(environment: &[CString], descriptors: &[(BorrowedFd<'_>, RawFd)]) -> std::io::Result<Pid> {
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
        let Greeting { head, arguments } = greeting(plan, "tampered", None, false).unwrap();
        let mut head = &head[..];
        let (_, body) = read_frame(&mut head, u64::MAX).unwrap().unwrap();
        let mut bootstrap = postcard::from_bytes(&body).unwrap();
        tamper(&mut bootstrap);
        assert!(arguments.bytes.is_empty(), "small ones stand in the head");
        let (_, arguments) = read_frame(&mut head, u64::MAX).unwrap().unwrap();
        let arguments = Packet { bytes: arguments.into(), ..Packet::default() };
        launch(plan, "tampered", written(&bootstrap, 0, arguments).unwrap()).unwrap()
    }
}
