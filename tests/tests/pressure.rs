//! Calls in a system that has nothing left, in a program whose other code waits for its children, and in one that was
//! started in a strange way: an error that says so, or a value. Requirements 15, 16, 36 and 43.
//!
//! What needs a tool or a right that this machine lacks is skipped, and says so on stderr; with `PROCESSION_NO_SKIP` it
//! fails. `PROCESSION_INJECT` is how many system calls are made to fail, or `all`; `PROCESSION_SEED` repeats a choice.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "../src/bin/root/random.rs"]
mod random;

use std::env;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use procession::{Cause, Process, ProcessError, Resource, Stage, current, join_children, process};
use procession_tests::{
    Isolated, NotPassed, StartMethod, descendants_of, eventually, fork_servers_of, is_root, isolated,
    needing, open_fds, state, succeeds, under_both,
};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use random::Random;

const ROOT: &str = env!("CARGO_BIN_EXE_root");

/// The uid of nobody in particular, and that of the owner of a program that nobody may start.
const NOBODY: u32 = 65534;
const SOMEBODY: u32 = 1;

/// The uid of nobody else: what other processes of his have in flight counts.
const STRANGER: u32 = 61_543;

fn root(arguments: &[&str]) -> Command {
    let mut command = Command::new(ROOT);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Lines that a program has printed; it has succeeded.
#[track_caller]
fn lines(command: &mut Command) -> Vec<String> {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.lines().map(str::to_owned).collect()
}

#[process]
async fn answers(n: u32) -> u32 {
    n
}

#[process(threads = 2)]
async fn answers_in_a_crowd(n: u32) -> u32 {
    n
}

#[process]
async fn answers_when_asked() -> String {
    current().stopping().await;
    "still here".into()
}

/// What came of starting more than there are descriptors for.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Crowd {
    lived: usize,
    refused: Vec<ProcessError>,
    afterwards: Result<u32, ProcessError>,
    left: usize,
}

/// Starts so many, sees that those which live do, and how it is when they are gone.
#[process]
async fn crowd(number: usize) -> Crowd {
    answers(1).await.unwrap();
    join_children().await;
    let before = open_fds().len();
    let started: Vec<_> = (0..number).map(|_| answers_when_asked().spawn()).collect();
    let started = futures::future::join_all(started).await;
    let (living, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    let mut living: Vec<Process<String>> = living.into_iter().map(Result::unwrap).collect();
    for process in &mut living {
        process.stop(Duration::from_secs(3600)).await.unwrap();
        assert_eq!(process.join().await.unwrap(), "still here");
    }
    let lived = living.len();
    drop(living);
    let afterwards = answers(7).await;
    join_children().await;
    let left = open_fds().len() - before;
    Crowd { lived, refused: refused.into_iter().filter_map(Result::err).collect(), afterwards, left }
}

isolated! {
    /// 36: what does not fit is refused with the reason, what fits works, and afterwards all is well.
    async fn r36_descriptors_for_a_few() {
        let Crowd { lived, refused, afterwards, left } =
            crowd(40).rlimit(Resource::OpenFiles, 32, 32).await.unwrap();
        assert!(lived >= 4 && lived + refused.len() == 40, "{lived} {refused:?}");
        for error in refused {
            let Cause::Start { stage: Stage::Spawn | Stage::Server, errno, .. } = error.cause() else {
                panic!("{error:?}")
            };
            assert_eq!(*errno, Some(Errno::MFILE.raw_os_error()), "{error}");
        }
        assert_eq!(afterwards.unwrap(), 7);
        assert_eq!(left, 0);
    }

    /// 15: where other code waits for every child, there is a value, or a cause that says so.
    fn r15_somebody_else_waits() {
        lines(&mut root(&["thief"]));
    }

    /// 16: a program whose file was deleted, or replaced by another, goes on to start what it was.
    fn r16_the_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let program = copied_to(directory.path());
        let mut running = Running::start(&program);
        assert_eq!(running.answer("first"), r#"value "first, the child's child""#);
        fs::remove_file(&program).unwrap();
        assert_eq!(running.answer("deleted"), r#"value "deleted, the child's child""#);
        fs::copy("/bin/true", &program).unwrap();
        assert_eq!(running.answer("anew"), r#"value "anew, the child's child""#);

        let program = copied_to(directory.path());
        let mut running = Running::start(&program);
        let other = directory.path().join("other");
        fs::copy("/bin/true", &other).unwrap();
        fs::rename(other, &program).unwrap();
        assert_eq!(running.answer("replaced"), r#"value "replaced, the child's child""#);
    }

    /// 16: what is done to a file but its contents does not make it another.
    fn r16_the_file_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let program = copied_to(directory.path());
        let mut running = Running::start(&program);
        assert_eq!(running.answer("first"), r#"value "first, the child's child""#);
        fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
        fs::hard_link(&program, directory.path().join("link")).unwrap();
        fs::File::open(&program).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(running.answer("touched"), r#"value "touched, the child's child""#);
    }
}

/// Descriptors in flight: sent, and not received.
struct Flights {
    from: UnixStream,
    to: UnixStream,
}

impl Flights {
    /// As many as this user may have.
    fn full() -> Self {
        let (from, to) = UnixStream::pair().unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            let fds = [null.as_fd()];
            assert!(beside.push(SendAncillaryMessage::ScmRights(&fds)));
            match sendmsg(&from, &[IoSlice::new(b"x")], &mut beside, SendFlags::empty()) {
                Ok(_) => {}
                Err(Errno::TOOMANYREFS) => return Self { from, to },
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Receives some.
    fn land(&self, number: usize) {
        for _ in 0..number {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let bytes = &mut [IoSliceMut::new(&mut byte)];
            recvmsg(&self.to, bytes, &mut beside, RecvFlags::CMSG_CLOEXEC).unwrap();
        }
    }

    fn land_all(self) {
        drop((self.from, self.to));
    }
}

/// What holds up a call that the kernel takes no more descriptors for.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
enum HeldUp {
    Request,
    Greeting,
    Hello,
}

impl HeldUp {
    /// How many descriptors fewer must be in flight than there can be at most. A request takes two, as does a greeting, and
    /// three with another input; the server receives those of the request before the child says hello with one.
    const fn room(self) -> usize {
        match self {
            Self::Request => 0,
            Self::Greeting => 1,
            Self::Hello => 3,
        }
    }
}

/// Becomes a user with no rights, whom the kernel lets have as few descriptors in flight as open; root may have more.
fn become_somebody() {
    if is_root() {
        let (user, group) = (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER));
        setgroups(&[]).unwrap();
        setresgid(group, group, group).unwrap();
        setresuid(user, user, user).unwrap();
    }
}

fn have_few_descriptors(number: u64) {
    let limits = getrlimit(rustix::process::Resource::Nofile);
    setrlimit(rustix::process::Resource::Nofile, Rlimit { current: Some(number), ..limits }).unwrap();
}

fn stop_server() -> Pid {
    let servers = fork_servers_of(std::process::id());
    let server = Pid::from_raw(servers[0].pid.cast_signed()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    eventually(Duration::from_secs(30), || state(servers[0].pid) == Some('T'));
    server
}

/// Whether it waits, as far as can be seen.
async fn is_held_up(call: &mut (impl Future + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_millis(200), call).await.is_err()
}

/// Waits for something that the kernel takes no more descriptors for, until it does.
#[process]
async fn calls_in_a_jam(held_up: HeldUp) -> u32 {
    become_somebody();
    have_few_descriptors(60);
    answers(1).await.unwrap();
    join_children().await;
    let server = stop_server();
    let flights = Flights::full();
    flights.land(held_up.room());
    let mut call =
        Box::pin(async { answers(7).stdin(procession::Stdio::piped()).spawn().await?.join().await });
    assert!(is_held_up(&mut call).await);
    if let HeldUp::Hello = held_up {
        kill_process(server, Signal::CONT).unwrap();
        assert!(is_held_up(&mut call).await);
    }
    flights.land_all();
    kill_process(server, Signal::CONT).unwrap();
    call.await.unwrap()
}

/// Starts its fork server when the kernel takes no descriptor for that.
#[process]
async fn begins_in_a_jam() -> u32 {
    become_somebody();
    have_few_descriptors(60);
    let flights = Flights::full();
    let mut call = Box::pin(async { answers(7).start_method(StartMethod::ForkServer).await });
    assert!(is_held_up(&mut call).await);
    flights.land_all();
    call.await.unwrap()
}

/// Makes more calls at once than descriptors can be in flight for, while nobody receives any.
#[process]
async fn calls_in_a_rush(number: u32) -> Vec<Result<u32, ProcessError>> {
    become_somebody();
    // As many as it needs to have open: two for each call.
    have_few_descriptors(u64::from(number) * 2 + 30);
    answers(1).await.unwrap();
    let server = stop_server();
    let mut calls = futures::future::join_all((0..number).map(answers));
    assert!(is_held_up(&mut calls).await);
    kill_process(server, Signal::CONT).unwrap();
    calls.await
}

isolated! {
    /// 36: where the kernel takes no more descriptors in flight, a call waits until it does.
    #[once]
    async fn r36_too_many_descriptors_in_flight() {
        for held_up in [HeldUp::Request, HeldUp::Greeting, HeldUp::Hello] {
            let called = calls_in_a_jam(held_up).start_method(StartMethod::Spawn).await;
            assert_eq!(called.unwrap(), 7, "{held_up:?}");
        }
        assert_eq!(begins_in_a_jam().start_method(StartMethod::Spawn).await.unwrap(), 7);
    }

    /// 36: also where it is the calls themselves that take them.
    #[once]
    async fn r36_descriptors_in_flight_for_a_few() {
        let called = calls_in_a_rush(100).start_method(StartMethod::Spawn).await.unwrap();
        for (n, outcome) in (0..).zip(called) {
            assert_eq!(outcome.unwrap(), n);
        }
    }
}

/// 36: so few that not even a child's own runtime fits are told for what they are. A forked child makes the runtime that
/// most functions need before it hears of its limits.
fn r36_descriptors_for_nobody(method: StartMethod) -> Result<(), NotPassed> {
    let test = Isolated::new(module_path!(), "r36_descriptors_for_nobody").under(method);
    test.run_async(async move || {
        for limit in 0..20 {
            let calls = [(answers(3), method == StartMethod::ForkServer), (answers_in_a_crowd(3), false)];
            for (call, has_enough) in calls {
                match call.rlimit(Resource::OpenFiles, limit, limit).await {
                    Ok(3) => assert!(limit > 5 || has_enough, "{limit}"),
                    Ok(_) => unreachable!(),
                    Err(error) => assert!(is_true_of_a_lack(error.cause()), "{limit}: {error:?}"),
                }
            }
        }
    })
}
under_both!(r36_descriptors_for_nobody);

/// Whether it says that there are no descriptors; the runtime of a child says so by a panic of its own.
fn is_true_of_a_lack(cause: &Cause) -> bool {
    match cause {
        Cause::Start { .. } => true,
        Cause::Panicked { message, location, .. } => {
            message.contains("Too many open files")
                && location.as_deref().is_some_and(|place| place.contains("/tokio-"))
        }
        _ => false,
    }
}

fn copied_to(directory: &Path) -> PathBuf {
    let program = directory.join("a program");
    drop(fs::remove_file(&program));
    fs::copy(ROOT, &program).unwrap();
    program
}

/// A program that starts a child for each line that it reads.
struct Running {
    program: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg("generations").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let output = BufReader::new(program.stdout.take().unwrap());
        let mut running = Self { program, output };
        assert!(running.line().starts_with("pid "));
        running
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn answer(&mut self, question: &str) -> String {
        writeln!(self.program.stdin.as_mut().unwrap(), "{question}").unwrap();
        self.line()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.program.stdin.take());
        self.program.wait().unwrap();
    }
}

/// 15: a program that was started with SIGCHLD ignored, whose children the kernel reaps. A fork server does not ignore it:
/// nothing of how its children end is lost.
fn r15_nobody_waits(method: StartMethod) -> Result<(), NotPassed> {
    let ignoring = || {
        let mut command = Command::new("env");
        command.args(["--ignore-signal=CHLD", ROOT, "unwaited"]);
        command
    };
    let expected = match method {
        StartMethod::Spawn => [
            "value 3",
            "cause Reaped",
            "cause Reaped",
            "cause Reaped",
            "cause TimedOut { after: 10ms }",
            "cause Reaped",
            "children 0",
        ],
        _ => [
            "value 3",
            "cause Exited { code: 3 }",
            "value ExitStatus(Signaled { signal: 9, core_dumped: false })",
            "cause Signaled { signal: 9, core_dumped: false }",
            "cause TimedOut { after: 10ms }",
            "value ExitStatus(Signaled { signal: 9, core_dumped: false })",
            "children 0",
        ],
    };
    let is_there = succeeds("env", &["--ignore-signal=CHLD", "true"]);
    needing("env(1) with --ignore-signal", is_there, || {
        Isolated::new(module_path!(), "r15_nobody_waits").under(method).run(|| {
            assert_eq!(lines(&mut ignoring()), expected);
        })
    })
}
under_both!(r15_nobody_waits);

/// As the first process of a PID namespace, where no other process would be its parent's parent.
fn as_process_one(method: StartMethod) -> Result<(), NotPassed> {
    let namespace = ["--pid", "--fork", "--mount-proc"];
    needing(
        "right to make a PID namespace",
        succeeds("unshare", &[&namespace[..], &["true"]].concat()),
        || {
            Isolated::new(module_path!(), "as_process_one").under(method).run(|| {
                let mut command = Command::new("unshare");
                let told = lines(
                    command.args(namespace).args([ROOT, "generations"]).stdin(Stdio::from(line("one"))),
                );
                assert_eq!(told, ["pid 1", r#"value "one, the child's child""#]);
                let mut command = Command::new("unshare");
                let told = lines(command.args(namespace).args([ROOT, "orphans"]));
                assert_eq!(
                    told,
                    ["value ExitStatus(Signaled { signal: 9, core_dumped: false })", "value 3", "alive 0"]
                );
            })
        },
    )
}
under_both!(as_process_one);

/// A file with one line.
fn line(text: &str) -> fs::File {
    let path = tempfile::NamedTempFile::new().unwrap();
    writeln!(path.as_file(), "{text}").unwrap();
    fs::File::open(path.path()).unwrap()
}

/// 43: a program that runs with more rights than its caller starts nothing, and is no child of anybody.
fn r43_more_rights_than_the_caller(method: StartMethod) -> Result<(), NotPassed> {
    let is_there = is_root() && succeeds("setpriv", &["--reuid=65534", "--clear-groups", "true"]);
    needing("root's rights and setpriv(1)", is_there, || {
        Isolated::new(module_path!(), "r43_more_rights_than_the_caller")
            .under(method)
            .run(more_rights_than_the_caller)
    })
}
under_both!(r43_more_rights_than_the_caller);

fn more_rights_than_the_caller() {
    let directory = tempfile::tempdir().unwrap();
    // Others have to come as far as the program.
    for folder in directory.path().ancestors().take(3) {
        if !folder.ends_with("tmp") || folder != env::temp_dir().parent().unwrap() {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
    }
    let program = copied_to(directory.path());
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={NOBODY}")).args(["--clear-groups", "--"]).arg(&program).args(arguments);
        command.stdin(Stdio::null());
        command
    };
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(lines(&mut as_nobody(&["first"])), ["value 3"], "nobody may start it");

    chown(&program, Some(SOMEBODY), None).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    let told = as_nobody(&[concat!("--procession-child-", env!("CARGO_PKG_VERSION"))]).output().unwrap();
    assert_eq!(told.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&told.stderr).contains("AT_SECURE"), "{told:?}");

    let told = as_nobody(&["first"]).output().unwrap();
    let (words, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(
        words.starts_with("cause Start { stage: Setup") && words.contains("AT_SECURE"),
        "{words}{errors}"
    );
    assert_eq!(errors, "");
}

/// A system call, how it can fail, and how many of them there are in a process that starts one or is one.
type Failing = (&'static str, &'static [&'static str], u32);

/// What a start and a pipe consist of. Left out is what cannot fail so, and does not happen where strace lets it fail:
/// `write(2)` and `futex(2)` wake others, `close(2)` closes whatever it says. After a `brk(2)` that fails once glibc's
/// `malloc` may crash by itself.
const FAILING: &[Failing] = &[
    ("socketpair", &["EMFILE", "ENFILE", "ENOMEM"], 7),
    ("pipe2", &["EMFILE", "ENFILE"], 2),
    ("open", &["EMFILE", "ENFILE", "ENOMEM", "EINTR"], 10),
    ("openat", &["EMFILE", "ENFILE", "ENOMEM", "EINTR"], 6),
    ("fcntl", &["EMFILE", "ENOMEM"], 28),
    ("epoll_create1", &["EMFILE", "ENFILE", "ENOMEM"], 2),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"], 8),
    ("epoll_wait", &["EINTR"], 10),
    ("eventfd2", &["EMFILE", "ENFILE", "ENOMEM"], 2),
    ("clone", &["EAGAIN", "ENOMEM"], 4),
    ("clone3", &["EAGAIN", "ENOMEM"], 4),
    ("execve", &["ENOMEM", "EAGAIN"], 1),
    ("dup2", &["EMFILE", "EINTR"], 5),
    ("dup3", &["EMFILE", "EINTR"], 1),
    ("close_range", &["ENOMEM"], 1),
    ("setpgid", &["EPERM"], 5),
    ("pidfd_open", &["EMFILE", "ENFILE", "ENOMEM"], 4),
    ("signalfd4", &["EMFILE", "ENFILE", "ENOMEM"], 1),
    ("waitid", &["EINTR"], 12),
    ("wait4", &["EINTR"], 4),
    ("ppoll", &["EINTR", "ENOMEM"], 11),
    ("sendto", &["ENOMEM", "EINTR"], 6),
    ("sendmsg", &["ENOMEM", "EINTR", "ETOOMANYREFS"], 9),
    ("recvmsg", &["ENOMEM", "EINTR"], 28),
    ("writev", &["ENOMEM", "EINTR"], 3),
    ("recvfrom", &["ENOMEM", "EINTR"], 14),
    ("memfd_create", &["EMFILE", "ENFILE", "ENOMEM"], 1),
    ("fallocate", &["ENOSPC", "ENOMEM", "EINTR"], 1),
    ("fstatfs", &["ENOMEM"], 1),
    ("madvise", &["ENOMEM"], 1),
    ("mmap", &["ENOMEM"], 22),
    ("mremap", &["ENOMEM"], 1),
    ("mprotect", &["ENOMEM"], 7),
    ("sigaltstack", &["ENOMEM"], 3),
    ("readlink", &["ENOMEM"], 2),
    ("newfstatat", &["ENOMEM"], 5),
];

/// 36: each system call of a start, and of what goes through a pipe, fails once, in the parent, and in each child: there
/// is an error that says so or a value, and nothing is left.
fn r36_injected_failures(method: StartMethod) -> Result<(), NotPassed> {
    needing("strace(1) that may trace", succeeds("strace", &["-o", "/dev/null", "true"]), || {
        let limit = Duration::from_secs(120 + 5 * cases().len() as u64);
        Isolated::new(module_path!(), "r36_injected_failures").under(method).limit(limit).run(|| {
            let usual = outcomes(&mut root(&["calls"]));
            let failed: Vec<String> =
                cases().iter().filter_map(|case| injected(case, &usual).err()).collect();
            assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases().len(), failed.join("\n"));
        })
    })
}
under_both!(r36_injected_failures);

/// What is injected: `SYSCALL:error=ERROR:when=N`, where each thread counts its own calls.
fn cases() -> Vec<String> {
    let all = FAILING.iter().flat_map(|(call, errors, number)| {
        errors
            .iter()
            .flat_map(move |error| (1..=*number).map(move |n| format!("{call}:error={error}:when={n}")))
    });
    let mut all: Vec<String> = all.collect();
    let wanted = env::var("PROCESSION_INJECT").unwrap_or_else(|_unset| "24".into());
    if wanted != "all" {
        let seed = env::var("PROCESSION_SEED").ok().map_or(1, |seed| seed.parse().unwrap());
        let (mut random, wanted) = (Random(seed), wanted.parse().unwrap());
        while all.len() > wanted {
            all.swap_remove(usize::try_from(random.below(all.len() as u64)).unwrap());
        }
    }
    all
}

/// The lines that the calls give: their outcomes, and what is kept.
fn outcomes(command: &mut Command) -> Vec<String> {
    lines(command.stderr(Stdio::piped()))
}

/// Runs the calls with a failure in them; the error says what is wrong about it.
fn injected(case: &str, usual: &[String]) -> Result<(), String> {
    let mut program = root(&["stopped"]);
    let program = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(Duration::from_secs(30), || state(program.id()) == Some('T'));
    let mut strace = Command::new("strace");
    let inject = format!("inject={case}");
    let (pid, (call, _)) = (program.id().to_string(), case.split_once(':').unwrap());
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "-p", &pid]);
    let mut strace = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut attached = String::new();
    let mut words = BufReader::new(strace.stderr.take().unwrap());
    words.read_line(&mut attached).unwrap();
    assert!(attached.contains("attached"), "{attached}");
    kill_process(Pid::from_raw(program.id().cast_signed()).unwrap(), Signal::CONT).unwrap();
    let told = ended(program, case);
    std::io::copy(&mut words, &mut std::io::sink()).unwrap();
    strace.wait().unwrap();
    judged(case, &told?, usual)
}

/// The output of a program that has to end.
fn ended(program: std::process::Child, case: &str) -> Result<Output, String> {
    let pid = program.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || drop(sender.send(program.wait_with_output().unwrap())));
    let told = receiver.recv_timeout(procession_tests::patience(Duration::from_secs(20))).map_err(|_late| {
        let below: Vec<String> = descendants_of(pid).iter().map(ToString::to_string).collect();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        format!("{case}: not done after 20 s, with {below:?}")
    });
    reader.join().unwrap();
    told
}

fn judged(case: &str, told: &Output, usual: &[String]) -> Result<(), String> {
    let (words, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    let lines: Vec<&str> = words.lines().collect();
    let wrong = |what: &str| Err(format!("{case}: {what}:\n{words}{errors}"));
    if told.status.signal() == Some(6) && errors.contains("/library/std/src/") {
        // What the standard library does where a thread, which it has been given, finds no memory.
        return Ok(());
    }
    // Tokio has no error for some of what it lacks.
    let is_ours =
        |line: &str| line.contains("thread '") && line.contains("panicked") && !line.contains("/tokio-");
    if !told.status.success() || errors.lines().any(is_ours) {
        return wrong(&format!("the program {}", told.status));
    }
    let (Some((kept, outcomes)), Some((usually_kept, values))) = (lines.split_last(), usual.split_last())
    else {
        return wrong("no words");
    };
    // Where the control thread could not be had at all, or at last no fork server, there is less than usual.
    let never_ran =
        |outcome: &&str| outcome.starts_with("cause Start { stage: Setup") || is_lack_of_a_pipe(outcome);
    let nothing_ran = outcomes.iter().all(never_ran);
    let has_no_server = usually_kept.contains("fork server") && !kept.contains("fork server");
    if !(kept == usually_kept || (nothing_ran || has_no_server) && keeps_no_more(kept, usually_kept)) {
        return wrong(&format!("it keeps something, where usually it has {usually_kept}"));
    }
    let is_known = |(outcome, value): (&&str, &String)| *outcome == value || is_cause_of_a_lack(outcome);
    if outcomes.len() == values.len() && outcomes.iter().zip(values).all(is_known) {
        return Ok(());
    }
    wrong("a value that is not, or a cause that is not true")
}

/// Whether one line of what is kept, a map of kinds and their numbers, has nothing that the other has not.
fn keeps_no_more(kept: &str, usually_kept: &str) -> bool {
    let numbers = |line: &str| -> Vec<(String, usize)> {
        let map = line.trim_start_matches("kept {").trim_end_matches('}');
        let entries = map.split(", ").filter_map(|entry| entry.rsplit_once(": "));
        entries.map(|(kind, number)| (kind.to_owned(), number.parse().unwrap())).collect()
    };
    let usual = numbers(usually_kept);
    numbers(kept)
        .iter()
        .all(|(kind, number)| usual.iter().any(|(known, most)| known == kind && number <= most))
}

/// Whether it is the cause of a process that lacks something: it did not start, or it says what it lacks.
fn is_cause_of_a_lack(outcome: &str) -> bool {
    let panicked_elsewhere = outcome.starts_with("cause Panicked")
        && ["/tokio-", "/rustc/", "/mio-"].iter().any(|place| outcome.contains(place));
    // An allocation that fails is an abort, in every Rust program, and a crash, in the C library's loader.
    let aborted = ["cause Signaled { signal: 6,", "cause Signaled { signal: 11,"]
        .iter()
        .any(|it| outcome.starts_with(it));
    outcome.starts_with("cause Start {")
        || is_lack_of_a_pipe(outcome)
        || outcome.starts_with("cause StatusLost")
        || panicked_elsewhere
        || aborted
}

/// Whether it is the error of a pipe that names what the system lacks.
fn is_lack_of_a_pipe(outcome: &str) -> bool {
    outcome.starts_with("lack ") && outcome.contains(" (os error ")
}
