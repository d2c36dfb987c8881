//! Who starts processes and dies, takes them along; a thread that has started one does not. F10, F11; requirements 10
//! and 11.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "libtest shows it where a test fails")]

#[path = "../src/bin/root/random.rs"]
mod random;
#[path = "../src/bin/root/tree.rs"]
mod tree;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use procession::{Process, current, process};
use procession_tests::{
    ProcInfo, children_of, descendants_of, eventually, fork_servers_of, info, isolated, patience, state,
    threads, wait_until_gone,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getppid, kill_process};
use rustix::thread::gettid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::runtime::Builder;

use random::Random;

/// How long descendants may outlive the one that has started them.
const LIMIT: Duration = Duration::from_secs(2);

/// Every kind of a process that does not end by itself, and the lines by which those tell that they are there.
const KINDS: [&str; 6] = ["spins", "stopped", "deaf", "idle", "program", "deep"];
const LINES: usize = 10;

/// A helper program that has started processes.
struct Root {
    program: Child,
    /// Open in every process below it that was started without words about its output.
    output: BufReader<ChildStdout>,
    errors: tempfile::NamedTempFile,
}

impl Root {
    fn start(arguments: &[&str]) -> Self {
        let errors = tempfile::NamedTempFile::new().unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_root"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.reopen().unwrap())
            .spawn()
            .unwrap();
        let output = BufReader::new(program.stdout.take().unwrap());
        Self { program, output, errors }
    }

    /// Reads what so many processes say, and gives all that are there then.
    fn arrived(&mut self, lines: usize) -> Vec<ProcInfo> {
        let pids = (0..lines).map(|_| self.line());
        let pids: Vec<u32> = pids.map(|line| line.split_once(' ').unwrap().1.parse().unwrap()).collect();
        let all = descendants_of(self.program.id());
        assert!(pids.iter().all(|pid| all.iter().any(|it| it.pid == *pid)), "{pids:?} {all:?}");
        eventually(Duration::from_secs(30), || {
            all.iter().any(|it| info(it.pid).is_some_and(|it| it.state == 'T'))
        });
        all
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn tell(&mut self, word: &str) {
        self.program.stdin.as_mut().unwrap().write_all(word.as_bytes()).unwrap();
    }

    /// Waits for the end of all of them; gives how long it took from `since` on, and what was said on stderr.
    fn ended(mut self, since: Instant) -> (Duration, String) {
        let mut output = [PollFd::new(self.output.get_ref(), PollFlags::empty())];
        let limit = Timespec::try_from(patience(LIMIT)).unwrap();
        let ended = poll(&mut output, Some(&limit)).unwrap() == 1;
        let took = since.elapsed();
        assert!(ended, "alive after {took:?}: {:?}", everybody_else());
        self.program.wait().unwrap();
        (took, std::fs::read_to_string(self.errors.path()).unwrap())
    }
}

/// All processes of this test but this one.
fn everybody_else() -> Vec<String> {
    let all = descendants_of(getppid().unwrap().as_raw_pid().unsigned_abs());
    all.iter().filter(|it| it.pid != std::process::id()).map(ToString::to_string).collect()
}

fn kill(pid: u32) {
    // None of those that this is called for is reaped before it has returned, or there is no such process.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
}

fn assert_gone(processes: &[ProcInfo]) {
    processes.iter().for_each(|it| wait_until_gone(it.pid));
}

/// Starts a program with one child of each kind, ends it so, and sees all of them end.
fn root_that_ends(end: impl FnOnce(&mut Root)) -> String {
    let mut root = Root::start(&[&["hold"], &KINDS[..]].concat());
    let all = root.arrived(LINES);
    let since = Instant::now();
    end(&mut root);
    let (took, errors) = root.ended(since);
    assert!(took < patience(LIMIT), "{took:?}");
    assert_gone(&all);
    errors
}

isolated! {
    /// F10: SIGKILL of a program ends all that it has started, whatever they do, and in silence.
    fn f10_a_program_is_killed() {
        assert_eq!(root_that_ends(|root| root.program.kill().unwrap()), "");
    }

    /// F10: so does its end by a return of `main`, at which nobody waits for them.
    fn f10_a_program_returns() {
        assert_eq!(root_that_ends(|root| root.tell("return\n")), "");
    }

    /// F10: and by a panic.
    fn f10_a_program_panics() {
        let errors = root_that_ends(|root| root.tell("panic\n"));
        assert!(errors.contains("as it was told to") && !errors.contains("--procession"), "{errors}");
    }

    /// F10: SIGKILL of a process function ends all that it has started; its parent, which lives, stays as it was.
    async fn f10_a_function_is_killed() {
        let kinds = KINDS.map(String::from).to_vec();
        let mut root = holds(kinds).stdout(procession::Stdio::piped()).spawn().await.unwrap();
        let mut output = tokio::io::BufReader::new(root.stdout().unwrap());
        for _ in 0..LINES {
            output.read_line(&mut String::new()).await.unwrap();
        }
        let all = descendants_of(root.pid());
        assert!(all.len() >= LINES, "{all:?}");
        let since = Instant::now();
        assert_eq!(root.kill().await.unwrap().signal(), Some(9));
        output.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(since.elapsed() < patience(LIMIT), "{:?}", since.elapsed());
        assert_gone(&all);
        assert!(children_of(std::process::id()).is_empty());
    }

    /// F10, requirement 10: SIGKILL at any moment, of the root or of any process below it, while processes are being
    /// started, at every generation. `PROCESSION_KILLS` says how often, `PROCESSION_SEED` repeats a run.
    #[limit(120 + kills() / 4)]
    fn f10_random_kills() {
        let seed = from_environment("PROCESSION_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        println!("PROCESSION_SEED={seed} PROCESSION_KILLS={}", kills());
        let mut random = Random(seed);
        let mut slowest = Duration::ZERO;
        for number in 0..kills() {
            let (took, errors) = random_kill(&mut random);
            assert!(took < patience(LIMIT), "kill {number}: {took:?}");
            assert_eq!(errors, "", "kill {number}");
            slowest = slowest.max(took);
        }
        println!("{} kills, the slowest end of a tree took {slowest:?}", kills());
    }

    /// F11: a process outlives the thread of the pool that has started it.
    fn f11_a_pool_thread_ends() {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_keep_alive(Duration::from_millis(5)).build().unwrap();
        let starting = runtime.spawn_blocking(|| (gettid().as_raw_pid(), block_on(asks().spawn()).unwrap()));
        let (thread, process) = runtime.block_on(starting).unwrap();
        outlives(thread, process);
    }

    /// F11: and any other thread.
    fn f11_a_thread_ends() {
        let start = || (gettid().as_raw_pid(), block_on(asks().spawn()).unwrap());
        let (thread, process) = std::thread::spawn(start).join().unwrap();
        outlives(thread, process);
    }

    /// F11: and the runtime that it was started in.
    fn f11_a_runtime_ends() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            sender.send((gettid().as_raw_pid(), runtime.block_on(asks().spawn()).unwrap())).unwrap();
        });
        thread.join().unwrap();
        let (thread, process) = receiver.recv().unwrap();
        outlives(thread, process);
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn kills() -> u64 {
    from_environment("PROCESSION_KILLS").unwrap_or(50)
}

/// Kills a program that starts processes, or first one of those, at a random moment.
fn random_kill(random: &mut Random) -> (Duration, String) {
    let seed = random.below(u64::MAX).to_string();
    let mut root = Root::start(&["storm", &seed]);
    assert_eq!(root.line(), "begun");
    // The moment is to be any: nothing waits for it.
    std::thread::sleep(Duration::from_micros(random.below(80_000)));
    if random.below(3) == 0 {
        kill_below(&root, random);
    }
    let since = Instant::now();
    root.program.kill().unwrap();
    root.ended(since)
}

/// Kills a random process below the root, and sees those that it has started end. What a fork server has forked goes on
/// without it.
fn kill_below(root: &Root, random: &mut Random) {
    let all = descendants_of(root.program.id());
    let Some(victim) = all.get(usize::try_from(random.below(64)).unwrap() % all.len().max(1)) else { return };
    let is_server = fork_servers_of(victim.ppid).iter().any(|server| server.pid == victim.pid);
    let below = if is_server { vec![] } else { descendants_of(victim.pid) };
    kill(victim.pid);
    eventually(LIMIT, || below.iter().all(|it| state(it.pid).is_none_or(|state| state == 'Z')));
}

/// Holds one of each kind, for as long as it lives.
#[process]
async fn holds(kinds: Vec<String>) {
    let _children = tree::start(&kinds).await;
    std::future::pending::<()>().await;
}

/// Whether it lives shows when it is asked to stop: only then it gives its value.
#[process]
async fn asks() -> String {
    current().stopping().await;
    "still here".into()
}

fn outlives(thread: i32, mut process: Process<String>) {
    let thread = thread.unsigned_abs();
    eventually(Duration::from_secs(30), || !threads().contains_key(&thread));
    assert!(process.is_alive());
    block_on(process.stop(Duration::from_secs(3600))).unwrap();
    assert_eq!(block_on(process.join()).unwrap(), "still here");
}
