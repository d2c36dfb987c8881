//! A fork server, as its parent sees it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use super::preload;
use super::spares::{Spares, run};
use super::{Ahead, Estate, Inherited, Request, Service, Station, Word, receive, send};
use crate::child::kill_group;
use crate::control::Control;
use crate::end::{End, Told, status_of};
use crate::error::{Cause, Stage};
use crate::image::Image;
use crate::life::START_LIMIT;
use crate::link::Report;
use crate::plan::Plan;
use crate::start::{Executed, execute_server, preloading};
use crate::surroundings::Environment;
use crate::sys;
use crate::wire::frame::{Frame, Frames, HEADER, Kind, header_with};
use crate::wire::handles::{CROWDED, is_crowded};
use crate::wire::{Connection, Limits, decode, handles};

/// Only one that has ended is waited for.
const ENDED: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG);

/// How often a server that is about to end is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// How long after its link was closed the server may take to tell why.
const WORD_LIMIT: Duration = Duration::from_secs(1);

/// A process that forks children.
#[derive(Debug)]
pub(crate) struct Server {
    /// Who it is.
    pub(crate) there: Station,
    /// What its children have before they are told anything; it says so itself.
    estate: OnceLock<Estate>,
    requests: AsyncFd<Arc<OwnedFd>>,
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    children: Mutex<Children>,
    /// Whether another has taken its place.
    retired: AtomicBool,
    /// Whether it is known to be of no use, which is before it has ended.
    lost: AtomicBool,
    /// What became of it.
    death: OnceLock<String>,
    pub(super) spares: Spares,
}

/// Those that have not ended.
#[derive(Debug, Default)]
struct Children {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Told>>,
}

/// A child that was asked for.
#[derive(Debug)]
pub(crate) struct Requested {
    id: u64,
    pub(crate) link: StdUnixStream,
    told: oneshot::Receiver<Told>,
}

/// A child that has said that it is there.
#[derive(Debug)]
pub(crate) struct Forked {
    pub(crate) pid: Pid,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) link: Connection,
    pub(crate) end: End,
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Cause {
    move |error| Cause::system(Stage::Server, what, &error)
}

impl Server {
    /// Starts one, and has it run these preloads.
    pub(crate) async fn start(there: Station, preloads: &[Plan]) -> Result<Arc<Self>, Cause> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| failed("cannot make the socket for requests")(error.into()))?;
        let requests = sys::watch(Arc::new(ours)).map_err(failed("cannot watch the requests"))?;
        let Executed { link, pid, pidfd } = execute_server()?;
        let exit = sys::watch(Arc::clone(&pidfd));
        let server = Arc::new(Self {
            estate: OnceLock::new(),
            there,
            requests,
            pid,
            pidfd,
            children: Mutex::default(),
            retired: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            death: OnceLock::new(),
            spares: Spares::default(),
        });
        let exit = exit.map_err(|error| {
            server.kill();
            server.reap(WaitIdOptions::EXITED);
            failed("cannot watch the fork server")(error)
        })?;
        let ready = {
            let mut boot = pin!(server.boot(link, theirs, preloads));
            tokio::select! {
                biased;
                ready = &mut boot => ready,
                // Somebody may hold its link open. If not, the end of that says more.
                _ = exit.readable() => timeout(WORD_LIMIT, boot)
                    .await
                    .unwrap_or_else(|_elapsed| Err(Cause::start(Stage::Server, "it has ended"))),
            }
        };
        if let Err(cause) = ready {
            server.kill();
            run(async move {
                drop(exit.readable().await);
                server.reap(ENDED);
            });
            return Err(cause);
        }
        run(listen(Arc::clone(&server), exit));
        Ok(server)
    }

    pub(crate) fn seems_to_live(&self) -> bool {
        self.death.get().is_none() && !self.is_retired()
    }

    /// Kills it, and what a preload has started in its group.
    fn kill(&self) {
        kill_group(self.pid, self.pidfd.as_fd());
    }

    /// Kills what is left of its group, and reaps it if it has ended; tells how.
    fn reap(&self, options: WaitIdOptions) -> String {
        self.kill();
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => match status_of(&status) {
                Ok(status) if status.signal().is_some() => format!("was {status}"),
                Ok(status) => status.to_string(),
                Err(cause) => cause.to_string(),
            },
            Ok(None) => "does not answer".into(),
            Err(error) => format!("has ended in an unknown way: {error}"),
        }
    }

    /// Tells it what it is, and waits until it serves.
    async fn boot(&self, link: Connection, requests: OwnedFd, preloads: &[Plan]) -> Result<(), Cause> {
        let told = failed("cannot tell the fork server what to do");
        let service = Service { image: Image::this()?.identity.clone(), preloads: preloads.len() };
        let body = postcard::to_stdvec(&service).map_err(|error| told(io::Error::other(error)))?;
        let mut frame = header_with(Kind::Serve, body.len() as u64, 1).to_vec();
        frame.extend_from_slice(&body);
        let deadline = Instant::now() + START_LIMIT;
        let sent = loop {
            match handles::send(&link, &frame, &[requests.as_fd()]) {
                Err(error) if is_crowded(&error) && Instant::now() < deadline => sleep(CROWDED).await,
                sent => break sent.map_err(&told)?,
            }
        };
        drop(requests);
        link.write_all(&frame[sent..]).await.map_err(&told)?;

        let mut words = FramedRead::new(&link, Frames { max_message: Limits::DEFAULT.max_message });
        let mut next = async |what: Option<&Plan>| {
            let limit = what.map_or(Some(START_LIMIT), |plan| plan.timeout);
            let word = match limit {
                Some(limit) => timeout(limit, words.next()).await.map_err(|_elapsed| match what {
                    Some(_) => Cause::TimedOut { after: limit },
                    None => Cause::start(Stage::Server, format!("it said nothing for {limit:?}")),
                })?,
                None => words.next().await,
            };
            match word {
                Some(Ok(Frame { kind: Kind::Failed, body, .. })) => Err(refused(&body, what)),
                Some(Ok(Frame { kind: Kind::Overflowed, .. })) => Err(overflowed(what)),
                Some(Ok(frame)) => Ok(frame),
                Some(Err(error)) => Err(Cause::start(Stage::Server, error.to_string())),
                None => Err(self.ended(what).await),
            }
        };
        expect(next(None).await?, Kind::Hello)?;
        for plan in preloads {
            let greeting = preloading(plan)?;
            link.write_all(&greeting.head).await.map_err(&told)?;
            link.write_all(&greeting.arguments.bytes).await.map_err(&told)?;
            let result = expect(next(Some(plan)).await?, Kind::Returned);
            preload::outcome(plan, &result.map_err(|cause| preload::failed(plan, cause))?.body)?;
        }
        // What goes wrong now is the last preload's fault, if there is one.
        let estate = expect(next(preloads.last()).await?, Kind::Started)?.body;
        let estate = postcard::from_bytes(&estate).map_err(|error| told(io::Error::other(error)))?;
        self.estate.get_or_init(|| estate);
        Ok(())
    }

    /// What a child is to be told by this process, which is here, if the server serves.
    ///
    /// # Errors
    /// If the environment cannot be one.
    pub(crate) fn difference_from(&self, here: &Station, changes: &Environment) -> io::Result<Inherited> {
        self.estate.get().ok_or(io::ErrorKind::NotConnected)?.difference_from(here, changes)
    }

    /// Why it has closed its link.
    async fn ended(&self, preloading: Option<&Plan>) -> Cause {
        // Whoever watches it else is in the same epoll, which takes a descriptor once.
        let deadline = Instant::now() + WORD_LIMIT;
        while !sys::is_readable(self.pidfd.as_fd()) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        let status = self.reap(ENDED);
        match preloading {
            Some(plan) => preload::failed(plan, format!("has ended the fork server: it {status}")),
            None => Cause::start(Stage::Server, format!("it {status} before it served")),
        }
    }

    pub(crate) fn lives(&self) -> bool {
        self.death.get().is_none() && !self.lost.load(Relaxed) && !sys::is_readable(self.pidfd.as_fd())
    }

    /// Asks for a child.
    pub(crate) async fn request(&self, ahead: Ahead) -> Result<Requested, Cause> {
        loop {
            match self.try_request(ahead) {
                Ok(requested) => return Ok(requested),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable().await.map_err(failed("cannot ask the fork server"))?;
                }
                Err(error) if is_crowded(&error) => sleep(CROWDED).await,
                Err(error) if is_closed(&error) => return Err(failed("the fork server is gone")(error)),
                Err(error) => {
                    let what = "cannot ask the fork server for a child";
                    return Err(Cause::system(Stage::Spawn, what, &error));
                }
            }
        }
    }

    /// Asks for a child, if that can be done at once; from any thread.
    ///
    /// # Errors
    /// Those of `socketpair(2)`, `open(2)` and `sendmsg(2)`.
    pub(crate) fn try_request(&self, ahead: Ahead) -> io::Result<Requested> {
        let (link, theirs) = StdUnixStream::pair()?;
        let lifeline = Control::get().map_err(io::Error::other)?.lifeline()?;
        let (tell, told) = oneshot::channel();
        let id = {
            let mut children = self.children();
            children.last += 1;
            let id = children.last;
            children.waiting.insert(id, tell);
            id
        };
        let request = Request::Fork { id, ahead };
        if let Err(error) = send(&self.requests, &request, &[theirs.as_fd(), lifeline.as_fd()]) {
            self.children().waiting.remove(&id);
            // One that is dying closes its socket first.
            self.lost.fetch_or(is_closed(&error), Relaxed);
            return Err(error);
        }
        // While the server forks.
        link.set_nonblocking(true)?;
        Ok(Requested { id, link, told })
    }

    /// Waits until there is room for a request. It is watched for only then: otherwise each one that the server takes would wake the
    /// control thread. An epoll takes a descriptor once, so that it is another.
    async fn writable(&self) -> io::Result<()> {
        let copy = Arc::new(self.requests.get_ref().try_clone()?);
        sys::watch_for(copy, Interest::WRITABLE)?.writable().await?.clear_ready();
        Ok(())
    }

    /// Waits until a child says that it is there. One that is given up before that sees its link closed when it would say so,
    /// and does nothing of what it was told.
    pub(crate) async fn hello(
        &self,
        requested: Requested,
        cancelled: &CancellationToken,
    ) -> Result<Forked, Cause> {
        let Requested { id, link, mut told } = requested;
        let link =
            Connection::new(link).inspect_err(|_| self.end(id)).map_err(failed("cannot watch the link"))?;
        let mut heard = None;
        let hello = async {
            loop {
                tokio::select! {
                    biased;
                    hello = link.read_by(receive_hello) => return hello,
                    word = &mut told, if heard.is_none() => {
                        if let Ok(Err(errno)) = word {
                            return Err(io::Error::from_raw_os_error(errno));
                        }
                        // It may have said hello all the same, and then its end is that of a child like others.
                        heard = Some(word);
                    }
                }
            }
        };
        let hello = tokio::select! {
            biased;
            hello = timeout(START_LIMIT, hello) => hello,
            () = cancelled.cancelled() => {
                // It may have said so a moment ago.
                self.end(id);
                return Err(Cause::Cancelled);
            }
        };
        let end = match heard {
            None => End::Forked(told),
            Some(word) => End::Forked(known(word)),
        };
        match hello {
            Ok(Ok(Some((pid, pidfd)))) => Ok(Forked { pid, pidfd: Arc::new(pidfd), link, end }),
            Ok(Ok(None)) => Err(self.why_not(end).await),
            Ok(Err(error)) => {
                self.end(id);
                Err(Cause::system(Stage::Spawn, "fork", &error))
            }
            Err(_elapsed) => {
                self.end(id);
                self.lost.store(true, Relaxed);
                self.kill();
                Err(Cause::start(Stage::Server, format!("the fork server did nothing for {START_LIMIT:?}")))
            }
        }
    }

    /// Why a child has closed its link before it said anything.
    async fn why_not(&self, end: End) -> Cause {
        let End::Forked(told) = end else { return Cause::Cancelled };
        match timeout(WORD_LIMIT, told).await {
            Ok(Ok(Ok(status))) if status.signal().is_some() => status.into(),
            Ok(Ok(Ok(status))) => {
                Cause::start(Stage::TakeOver, format!("it {status} before it was taken over"))
            }
            Ok(Ok(Err(errno))) => Cause::system(Stage::Spawn, "fork", &io::Error::from_raw_os_error(errno)),
            Ok(Err(_gone)) => self.cause_of_death(),
            Err(_elapsed) => {
                Cause::start(Stage::Spawn, "the fork server has taken the request, and not forked")
            }
        }
    }

    fn cause_of_death(&self) -> Cause {
        let death = self.death.get().map_or("is gone", |death| death);
        Cause::start(Stage::Server, format!("{death} before the child was there"))
    }

    /// Ends a child that has not said who it is.
    fn end(&self, id: u64) {
        // An error means that the server is gone, or so busy that it will not come to the child either.
        drop(send(&self.requests, &Request::Kill { id }, &[]));
    }

    /// Has it end when its last child has.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Relaxed);
        self.spares.clear();
        self.leave_if_done();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    fn leave_if_done(&self) {
        if self.is_retired() && self.children().waiting.is_empty() {
            // An error means that it is gone.
            let _ = shutdown(&self.requests, Shutdown::Both);
        }
    }

    fn hear(&self, word: &Word) {
        let (id, told) = match *word {
            Word::NotForked { id, errno } => (id, Err(errno)),
            Word::Ended { id, status } => (id, Ok(status)),
        };
        let teller = self.children().waiting.remove(&id);
        if let Some(teller) = teller {
            // Nobody waits for one whose start was given up.
            let _ = teller.send(told);
        }
        self.leave_if_done();
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the error means that the other end of a socket is gone.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Hears what a server says until it has ended.
async fn listen(server: Arc<Server>, exit: AsyncFd<Arc<OwnedFd>>) {
    let word = || server.requests.async_io(Interest::READABLE, |requests| receive::<Word>(requests));
    loop {
        tokio::select! {
            biased;
            word = word() => match word {
                Ok(Some((word, _))) => {
                    server.hear(&word);
                    // Whoever waits for it goes first, before it is looked whether there is another.
                    yield_now().await;
                }
                Ok(None) | Err(_) => break,
            },
            _ = exit.readable() => break,
        }
    }
    // It has nothing more to say, or cannot be understood.
    if !server.is_retired() {
        server.kill();
    }
    drop(exit.readable().await);
    while let Ok(Some((word, _))) = receive::<Word>(server.requests.get_ref()) {
        server.hear(&word);
    }
    let status = server.reap(ENDED);
    drop(server.death.set(format!("the fork server {status}")));
    if !server.is_retired() {
        tracing::warn!(target: "procession", %status, "the fork server has ended");
    }
    // Whoever waits for a child learns that the server will not tell.
    let orphans = std::mem::take(&mut server.children().waiting);
    drop(orphans);
    server.spares.clear();
}

fn expect(frame: Frame, kind: Kind) -> Result<Frame, Cause> {
    if frame.kind == kind {
        return Ok(frame);
    }
    Err(Cause::start(Stage::Server, format!("{:?} came where {kind:?} belongs", frame.kind)))
}

/// Why a server does not serve, in its own words.
fn refused(report: &[u8], preloading: Option<&Plan>) -> Cause {
    let cause = match decode::<Report>(report, &Limits::DEFAULT) {
        Ok(report) => Cause::from(report),
        Err(error) => return Cause::start(Stage::Server, error.to_string()),
    };
    match (cause, preloading) {
        (cause, Some(plan)) => preload::failed(plan, cause),
        (Cause::Start { reason, .. }, None) => Cause::start(Stage::Server, reason),
        (cause, None) => cause,
    }
}

fn overflowed(preloading: Option<&Plan>) -> Cause {
    match preloading {
        Some(plan) => preload::failed(plan, Cause::StackOverflow),
        None => Cause::start(Stage::Server, Cause::StackOverflow.to_string()),
    }
}

/// A receiver of what is known already.
pub(super) fn known(word: Result<Told, oneshot::error::RecvError>) -> oneshot::Receiver<Told> {
    let (tell, told) = oneshot::channel();
    if let Ok(word) = word {
        let _ = tell.send(word);
    }
    told
}

/// `None` if the link is closed.
fn receive_hello(link: BorrowedFd<'_>) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut frame = [0; HEADER + 4];
    let (length, mut beside) = match handles::receive(link, &mut frame) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        other => other?,
    };
    if length == 0 {
        return Ok(None);
    }
    let (header, body) = frame.split_at(HEADER);
    let pid = body.try_into().map(i32::from_le_bytes).ok().and_then(Pid::from_raw);
    match (pid, beside.pop()) {
        (Some(pid), Some(pidfd)) if header == header_with(Kind::Hello, 4, 1) && length == frame.len() => {
            Ok(Some((pid, pidfd)))
        }
        _ => Err(io::Error::other("a child did not say who it is")),
    }
}
