//! Every way to end is told from every other. Conformance PR10, PR26, PR27; F7, R4, R5.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use procession::{Cause, ProcessError, Stage, process};
use procession_tests::isolated;
use rustix::process::{Signal, getpid, kill_process};

const SECOND: Duration = Duration::from_secs(1);

fn signal_of<T: std::fmt::Debug>(result: Result<T, ProcessError>) -> i32 {
    result.unwrap_err().signal().expect("a signal")
}

isolated! {
    /// PR26, PR27: a panic has its message and its place, and is no exit.
    async fn pr27_panics() {
        let error = panics("aua".into()).await.unwrap_err();
        assert!(error.is_panic());
        let Cause::Panicked { message, location, .. } = error.cause() else { panic!("{error:?}") };
        assert_eq!(message, "it says aua");
        assert!(location.as_deref().is_some_and(|place| place.contains("ends.rs:")), "{location:?}");
        assert!(plain_panics().await.unwrap_err().is_panic());
    }

    /// PR27: the panic that is told is the one that ended the function, not one that was caught before it.
    async fn pr27_panics_that_were_passed_on() {
        let error = passes_a_panic_on().await.unwrap_err();
        let Cause::Panicked { message, location: None, .. } = error.cause() else { panic!("{error:?}") };
        assert_eq!(message, "the true one");
    }

    /// PR26: a panic is told as one where nobody can read what the child prints.
    async fn pr26_panics_without_stderr() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = panics("unseen".into()).stderr(full).await.unwrap_err();
        assert!(error.is_panic(), "{error:?}");
    }

    /// PR21: what does not end is left behind when its time is over.
    async fn pr21_endless_work_is_left_behind() {
        let mut process = leaves_endless_work().spawn().await.unwrap();
        assert_eq!(process.join().await.unwrap(), 7);
        assert_eq!(process.exit_code(), Some(0));
    }

    /// PR27: a panic whose payload is not text is one all the same.
    async fn pr27_panics_without_words() {
        let error = panics_with_a_number().await.unwrap_err();
        assert!(error.is_panic(), "{error:?}");
    }

    /// PR26: a backtrace comes along if it is asked for.
    async fn pr26_backtraces() {
        let error = panics("trace".into()).env("RUST_BACKTRACE", "1").await.unwrap_err();
        let Cause::Panicked { backtrace: Some(backtrace), .. } = error.cause() else { panic!("{error:?}") };
        assert!(backtrace.contains("ends::panics"), "{backtrace}");
    }

    /// F7, PR27: `exit(n)` is told with its code, for zero too, and is no value.
    async fn pr27_exits() {
        for code in [0, 1, 3, 101, 255] {
            let error = exits(code).await.unwrap_err();
            assert_eq!(*error.cause(), Cause::Exited { code });
            assert_eq!(error.exit_code(), Some(code));
        }
    }

    /// R4, PR27: each signal is told by its number; so are abort and a bad access.
    async fn r04_signals() {
        for signal in [Signal::KILL, Signal::TERM, Signal::HUP, Signal::USR1, Signal::SEGV, Signal::BUS, Signal::PIPE] {
            // A child ignores SIGPIPE, as every Rust program does.
            let expected = if signal == Signal::PIPE { None } else { Some(signal.as_raw()) };
            let ended = raises(signal.as_raw()).await;
            assert_eq!(ended.err().and_then(|error| error.signal()), expected, "{signal:?}");
        }
        assert_eq!(signal_of(aborts().await), Signal::ABORT.as_raw());
    }

    /// Whether a core was dumped is told. Where they go is the system's to say; a limit of zero forbids them.
    async fn core_dumps_are_told() {
        let directory = tempfile::tempdir().unwrap();
        for limit in [0, u64::MAX] {
            let error = aborts_with_core_limit(limit, directory.path().into()).await.unwrap_err();
            let Cause::Signaled { core_dumped, .. } = *error.cause() else { panic!("{error:?}") };
            let file_came = std::fs::read_dir(directory.path()).unwrap().next().is_some();
            assert!(core_dumped || !file_came, "a core came with {error:?}");
            assert!(limit > 0 || !core_dumped, "{error:?} with a limit of zero");
        }
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Core).maximum != Some(0);
        let beside_the_process = allowed && !pattern.starts_with(['|', '/']);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), usize::from(beside_the_process));
    }

    /// F7: a stack overflow is told from other bad accesses, on the main thread and on tokio's.
    async fn f07_stack_overflows() {
        for overflowed in [overflows().await, plain_overflows().await, overflows_on_a_worker().await] {
            assert_eq!(*overflowed.unwrap_err().cause(), Cause::StackOverflow);
        }
    }

    /// A time limit counts from the start of the function, and kills whatever the function does.
    async fn time_limits() {
        for late in [spins().timeout(SECOND / 5).await, sleeps().timeout(SECOND / 5).await] {
            let error = late.unwrap_err();
            assert!(error.is_timeout());
            assert_eq!(*error.cause(), Cause::TimedOut { after: SECOND / 5 });
        }
        assert_eq!(plain().timeout(Duration::MAX).await.unwrap(), 7);
        let error = spins().timeout(Duration::ZERO).await.unwrap_err();
        assert!(error.is_timeout());
    }

    /// F29: what comes before the function, its start and the reading of its arguments, does not count.
    async fn f29_time_limits_leave_out_the_start() {
        assert_eq!(takes_what_is_read_slowly(ReadSlowly).timeout(SECOND / 2).await.unwrap(), 7);
    }

    /// PR10: `kill` ends a process, and it is reaped when `kill` returns.
    async fn pr10_kill() {
        let mut process = spins().spawn().await.unwrap();
        let status = process.kill().await.unwrap();
        assert_eq!((status.signal(), status.exit_code()), (Some(9), -9));
        assert_eq!(procession_tests::state(process.pid()), None);
        assert_eq!(process.exit_code(), Some(-9));
        assert_eq!(signal_of(process.join().await), 9);
        process.start_kill().unwrap();
    }

    /// PR09: waiting with a limit leaves the process alone; SIGTERM ends it.
    async fn pr09_terminate() {
        let mut process = sleeps().spawn().await.unwrap();
        assert!(tokio::time::timeout(Duration::ZERO, &mut process).await.is_err());
        assert!(tokio::time::timeout(SECOND / 100, process.join()).await.is_err());
        assert!(process.is_alive());
        assert_eq!(process.exit_code(), None);
        process.terminate().unwrap();
        assert_eq!(process.wait().await.unwrap().signal(), Some(15));
        assert_eq!(signal_of(process.join().await), 15);
        assert_eq!(process.exit_code(), Some(-15));
        assert!(!process.is_alive());
    }

    /// What is awaited in place is killed when its future is dropped, before its start as well as after it.
    async fn dropped_calls_are_killed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut call = tells_its_pid_and_spins(path.clone());
        assert!(futures::poll!(&mut call).is_pending());
        procession_tests::eventually_async(SECOND * 30, || std::fs::read_to_string(&path).is_ok_and(|pid| !pid.is_empty())).await;
        let pid = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        assert!(procession_tests::state(pid).is_some());
        drop(call);
        procession_tests::wait_until_gone(pid);

        let mut call = spins();
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        let mut spawning = spins().spawn();
        // On a busy machine it may be there before it is asked for.
        if let Poll::Ready(process) = futures::poll!(&mut spawning) {
            process.unwrap().kill().await.unwrap();
        }
    }

    /// A handle that is dropped lets its process go on, which is reaped all the same.
    async fn dropped_handles_let_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("done");
        let process = leaves_work_behind(path.display().to_string()).spawn().await.unwrap();
        let pid = process.pid();
        drop(process);
        procession_tests::eventually_async(SECOND * 30, || path.exists()).await;
        procession_tests::wait_until_gone(pid);
    }

    /// PR12: SIGINT is the default one in a child.
    async fn pr12_interrupt() {
        let mut process = sleeps().spawn().await.unwrap();
        process.interrupt().unwrap();
        assert_eq!(process.wait().await.unwrap().signal(), Some(2));
    }

    /// A second `join` after the value was taken is an error; `wait` repeats.
    async fn values_are_taken_once() {
        let mut process = plain().spawn().await.unwrap();
        assert_eq!(process.join().await.unwrap(), 7);
        assert_eq!(*process.join().await.unwrap_err().cause(), Cause::Taken);
        assert_eq!(*(&mut process).await.unwrap_err().cause(), Cause::Taken);
        assert!(process.wait().await.unwrap().success());
        assert!(process.wait().await.unwrap().success());
    }

    /// R5: a child that ends before its function starts does not make anybody wait, and says how far it came.
    async fn r05_ends_while_arguments_are_read() {
        let error = takes_what_exits(ExitsWhenRead).await.unwrap_err();
        assert_eq!(*error.cause(), Cause::Exited { code: 9 });
        let error = takes_what_panics(PanicsWhenRead).await.unwrap_err();
        assert!(error.is_panic(), "{error:?}");
    }

    /// A function that calls itself for ever stops at the limit on generations, with the reason.
    async fn recursion_stops() {
        let error = descends(0).await.unwrap().unwrap_err();
        assert!(matches!(error.cause(), Cause::Start { stage: Stage::Depth, .. }), "{error:?}");
    }

    /// What an error says reads as a sentence, and names the process.
    async fn errors_in_words() {
        let error = exits(3).name("leaver").await.unwrap_err();
        let pid = error.pid().unwrap();
        assert_eq!(error.name(), "leaver");
        let words = format!("process `leaver` (pid {pid}) exited with code 3 before its function returned");
        assert_eq!(error.to_string(), words);
    }

    /// A value that was sent stands, even if what runs at the exit crashes.
    async fn a_value_survives_a_bad_exit() {
        let mut process = returns_and_crashes().spawn().await.unwrap();
        assert_eq!(process.join().await.unwrap(), 7);
    }

    /// PR21: a child waits for what it left running by `spawn_blocking`, and whoever joins it does, too.
    async fn pr21_blocking_work_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("done");
        let mut process = leaves_work_behind(path.display().to_string()).spawn().await.unwrap();
        assert_eq!(process.join().await.unwrap(), 7);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "done");
    }

    /// What a task holds that was left running is dropped before a child ends.
    async fn tasks_left_running_are_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dropped");
        let mut process = leaves_a_task(path.clone()).spawn().await.unwrap();
        assert_eq!(process.join().await.unwrap(), 7);
        assert!(path.exists());
    }
}

/// Leaves a mark when it is dropped.
struct Marks(PathBuf);

impl Drop for Marks {
    fn drop(&mut self) {
        std::fs::write(&self.0, "").unwrap();
    }
}

#[process]
async fn leaves_a_task(path: PathBuf) -> u8 {
    let mark = Marks(path);
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(mark);
    });
    7
}

#[process]
async fn panics(word: String) {
    panic!("it says {word}")
}

#[process]
async fn passes_a_panic_on() {
    drop(std::panic::catch_unwind(|| panic!("a harmless one")));
    std::panic::resume_unwind(Box::new("the true one"))
}

#[process]
async fn leaves_endless_work() -> u8 {
    tokio::task::spawn_blocking(|| {
        loop {
            std::thread::park();
        }
    });
    7
}

#[process]
fn plain_panics() {
    panic!("plain")
}

#[process]
async fn panics_with_a_number() {
    std::panic::panic_any(7)
}

#[process]
#[expect(clippy::exit, reason = "the test is about it")]
async fn exits(code: i32) {
    std::process::exit(code)
}

#[process]
async fn raises(signal: i32) {
    let signal = Signal::from_named_raw(signal).unwrap();
    kill_process(getpid(), signal).unwrap();
}

#[process]
async fn aborts() {
    std::process::abort()
}

#[process]
async fn aborts_with_core_limit(limit: u64, directory: PathBuf) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limits = getrlimit(Resource::Core);
    limits.current = Some(limits.maximum.map_or(limit, |maximum| limit.min(maximum)));
    setrlimit(Resource::Core, limits).unwrap();
    std::env::set_current_dir(directory).unwrap();
    std::process::abort()
}

fn deeper(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 64]);
    if n == u64::MAX { 0 } else { deeper(n + 1) + frame[1] }
}

#[process]
async fn overflows() -> u64 {
    deeper(0)
}

#[process]
fn plain_overflows() -> u64 {
    deeper(0)
}

#[process(threads = 2)]
async fn overflows_on_a_worker() -> u64 {
    tokio::spawn(async { deeper(0) }).await.unwrap()
}

#[process]
async fn spins() {
    loop {
        std::hint::spin_loop();
    }
}

#[process]
fn tells_its_pid_and_spins(path: PathBuf) {
    std::fs::write(path, std::process::id().to_string()).unwrap();
    loop {
        std::hint::spin_loop();
    }
}

#[process]
async fn sleeps() {
    tokio::time::sleep(Duration::from_secs(3600)).await;
}

#[process]
fn plain() -> u8 {
    7
}

#[derive(Debug, serde::Serialize)]
struct ExitsWhenRead;

impl<'de> serde::Deserialize<'de> for ExitsWhenRead {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        std::process::exit(9)
    }
}

#[process]
async fn takes_what_exits(_value: ExitsWhenRead) {}

#[derive(Debug, serde::Serialize)]
struct ReadSlowly;

impl<'de> serde::Deserialize<'de> for ReadSlowly {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        std::thread::sleep(SECOND);
        Ok(Self)
    }
}

#[process]
async fn takes_what_is_read_slowly(_value: ReadSlowly) -> u8 {
    7
}

#[derive(Debug, serde::Serialize)]
struct PanicsWhenRead;

impl<'de> serde::Deserialize<'de> for PanicsWhenRead {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("cannot be read")
    }
}

#[process]
async fn takes_what_panics(_value: PanicsWhenRead) {}

#[process]
async fn descends(n: u32) -> Result<u32, ProcessError> {
    descends(n + 1).await?
}

#[process]
async fn returns_and_crashes() -> u8 {
    /// Dropped with the runtime, when the value has been sent.
    struct Crash;

    impl Drop for Crash {
        fn drop(&mut self) {
            std::process::abort();
        }
    }

    tokio::spawn(async {
        let _crash = Crash;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    7
}

#[process]
async fn leaves_work_behind(path: String) -> u8 {
    tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(300));
        std::fs::write(path, "done").unwrap();
    });
    7
}
