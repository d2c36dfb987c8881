//! The life of a child, as its parent lives it: one task on the control thread for each.
//!
//! ```text
//! Greeting --Hello--> Preparing --Started--> Running --Returned or Failed--> Leaving
//! ```
//!
//! Only a child whose function has a time limit says when that starts; another is taken for running from its hello on.
//!
//! In every phase the child may end, exceed a limit, break the protocol, or be cancelled. What it was is decided
//! only when both are in, what it said and how it ended: by [`decide`], and nowhere else.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use rustix::process::Signal;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::sync::CancellationToken;

use crate::child::{Announcement, Child, Ended, Progress};
use crate::control::Control;
use crate::end::End;
use crate::error::{Cause, Stage};
use crate::leaving::Leaving;
use crate::link::Report;
use crate::output::Tracer;
use crate::plan::Plan;
use crate::start::{Asked, Greeting, Newborn, start};
use crate::status::ExitStatus;
use crate::stdio::Stdio;
use crate::wire::frame::{Frame, FrameError, Frames, Kind, header};
use crate::wire::{Came, Connection, DecodeError, Limits, Packet, decode};

/// How long a child may take from its start until it is taken over, constructors included.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a child that was asked to stop is left alone after SIGTERM, and again after SIGKILL.
const STEP: Duration = Duration::from_millis(500);

/// How long a child may take to end when its function has: more than it gives itself.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// A child that was born, and the parent's ends of its standard streams.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) child: Arc<Child>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// What came of an order: a value, still encoded, or why there is none.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Of the process, if there was one.
    pub(crate) pid: Option<u32>,
    pub(crate) result: Result<Packet, Cause>,
    /// The last lines of its errors, if they were traced.
    pub(crate) stderr: Vec<String>,
}

impl Ending {
    /// That of an order which nobody has seen through.
    pub(crate) fn unknown() -> Self {
        Self::without_process(Cause::StatusLost { reason: "nobody watches over it".into() })
    }

    const fn without_process(cause: Cause) -> Self {
        Self { pid: None, result: Err(cause), stderr: Vec::new() }
    }
}

/// An order to run something in a child of its own.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) plan: Plan,
    pub(crate) name: String,
    /// Cancelled by whoever gives up waiting.
    pub(crate) cancelled: CancellationToken,
    /// Hears of the child when there is one.
    pub(crate) born: oneshot::Sender<Birth>,
    /// Hears how it ended.
    pub(crate) ended: oneshot::Sender<Ending>,
    /// Whether a value is told as soon as it is there, or when the process has ended.
    pub(crate) early: bool,
}

/// Starts a child, if one was not asked for already, and sees it through.
pub(crate) async fn live(order: Order, asked: Option<Asked>) {
    let started = start(&order.plan, &order.name, asked, &order.cancelled).await;
    if let Ok(control) = Control::get() {
        control.prepare_lifeline();
    }
    see_to(order, started).await;
}

/// Sees a child through that was told what to run.
pub(crate) async fn live_on(order: Order, newborn: Newborn) {
    see_to(order, Ok(newborn)).await;
}

async fn see_to(order: Order, started: Result<Newborn, Cause>) {
    let Order { mut plan, cancelled, born, ended, early, .. } = order;
    let mut ended = Some(ended);
    // What is still to be written holds them.
    plan.forget_handles();
    let ending = match started {
        Err(cause) => Ending::without_process(cause),
        Ok(newborn) => {
            let value = if early { &mut ended } else { &mut None };
            see_through(newborn, &plan, &cancelled, born, value).await
        }
    };
    if let Some(ended) = ended {
        // Whoever has given up waiting does not listen.
        drop(ended.send(ending));
    }
}

/// Lives a child's life to its end, reaps it, and decides what became of it.
async fn see_through(
    newborn: Newborn,
    plan: &Plan,
    cancelled: &CancellationToken,
    born: oneshot::Sender<Birth>,
    early: &mut Option<oneshot::Sender<Ending>>,
) -> Ending {
    let Newborn { child, announcement, membership, link, end, greeting, said_hello, streams } = newborn;
    let [stdin, stdout, stderr] = streams;
    let (stdout, told_stdout) = trace(stdout, &plan.surroundings.stdout, "stdout", &child);
    let (stderr, told_stderr) = trace(stderr, &plan.surroundings.stderr, "stderr", &child);
    // Whoever awaits the value alone does not listen here.
    drop(born.send(Birth { child: Arc::clone(&child), stdin, stdout, stderr }));

    let life = Life::new(&child, &announcement, plan, said_hello, early);
    let (mut told, ended) = life.run(link, end, greeting, cancelled).await;
    if let Some(stdout) = told_stdout {
        drop(stdout.finish().await);
    }
    let stderr = match told_stderr {
        Some(stderr) => stderr.finish().await,
        None => Vec::new(),
    };
    let pid = Some(child.pid());
    let Told { leaving, .. } = &mut told;
    let leaving = leaving.take();
    // Whoever hears of the end finds that nothing is open any more but what the handles hold.
    drop(membership);
    drop(child);
    announcement.send_replace(Progress::Ended(ended.clone()));
    drop(leaving);
    Ending { pid, result: decide(told, ended), stderr }
}

/// Traces a stream, if it is to be traced; else it is for the holder of the process.
fn trace(
    ours: Option<OwnedFd>,
    stdio: &Stdio,
    stream: &'static str,
    child: &Child,
) -> (Option<OwnedFd>, Option<Tracer>) {
    match ours {
        // Without a watch on the pipe there is nobody to read it: the child finds that out when it writes.
        Some(pipe) if stdio.is_traced() => (None, Tracer::start(pipe, stream, child).ok()),
        other => (other, None),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Preparing,
    Running,
    Leaving,
}

struct Life<'a> {
    child: &'a Child,
    announcement: &'a Announcement,
    timeout: Option<Duration>,
    max_message: u64,
    max_handles: u16,
    /// How long the child may take to read its arguments: [`START_LIMIT`], and a second for each mebibyte.
    prepare_limit: Duration,
    phase: Phase,
    /// When the phase has lasted too long.
    deadline: Option<Instant>,
    /// What is done next to a child that was asked to stop, and when.
    ladder: Option<(Rung, Instant)>,
    told: Told,
    /// Who hears of a value as soon as it is there, if anybody does.
    early: &'a mut Option<oneshot::Sender<Ending>>,
}

/// The steps by which a child is made to stop, from words to force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Terminate,
    Kill,
    GiveUp,
}

/// All that is known of a child's end but its exit status.
#[derive(Debug, Default)]
struct Told {
    /// Why it was killed.
    killed_for: Option<Cause>,
    /// What became of its function.
    result: Option<Result<Packet, Cause>>,
    overflowed: bool,
    taken_over: bool,
    /// Whether its value was handed on before its end.
    leaving: Option<Leaving>,
}

impl<'a> Life<'a> {
    fn new(
        child: &'a Child,
        announcement: &'a Announcement,
        plan: &Plan,
        said_hello: bool,
        early: &'a mut Option<oneshot::Sender<Ending>>,
    ) -> Self {
        let mut life = Self {
            child,
            announcement,
            timeout: plan.timeout,
            max_message: plan.limits.max_message,
            max_handles: plan.limits.max_handles,
            prepare_limit: START_LIMIT
                + Duration::from_secs(plan.arguments.as_ref().map_or(0, |it| it.bytes().len() as u64 >> 20)),
            phase: Phase::Greeting,
            deadline: Some(Instant::now() + START_LIMIT),
            ladder: None,
            told: Told::default(),
            early,
        };
        if said_hello {
            life.greeted();
        }
        life
    }

    /// The child is ours now, and reads what it is to run.
    fn greeted(&mut self) {
        self.told.taken_over = true;
        match self.timeout {
            Some(_) => self.enter(Phase::Preparing, Some(self.prepare_limit)),
            None => self.enter(Phase::Running, None),
        }
    }

    /// Talks with the child until it has ended, and hears it out.
    async fn run(
        mut self,
        link: Connection,
        end: End,
        greeting: Greeting,
        cancelled: &CancellationToken,
    ) -> (Told, Ended) {
        link.allow_handles(self.max_handles);
        let (unread, ended) = {
            let mut frames = FramedRead::new(&link, Frames { max_message: self.max_message });
            let mut asked = self.child.asked_to_stop.subscribe();
            // It may have been asked to before this task came here.
            asked.mark_changed();
            let mut talk = pin!(talk(&link, greeting, asked.clone()));
            let mut end = pin!(end.seen(self.child));
            let (mut listening, mut talking) = (true, true);
            let ended = loop {
                tokio::select! {
                    // What the child says counts before what became of it.
                    biased;
                    frame = poll_fn(|context| pin!(&mut frames).poll_next(context)), if listening => {
                        listening = frame.is_some_and(|frame| self.hear(&link, frame));
                        if self.early.is_some() && self.phase == Phase::Leaving {
                            // Whoever awaits the value must now wait for its end.
                            link.say_no_more();
                        }
                    }
                    ended = &mut end => break ended,
                    () = cancelled.cancelled(), if self.told.killed_for.is_none() => self.kill(Cause::Cancelled),
                    told = &mut talk, if talking => {
                        talking = false;
                        if let Err(error) = told {
                            self.unheard(&error);
                        }
                    }
                    Ok(()) = asked.changed() => self.begin_to_stop(*asked.borrow_and_update()),
                    () = until(self.deadline) => self.late(),
                    () = until(self.ladder.map(|(_, at)| at)) => self.climb(),
                }
            };
            (listening.then(|| std::mem::take(frames.read_buffer_mut())), ended)
        };
        // Nobody of its group is left that could hold the link and never stop talking.
        if let Some(unread) = unread {
            self.hear_out(&link, unread);
        }
        (self.told, ended)
    }

    /// Takes in what the child has said; whether there is more to hear.
    fn hear(&mut self, link: &Connection, frame: Result<Frame, FrameError>) -> bool {
        let Frame { kind, body, handles } = match frame {
            Ok(frame) => frame,
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return self.misbehaved(error.to_string());
            }
            // The end of a link that its peer has broken; the exit status tells the rest.
            Err(FrameError::Io(error)) if is_broken(&error) => return false,
            Err(FrameError::Io(error)) => {
                let lost = Cause::StatusLost { reason: format!("cannot listen to it: {error}") };
                self.settle(Err(lost.clone()));
                self.kill(lost);
                return false;
            }
            Err(error) => return self.misbehaved(error.to_string()),
        };
        match (self.phase, kind) {
            (Phase::Greeting, Kind::Hello) if body.is_empty() => self.greeted(),
            (Phase::Preparing, Kind::Started) if body.is_empty() => self.enter(Phase::Running, self.timeout),
            (Phase::Running, Kind::Returned) => match Self::result(link, body, handles) {
                Ok(Ok(result)) => self.returned(result),
                Ok(Err(cause)) => self.settle(Err(cause)),
                Err(reason) => return self.misbehaved(reason),
            },
            (Phase::Greeting | Phase::Preparing | Phase::Running, Kind::Failed) => {
                match decode::<Report>(&body, &Limits::DEFAULT) {
                    Ok(report) => self.settle(Err(report.into())),
                    Err(error) => return self.misbehaved(error.to_string()),
                }
            }
            // Once: no child may keep this task busy with words that lead nowhere.
            (_, Kind::Overflowed) if body.is_empty() && !self.told.overflowed => self.told.overflowed = true,
            (phase, kind) => {
                return self.misbehaved(format!("{kind:?} with {} bytes while {phase:?}", body.len()));
            }
        }
        self.phase != Phase::Leaving
    }

    /// What it was to be told could not be written. One that has broken the link is ending by itself.
    fn unheard(&mut self, error: &io::Error) {
        if !is_broken(error) {
            self.kill(Cause::system(Stage::TakeOver, "cannot tell it what to run", error));
        }
    }

    fn returned(&mut self, value: Packet) {
        let mut value = Some(value);
        if self.early.is_some()
            && let Some(leaving) = Leaving::begin()
            && let Some(early) = self.early.take()
        {
            self.told.leaving = Some(leaving);
            let result = Ok(value.take().unwrap_or_default());
            // Whoever has given up waiting does not listen.
            drop(early.send(Ending { pid: Some(self.child.pid()), result, stderr: Vec::new() }));
        }
        self.settle(Ok(value.unwrap_or_default()));
    }

    /// The result, with what came beside it.
    fn result(link: &Connection, bytes: Bytes, announced: u16) -> Result<Result<Packet, Cause>, String> {
        match link.take_handles(announced) {
            Came::All(handles) => Ok(Ok(Packet { bytes, handles })),
            Came::Cut => Ok(Err(Cause::Decode(DecodeError::without_descriptors()))),
            Came::Others { came } => {
                Err(format!("{came} handles beside a result that announces {announced}"))
            }
        }
    }

    fn settle(&mut self, result: Result<Packet, Cause>) {
        self.told.taken_over = true;
        self.told.result = Some(result);
        self.enter(Phase::Leaving, Some(LEAVE_LIMIT));
    }

    fn enter(&mut self, phase: Phase, limit: Option<Duration>) {
        self.phase = phase;
        // A limit beyond the clock's end is none.
        self.deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    }

    fn misbehaved(&mut self, reason: String) -> bool {
        self.kill(Cause::BadMessage { reason });
        false
    }

    fn late(&mut self) {
        let cause = match (self.phase, self.timeout) {
            (Phase::Running, Some(after)) => Cause::TimedOut { after },
            (Phase::Leaving, _) => Cause::Cancelled,
            (Phase::Greeting, _) => {
                Cause::start(Stage::TakeOver, format!("it said nothing for {START_LIMIT:?}"))
            }
            _ => {
                let reason = format!("its arguments were not read within {:?}", self.prepare_limit);
                Cause::start(Stage::Boot, reason)
            }
        };
        self.kill(cause);
    }

    /// Steps onto the ladder. Whoever asks again sets the time anew, unless force has begun.
    fn begin_to_stop(&mut self, grace: Option<Duration>) {
        let (Some(grace), None | Some((Rung::Terminate, _))) = (grace, self.ladder) else { return };
        let at = Instant::now().checked_add(grace);
        self.ladder = at.map(|at| (Rung::Terminate, at));
    }

    fn climb(&mut self) {
        let Some((rung, _)) = self.ladder else { return };
        let next = match rung {
            Rung::Terminate => {
                // An error means that it is another user's now, whom only its own code can end.
                drop(self.child.signal(Signal::TERM));
                Some(Rung::Kill)
            }
            Rung::Kill => {
                self.child.kill_group();
                Some(Rung::GiveUp)
            }
            Rung::GiveUp => {
                self.announcement.send_replace(Progress::Unkillable);
                None
            }
        };
        self.ladder = next.map(|next| (next, Instant::now() + STEP));
    }

    fn kill(&mut self, cause: Cause) {
        self.deadline = None;
        self.told.killed_for.get_or_insert(cause);
        self.child.kill_group();
    }

    /// Reads what the child said before it ended. All of it is in the socket by now; a process that outlived
    /// the child may hold the link open, so that an end is not waited for.
    fn hear_out(&mut self, link: &Connection, mut unread: bytes::BytesMut) {
        let mut frames = Frames { max_message: self.max_message };
        let mut chunk = [0; 4 << 10];
        loop {
            match frames.decode(&mut unread).transpose() {
                Some(frame) => {
                    if !self.hear(link, frame) {
                        return;
                    }
                }
                None => match link.read_now(&mut chunk) {
                    Ok(0) => return,
                    Ok(count) => unread.extend_from_slice(&chunk[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_nothing_more) => return,
                },
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether the error means that the other end of a link is gone. One that has no number is the decoder's word for a
/// frame that was cut off.
fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset) || error.raw_os_error().is_none()
}

/// Tells the child what to run, and, when it is asked to, to stop.
async fn talk(
    link: &Connection,
    greeting: Greeting,
    mut asked_to_stop: watch::Receiver<Option<Duration>>,
) -> io::Result<()> {
    let Greeting { head, arguments } = greeting;
    link.write_all(&head).await?;
    link.write_beside(&arguments.bytes, &arguments.handles).await?;
    drop((head, arguments));
    if asked_to_stop.wait_for(Option::is_some).await.is_ok() {
        // Where it cannot be told, it is made to stop when the grace is over.
        drop(link.write_all(&header(Kind::Stop, 0)).await);
    }
    Ok(())
}

/// What became of the function, from everything that is known: the first row that fits.
///
/// | known | then |
/// |---|---|
/// | it broke the protocol | `BadMessage` |
/// | a result came | that result, however the process ended after it |
/// | we killed it, and SIGKILL is what ended it | what we killed it for |
/// | its status is unknown | why |
/// | it said that its stack was at its end, and a bad access ended it | `StackOverflow` |
/// | it left by itself before it was taken over | `Start` |
/// | else | how it ended |
fn decide(told: Told, ended: Ended) -> Result<Packet, Cause> {
    let Told { killed_for, result, overflowed, taken_over, .. } = told;
    if let Some(cause @ Cause::BadMessage { .. }) = killed_for {
        return Err(cause);
    }
    if let Some(result) = result {
        return result;
    }
    let was_killed = !ended.as_ref().is_ok_and(|status| status.signal() != Some(libc::SIGKILL));
    if let Some(cause) = killed_for.filter(|_| was_killed) {
        return Err(cause);
    }
    let status = ended?;
    if overflowed && matches!(status.signal(), Some(libc::SIGSEGV | libc::SIGBUS)) {
        return Err(Cause::StackOverflow);
    }
    Err(if taken_over || status.signal().is_some() { status.into() } else { not_taken_over(status) })
}

fn not_taken_over(status: ExitStatus) -> Cause {
    Cause::start(Stage::TakeOver, format!("it {status} before it was taken over"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    const KILLED: Ended = Ok(ExitStatus::signaled(libc::SIGKILL, false));

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Connection::new(ours).unwrap(), theirs)
    }

    fn told() -> Told {
        Told { taken_over: true, ..Told::default() }
    }

    fn seven() -> Packet {
        Packet { bytes: Bytes::from_static(b"7"), ..Packet::default() }
    }

    fn timed_out() -> Option<Cause> {
        Some(Cause::TimedOut { after: Duration::from_secs(1) })
    }

    /// A process that is none of ours, with the link in our hands.
    #[expect(clippy::zombie_processes, reason = "`End::seen` waits for it")]
    async fn stranger_that_says(bytes: &[u8], start_limit: Duration) -> (Told, Ended) {
        let process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(process.id().cast_signed()).unwrap();
        let pidfd = Arc::new(pidfd_open(pid, PidfdFlags::empty()).unwrap());
        let (child, announcement) = Child::new("stranger".into(), false, pid, Arc::clone(&pidfd));
        let (link, mut theirs) = pair();
        theirs.write_all(bytes).unwrap();
        let life = Life {
            child: &child,
            announcement: &announcement,
            timeout: None,
            max_message: 1000,
            max_handles: 0,
            prepare_limit: START_LIMIT,
            phase: Phase::Greeting,
            deadline: Instant::now().checked_add(start_limit),
            ladder: None,
            told: Told::default(),
            early: &mut None,
        };
        let greeting = Greeting { head: Bytes::from_static(b"hello"), arguments: Packet::default() };
        let end = End::Ours(crate::sys::watch(pidfd).unwrap());
        life.run(link, end, greeting, &CancellationToken::new()).await
    }

    #[procession_macros::process(crate = crate)]
    async fn double(n: u64) -> u64 {
        n * 2
    }

    async fn told_by_a_tampered_start(
        tamper: impl FnOnce(&mut crate::link::Bootstrap),
    ) -> Result<Packet, Cause> {
        let plan = double(4).into_plan();
        let newborn = crate::start::tests::start_with(&plan, tamper);
        let Newborn { child, announcement, link, end, greeting, said_hello, .. } = newborn;
        let (told, ended) = Life::new(&child, &announcement, &plan, said_hello, &mut None)
            .run(link, end, greeting, &CancellationToken::new())
            .await;
        decide(told, ended)
    }

    fn program(bootstrap: &mut crate::link::Bootstrap) -> &mut crate::link::Program {
        bootstrap.program.as_mut().unwrap()
    }

    fn refused(result: Result<Packet, Cause>) -> String {
        match result.unwrap_err() {
            Cause::Start { stage: Stage::Boot, reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_child_checks_what_it_is_told() {
        assert_eq!(told_by_a_tampered_start(|_| {}).await.unwrap().bytes, &[8][..]);
        let other_image = |bootstrap: &mut crate::link::Bootstrap| {
            program(bootstrap).image = crate::image::Identity::BuildId(vec![1])
        };
        assert!(refused(told_by_a_tampered_start(other_image).await).contains("another build"));
        let tampers: [fn(&mut crate::link::Bootstrap); 6] = [
            |bootstrap| program(bootstrap).place.push('x'),
            |bootstrap| program(bootstrap).signature.push('x'),
            |bootstrap| bootstrap.entry += 8,
            |bootstrap| bootstrap.entry += 1,
            |bootstrap| bootstrap.entry = i64::MIN,
            |bootstrap| bootstrap.entry = 1 << 40,
        ];
        for tamper in tampers {
            assert!(refused(told_by_a_tampered_start(tamper).await).contains("there is no"));
        }
    }

    #[tokio::test]
    async fn what_was_said_before_the_end_is_heard() {
        let (link, mut theirs) = pair();
        for (kind, body) in [(Kind::Hello, &b""[..]), (Kind::Returned, b"7")] {
            theirs.write_all(&header(kind, body.len() as u64)).unwrap();
            theirs.write_all(body).unwrap();
        }
        let pidfd = Arc::new(pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap());
        let (child, announcement) = Child::new("gone".into(), false, rustix::process::getpid(), pidfd);
        let plan = double(4).into_plan();
        let mut nobody = None;
        let mut life = Life::new(&child, &announcement, &plan, false, &mut nobody);
        assert!(life.deadline.is_some());
        // The other end is still open: its end is not waited for.
        life.hear_out(&link, bytes::BytesMut::new());
        assert_eq!(life.told.result.unwrap().unwrap().bytes, &b"7"[..]);
    }

    #[tokio::test]
    async fn silence_before_it_is_taken_over_ends_it() {
        let (told, ended) = stranger_that_says(b"", Duration::from_millis(50)).await;
        assert_eq!(ended, KILLED);
        let cause = decide(told, ended).unwrap_err();
        assert!(matches!(cause, Cause::Start { stage: Stage::TakeOver, .. }), "{cause}");
    }

    #[tokio::test]
    async fn words_of_another_protocol_end_it() {
        let (told, ended) = stranger_that_says(&[7; 100], Duration::from_secs(60)).await;
        assert_eq!(ended, KILLED);
        assert!(matches!(decide(told, ended), Err(Cause::BadMessage { .. })));
    }

    #[test]
    fn a_result_counts_whatever_comes_after_it() {
        for ended in [KILLED, Ok(ExitStatus::exited(0)), Err(Cause::Reaped)] {
            let told = Told { result: Some(Ok(seven())), killed_for: timed_out(), ..told() };
            assert_eq!(decide(told, ended).unwrap().bytes, &b"7"[..]);
        }
    }

    #[test]
    fn a_liar_is_not_believed() {
        let killed_for = Some(Cause::BadMessage { reason: "x".into() });
        let told = Told { result: Some(Ok(Packet::default())), killed_for, ..told() };
        assert!(matches!(decide(told, KILLED), Err(Cause::BadMessage { .. })));
    }

    #[test]
    fn what_ended_it_is_the_cause() {
        let late = || Told { killed_for: timed_out(), ..told() };
        assert_eq!(decide(late(), KILLED).unwrap_err(), timed_out().unwrap());
        // It had crashed by itself before the signal came.
        let crashed = Ok(ExitStatus::signaled(libc::SIGSEGV, false));
        assert!(matches!(decide(late(), crashed), Err(Cause::Signaled { signal: libc::SIGSEGV, .. })));
        assert_eq!(decide(late(), Err(Cause::Reaped)).unwrap_err(), timed_out().unwrap());
        assert_eq!(decide(told(), Err(Cause::Reaped)).unwrap_err(), Cause::Reaped);
    }

    #[test]
    fn exits_and_signals() {
        assert_eq!(decide(told(), Ok(ExitStatus::exited(0))).unwrap_err(), Cause::Exited { code: 0 });
        let killed = Cause::Signaled { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(decide(told(), KILLED).unwrap_err(), killed);
    }

    #[test]
    fn before_it_was_taken_over() {
        let cause = decide(Told::default(), Ok(ExitStatus::exited(127))).unwrap_err();
        assert!(matches!(cause, Cause::Start { stage: Stage::TakeOver, .. }), "{cause}");
        assert!(matches!(decide(Told::default(), KILLED), Err(Cause::Signaled { .. })));
    }

    #[test]
    fn overflows_end_by_a_bad_access() {
        let overflowed = || Told { overflowed: true, ..told() };
        let crashed = Ok(ExitStatus::signaled(libc::SIGSEGV, true));
        assert_eq!(decide(overflowed(), crashed).unwrap_err(), Cause::StackOverflow);
        assert!(matches!(decide(overflowed(), Ok(ExitStatus::exited(3))), Err(Cause::Exited { code: 3 })));
    }
}
