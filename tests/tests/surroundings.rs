//! What a child finds, and what a call can say about it. Conformance PR29, PR30; requirement 13.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::Read;
use std::path::PathBuf;

use procession::{Cause, Resource, Stage, Stdio, process};
use procession_tests::{example, isolated};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    environment: Vec<(String, String)>,
    directory: PathBuf,
    umask: String,
    nice: i32,
    blocked: u64,
    ignored: u64,
    open_files: (u64, u64),
}

fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

fn signals(field: &str) -> u64 {
    // Those above are the C library's own, and what a real-time program makes of them.
    u64::from_str_radix(&status(field), 16).unwrap() & 0x7fff_ffff
}

fn find() -> Found {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Found {
        environment: std::env::vars().collect(),
        directory: std::env::current_dir().unwrap(),
        umask: status("Umask"),
        nice: rustix::process::getpriority_process(None).unwrap(),
        blocked: signals("SigBlk"),
        ignored: signals("SigIgn"),
        open_files: (limits.current.unwrap_or(u64::MAX), limits.maximum.unwrap_or(u64::MAX)),
    }
}

#[process]
fn looks_around() -> Found {
    find()
}

#[process]
fn repeats() -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    text
}

#[process]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the test is about it")]
fn speaks(lines: usize) {
    for line in 0..lines {
        println!("out {line}");
        eprintln!("err {line}");
    }
}

#[process]
#[expect(clippy::print_stderr, reason = "the test is about it")]
fn speaks_and_aborts() {
    (0..30).for_each(|line| eprintln!("line {line}"));
    eprint!("and half a line");
    std::process::abort()
}

#[process]
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut numbers: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

const SIGPIPE: u64 = 1 << 12;

isolated! {
    /// PR29: what a call does not say is the parent's; signals are as new.
    async fn pr29_inherited() {
        let (here, found) = (find(), looks_around().await.unwrap());
        assert_eq!(found.environment, here.environment);
        assert_eq!((found.directory, found.umask, found.nice), (here.directory, here.umask, here.nice));
        assert_eq!(found.open_files, here.open_files);
        assert_eq!(found.blocked, 0);
        assert_eq!(found.ignored, SIGPIPE);
    }

    /// Signals that the parent ignores, because whoever has started it does, end a child all the same.
    #[once]
    fn ignored_signals_are_not_inherited() {
        let run = std::process::Command::new("sh")
            .args(["-c", "trap '' TERM; exec \"$0\""])
            .arg(example("ends"))
            .output()
            .unwrap();
        let printed = String::from_utf8(run.stdout).unwrap();
        assert!(printed.contains("is_terminated.exit_code() = Some(-15)"), "{printed}");
    }

    /// PR29: environment, directory, umask, niceness and limits can be said.
    async fn pr29_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let found = looks_around()
            .env_clear()
            .envs([("B", "2"), ("A", "1=1")])
            .env("C", "")
            .env_remove("B")
            .current_dir(&path)
            .umask(0o027)
            .nice(3)
            .rlimit(Resource::OpenFiles, 40, 50)
            .await
            .unwrap();
        assert_eq!(found.environment, [("A".into(), "1=1".into()), ("C".into(), String::new())]);
        assert_eq!((found.directory, found.umask.as_str(), found.open_files), (path, "0027", (40, 50)));
        assert_eq!(found.nice, (find().nice + 3).min(19));
    }

    /// PR30: what the environment says reaches grandchildren.
    async fn pr30_grandchildren() {
        let variable = grandchild_sees().env("PROCESSION_TEST_WORD", "passed on").await.unwrap();
        assert_eq!(variable, "passed on");
    }

    /// What cannot be had is told, and nothing has run.
    async fn impossible_surroundings() {
        let error = looks_around().current_dir("/no/such/directory").await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Start { stage: Stage::Boot, .. }), "{error:?}");
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
        let error = looks_around().rlimit(Resource::OpenFiles, 50, 40).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Start { stage: Stage::Boot, .. }), "{error:?}");
        for (key, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
            let error = looks_around().env(key, value).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Start { stage: Stage::Spawn, .. }), "{error:?}");
            assert_eq!(error.pid(), None);
        }
    }

    /// Input is empty if nothing is said; a file, or a pipe, if that is.
    async fn standard_input() {
        assert_eq!(repeats().await.unwrap(), "");
        assert_eq!(repeats().stdin(Stdio::null()).await.unwrap(), "");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("input");
        std::fs::write(&path, "from a file").unwrap();
        assert_eq!(repeats().stdin(std::fs::File::open(&path).unwrap()).await.unwrap(), "from a file");

        let mut process = repeats().stdin(Stdio::piped()).spawn().await.unwrap();
        let mut input = process.stdin().unwrap();
        assert!(process.stdin().is_none());
        input.write_all(b"from a pipe").await.unwrap();
        input.shutdown().await.unwrap();
        assert!(input.write_all(b"more").await.is_err());
        assert_eq!(process.join().await.unwrap(), "from a pipe");
    }

    /// Output by pipes, to the last byte, however much there is.
    async fn piped_output() {
        let mut process = speaks(20_000).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().await.unwrap();
        let (mut out, mut err) = (process.stdout().unwrap(), process.stderr().unwrap());
        let (mut output, mut errors) = (String::new(), String::new());
        let (read_out, read_err, joined) =
            tokio::join!(out.read_to_string(&mut output), err.read_to_string(&mut errors), process.join());
        read_out.and(read_err).unwrap();
        joined.unwrap();
        assert!(output.ends_with("out 19999\n") && output.lines().count() == 20_000);
        assert!(errors.ends_with("err 19999\n") && errors.lines().count() == 20_000);
    }

    /// Output to a file, or to nobody.
    async fn output_to_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("output");
        let file = std::fs::File::create(&path).unwrap();
        speaks(2).stdout(file).stderr(Stdio::null()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "out 0\nout 1\n");
    }

    /// A pipe that nobody holds, because the call was awaited, is a broken one: the child finds out, and nobody hangs. What
    /// it says first may still go into the pipe, but not more than that can hold.
    async fn a_pipe_without_a_holder() {
        assert!(speaks(20_000).stdout(Stdio::piped()).stderr(Stdio::null()).await.unwrap_err().is_panic());
    }

    /// The last lines of traced errors come along with the error, to the last byte.
    async fn last_words() {
        let error = speaks_and_aborts().stderr(Stdio::traced()).await.unwrap_err();
        assert_eq!(error.signal(), Some(6));
        assert_eq!(error.stderr().len(), 20);
        assert_eq!(error.stderr().last().map(String::as_str), Some("and half a line"));
        assert!(format!("{error:?}").contains("line 29"), "{error:?}");
        assert!(speaks_and_aborts().stderr(Stdio::null()).await.unwrap_err().stderr().is_empty());
    }

    /// A child's lines are events, with its name and number.
    fn traced_lines() {
        let events = Events::install();
        speaks(2).name("speaker").stdout(Stdio::traced()).stderr(Stdio::traced()).blocking().unwrap();
        let mut told = events.told();
        told.sort();
        assert_eq!(told, ["speaker stderr err 0", "speaker stderr err 1", "speaker stdout out 0", "speaker stdout out 1"]);
    }

    /// 13: whatever is open in the parent, and however many start at once, a child has nothing of it.
    #[threads(2)]
    #[limit(120)]
    async fn rr13_no_foreign_descriptors() {
        let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        for file in &files {
            rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty()).unwrap();
        }
        let tasks: Vec<_> = (0..16).map(|_| tokio::spawn(async {
            for _ in 0..10 {
                // Input, output, errors, the link, the lifeline, and what lists the directory.
                assert_eq!(descriptors().await.unwrap(), ["0", "1", "2", "3", "4", "5"]);
            }
        })).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}

#[process]
async fn grandchild_sees() -> String {
    variable().await.unwrap()
}

#[process]
async fn variable() -> String {
    std::env::var("PROCESSION_TEST_WORD").unwrap()
}

/// A subscriber that notes what it is told, for all threads.
struct Events(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl Events {
    fn install() -> Self {
        use tracing_subscriber::layer::SubscriberExt;
        let told = std::sync::Arc::default();
        let layer = Notes(std::sync::Arc::clone(&told));
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
        Self(told)
    }

    fn told(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Notes(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Notes {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        #[derive(Default)]
        struct Fields(std::collections::BTreeMap<&'static str, String>);

        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
            }
        }

        if event.metadata().target() != "procession::output" {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields(fields) = fields;
        assert!(fields["pid"].parse::<u32>().is_ok());
        let line = format!("{} {} {}", fields["process"], fields["stream"], fields["message"]);
        self.0.lock().unwrap().push(line);
    }
}
