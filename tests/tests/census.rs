//! The example `census`: what it counts, and that a file which ends its worker costs that file alone.
//!
//! The numbers that the program gives are compared whole, so that a file that counts twice, or never, shows.
#![expect(clippy::unwrap_used, reason = "what helps a test may fail as the test itself")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::read_to_string;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use procession_tests::{ProcInfo, descendants_of, eventually, example};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 5 lines, 90 bytes; of items one each of `mod`, `impl`, `struct`, and two each of `fn` and methods.
const SMALL: &str = "\
mod m {
    struct S;
    impl S { fn one() { fn inner() {} } fn two() {} }
}
fn last() {}";

/// How many [`SMALL`] files stand beside what is to be lost: more than are under way at a time.
const NEIGHBOURS: u64 = 100;

fn run(directory: &Path, options: &[&str]) -> Output {
    Command::new(example("census")).args(options).arg(directory).output().unwrap()
}

/// Runs a census that is to succeed, and gives what it says, without all that depends on time, or on how many workers were lost.
fn census(directory: &Path, options: &[&str]) -> Value {
    let output = run(directory, &[options, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    let mut census: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fields = census.as_object_mut().unwrap();
    for timing in ["slowest", "processes", "seconds", "files_per_second", "megabytes_per_second"] {
        assert!(fields.remove(timing).is_some(), "no {timing} in {fields:?}");
    }
    for file in fields["largest"].as_array_mut().unwrap() {
        assert!(file.as_object_mut().unwrap().remove("seconds").is_some());
    }
    census
}

fn write(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn write_neighbours(directory: &TempDir) {
    for number in 0..NEIGHBOURS {
        write(directory, &format!("{number:03}.rs"), SMALL);
    }
}

/// That the neighbours, and only they, have counted, each once.
fn assert_neighbours_count_once(census: &Value) {
    assert_eq!(census["parsed"], NEIGHBOURS);
    assert_eq!(census["lines"], 5 * NEIGHBOURS);
    assert_eq!(census["bytes"], SMALL.len() as u64 * NEIGHBOURS);
    let items = json!({
        "mod": NEIGHBOURS, "struct": NEIGHBOURS, "impl": NEIGHBOURS, "fn": 2 * NEIGHBOURS, "method": 2 * NEIGHBOURS,
    });
    assert_eq!(census["items"], items);
}

/// The files that have ended their workers, and how.
fn lost(census: &Value) -> Vec<(&str, &str)> {
    let files = census["lost"].as_array().unwrap().iter();
    let texts = files.map(|file| (file["path"].as_str().unwrap(), file["cause"].as_str().unwrap()));
    texts.map(|(path, cause)| (path.rsplit_once('/').unwrap().1, cause)).collect()
}

/// Deeper than any stack: a parser that descends for each of them overflows it.
fn deep() -> String {
    let depth = 100_000;
    format!("fn f() {{ {}{} }}", "(".repeat(depth), ")".repeat(depth))
}

/// A limit for what hangs that is not reached in a test.
const NEVER: &str = "100000";

/// A census that hangs at a file until it is ended, with a directory of its own for temporary files.
struct Hanging {
    program: Child,
    /// The other end of that file, to which nothing is written.
    file: File,
    /// What is to be counted.
    _sources: TempDir,
    /// What the census writes.
    temporary: TempDir,
}

/// Starts one, and waits until a worker reads that file.
fn hanging(options: &[&str]) -> Hanging {
    let (sources, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_neighbours(&sources);
    let mut command = Command::new(example("census"));
    command.args(["--with-hostile-files", "--timeout", NEVER]).args(options).arg(sources.path());
    command.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.spawn().unwrap();
    let mut file = None;
    eventually(WATCHDOG, || {
        file = write_end(temporary.path());
        file.is_some()
    });
    Hanging { program, file: file.unwrap(), _sources: sources, temporary }
}

/// The hanging file that a census has written to a directory. It cannot be opened before a worker has.
fn write_end(temporary: &Path) -> Option<File> {
    let hostile = fs::read_dir(temporary).unwrap().next()?.unwrap().path();
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    File::options().write(true).custom_flags(nonblocking).open(hostile.join("hangs.rs")).ok()
}

impl Hanging {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// The worker that reads the hanging file, once its call of `open` has come back.
    fn worker(&self) -> u32 {
        let target = |process: u32, fd: &str| fs::read_link(format!("/proc/{process}/fd/{fd}")).ok();
        let file = target(std::process::id(), &self.file.as_raw_fd().to_string());
        let reads = |process: &ProcInfo| {
            let fds = fs::read_dir(format!("/proc/{}/fd", process.pid)).into_iter().flatten().flatten();
            fds.into_iter().any(|fd| target(process.pid, fd.file_name().to_str().unwrap()) == file)
        };
        let mut worker = None;
        eventually(WATCHDOG, || {
            worker = descendants_of(self.program.id()).into_iter().find(reads);
            worker.is_some()
        });
        worker.unwrap().pid
    }

    fn ended(&mut self) -> ExitStatus {
        eventually(WATCHDOG, || self.program.try_wait().unwrap().is_some());
        self.program.wait().unwrap()
    }
}

/// Long beside all that is waited for, and short beside what the hanging file may take.
const WATCHDOG: Duration = Duration::from_secs(30);

procession_tests::isolated! {
    /// All that there is to count, exactly.
    #[once]
    #[limit(600)]
    fn counts_are_exact() {
        let directory = tempfile::tempdir().unwrap();
        let small = write(&directory, "b/small.rs", SMALL);
        let kinds = "\
            use a::b; extern crate c; extern \"C\" { fn d(); }\n\
            enum E {} union U { a: u8 } trait T { fn m(); fn n() {} } type A = u8;\n\
            const C: u8 = { static S: u8 = 0; S }; macro_rules! r { () => {} } r! {}\n";
        let kinds = write(&directory, "a/kinds.rs", kinds);
        let empty = write(&directory, "empty.rs", "");
        write(&directory, "not_rust.txt", "fn f() {}");

        let expected = json!({
            "parsed": 3, "unparsed": [], "unread": [], "lost": [],
            "lines": 8, "bytes": 283,
            "items": {
                "fn": 2, "method": 4, "struct": 1, "enum": 1, "union": 1, "trait": 1, "impl": 1, "type": 1,
                "const": 1, "static": 1, "mod": 1, "use": 1, "extern": 2, "macro": 1, "invocation": 1,
            },
            "largest": [
                { "path": kinds, "bytes": 193 }, { "path": small, "bytes": 90 }, { "path": empty, "bytes": 0 },
            ],
            "jobs": 1,
        });
        assert_eq!(census(directory.path(), &["--jobs", "1"]), expected);
    }

    /// How many processes there are at a time changes how long it takes, and nothing else.
    #[once]
    #[limit(600)]
    fn jobs_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        write(&directory, "050-deep.rs", deep());
        write(&directory, "051-bad.rs", "fn");
        let of = |jobs| {
            let mut census = census(directory.path(), &["--jobs", jobs]);
            assert_eq!(census["jobs"].take().to_string(), jobs);
            census
        };
        assert_eq!(of("1"), of("4"));
    }

    /// What is wrong in a file is listed with its place, which an editor understands.
    #[once]
    #[limit(600)]
    fn syntax_errors_are_not_crashes() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        let bad = write(&directory, "050-bad.rs", "fn f() {}\nfn 7() {}\n");
        let foreign = write(&directory, "051-foreign.rs", b"// abc\n// \xe9\n");

        let mut census = census(directory.path(), &[]);
        let expected = json!([
            { "path": bad, "line": 2, "column": 4, "message": "expected identifier" },
            { "path": foreign, "line": 2, "column": 4, "message": "this is not UTF-8" },
        ]);
        assert_eq!(census["unparsed"], expected);
        assert_eq!(census["lost"], json!([]));
        // Their bytes and lines have been read.
        assert_eq!(census["lines"].take(), 5 * NEIGHBOURS + 4);
        assert_eq!(census["bytes"].take(), SMALL.len() as u64 * NEIGHBOURS + 32);
        (census["lines"], census["bytes"]) = (json!(5 * NEIGHBOURS), json!(SMALL.len() as u64 * NEIGHBOURS));
        assert_neighbours_count_once(&census);
    }

    /// A file that ends its process is found among the others of its batch, and they are counted once.
    #[once]
    #[limit(600)]
    fn a_stack_overflow_costs_one_file() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        let first = write(&directory, "000-deep.rs", deep());
        let second = write(&directory, "042-deep.rs", deep());

        let census = census(directory.path(), &[]);
        let cause = "overflowed its stack";
        assert_eq!(census["lost"], json!([{ "path": first, "cause": cause }, { "path": second, "cause": cause }]));
        assert_neighbours_count_once(&census);
    }

    /// A file that takes longer than it may is listed with its limit, and holds up nothing else.
    #[once]
    #[limit(600)]
    fn a_time_limit_costs_one_file() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        let long = write(&directory, "050-long.rs", "fn f() {}\n".repeat(2_000_000));

        let census = census(directory.path(), &["--timeout", "1", "--stats"]);
        let cause = "exceeded its time limit of 1s and was killed";
        assert_eq!(census["lost"], json!([{ "path": long, "cause": cause }]));
        // It has computed all the time, and was ended in the middle of it.
        assert_eq!(census["pool"]["ended"], json!({ cause: 1 }));
        assert_neighbours_count_once(&census);
    }

    /// Nobody writes to the FIFO, and the link leads round in a circle.
    #[once]
    #[limit(600)]
    fn only_regular_files_count() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        mkfifoat(CWD, directory.path().join("fifo.rs"), Mode::RUSR).unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("circle")).unwrap();
        std::os::unix::fs::symlink("000.rs", directory.path().join("link.rs")).unwrap();
        fs::create_dir(directory.path().join("directory.rs")).unwrap();

        let census = census(directory.path(), &["--timeout", "5"]);
        for list in ["unparsed", "unread", "lost"] {
            assert_eq!(census[list], json!([]));
        }
        assert_neighbours_count_once(&census);
    }

    /// A path is bytes: one that is no text reaches the child as it is.
    #[once]
    #[limit(600)]
    fn a_path_need_not_be_text() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(OsStr::from_bytes(b"\xff.rs")), SMALL).unwrap();
        let census = census(directory.path(), &[]);
        assert_eq!(census["parsed"], 1);
        assert!(census["largest"][0]["path"].as_str().unwrap().ends_with("/\u{fffd}.rs"));
    }

    /// A path that is named twice, or within another, does not count twice.
    #[once]
    #[limit(600)]
    fn paths_may_overlap() {
        let directory = tempfile::tempdir().unwrap();
        let file = write(&directory, "a/small.rs", SMALL);
        let census = census(directory.path(), &[&file, &file]);
        assert_eq!(census["parsed"], 1);
    }

    /// Both hostile files are found among others, which count once.
    #[once]
    #[limit(600)]
    fn hostile_files_cost_themselves() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        let census = census(directory.path(), &["--with-hostile-files", "--timeout", "2"]);
        let expected = [("hangs.rs", "exceeded its time limit of 2s and was killed"), ("overflows.rs", "overflowed its stack")];
        assert_eq!(lost(&census), expected);
        for list in ["unparsed", "unread"] {
            assert_eq!(census[list], json!([]));
        }
        assert_neighbours_count_once(&census);
        // The harness sees whether the hostile files are gone.
    }

    /// Ctrl-C: one message, a code of its own, and nothing is left.
    #[once]
    #[limit(600)]
    fn an_interrupt_ends_all() {
        let mut census = hanging(&[]);
        census.signal(Signal::INT);
        assert_eq!(census.ended().code(), Some(130));
        let Child { stdout: Some(stdout), stderr: Some(stderr), .. } = census.program else { panic!("both are piped") };
        assert_eq!(read_to_string(stdout).unwrap(), "");
        let message = read_to_string(stderr).unwrap();
        let counted = message.strip_prefix("interrupted: ").and_then(|rest| rest.strip_suffix(" files were counted\n"));
        let counted: u64 = counted.unwrap_or_else(|| panic!("{message:?}")).parse().unwrap();
        assert!(counted <= NEIGHBOURS + 1, "{counted}");
        assert_eq!(fs::read_dir(census.temporary.path()).unwrap().count(), 0);
    }

    /// A census that is killed can do nothing, and leaves nobody all the same: the harness looks.
    #[once]
    #[limit(600)]
    fn a_kill_leaves_nobody() {
        let mut census = hanging(&[]);
        census.signal(Signal::KILL);
        assert_eq!(census.ended().signal(), Some(9));
    }

    /// Whoever kills a worker takes the file from the census that it is at, and nothing else.
    #[once]
    #[limit(600)]
    fn a_killed_worker_costs_one_file() {
        let mut census = hanging(&["--json", "--stats"]);
        let worker = Pid::from_raw(census.worker().cast_signed()).unwrap();
        kill_process(worker, Signal::KILL).unwrap();
        assert!(census.ended().success());
        let counted: Value = serde_json::from_reader(census.program.stdout.unwrap()).unwrap();
        assert_eq!(lost(&counted), [("hangs.rs", "was killed by SIGKILL"), ("overflows.rs", "overflowed its stack")]);
        assert_eq!(counted["pool"]["ended"], json!({ "was killed by SIGKILL": 1, "overflowed its stack": 1 }));
        assert_neighbours_count_once(&counted);
    }

    /// Only the census itself speaks: what a child says would run through the progress bar. Here the loader speaks,
    /// in each process that starts and in each that ends, with its pid before it: in the census, and in its fork server
    /// until that begins to serve.
    #[once]
    #[limit(600)]
    fn children_are_silent() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        let mut command = Command::new(example("census"));
        command.args(["--json", "--jobs", "2"]).arg(directory.path()).env("LD_DEBUG", "statistics");
        let program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let census = program.id().to_string();
        let output = program.wait_with_output().unwrap();
        let counted: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(counted["processes"].as_u64().unwrap() > 1, "too few to tell a child from the server: {counted}");

        let said = String::from_utf8(output.stderr).unwrap();
        let speakers: BTreeSet<&str> = said.lines().map(|line| line.split_once(':').unwrap().0.trim_start()).collect();
        assert!(speakers.contains(&*census), "this loader says nothing");
        assert!(speakers.len() <= 2, "{said}");
    }

    /// What people see.
    #[once]
    #[limit(600)]
    fn prints_for_people() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        let bad = write(&directory, "050-bad.rs", "fn 7() {}\n");
        let deep = write(&directory, "051-deep.rs", deep());

        let output = run(directory.path(), &[]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("102 files, 501 lines, 9.01 kB\n"), "{text}");
        assert!(text.contains(&format!("\nnot parsed: 1\n  {bad}:1:4: expected identifier\n")), "{text}");
        assert!(text.contains(&format!("\nlost with their process: 1\n  {deep}: overflowed its stack\n")), "{text}");
        // No bar where there is no terminal.
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    }

    /// The table of the pool: who has done what, and why those have ended that have.
    #[once]
    #[limit(600)]
    fn the_pool_tells_of_itself() {
        let directory = tempfile::tempdir().unwrap();
        write_neighbours(&directory);
        write(&directory, "050-deep.rs", deep());

        let output = run(directory.path(), &["--jobs", "2", "--stats"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, table) = text.split_once("\nworker ").unwrap_or_else(|| panic!("no table in {text}"));
        let of_workers = table.lines().filter(|line| line.starts_with("census-"));
        let parsed: u64 = of_workers.map(|line| line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()).sum();
        let (before, _) = table.split_once(" done, 0 with workers, 0 queued, ").unwrap_or_else(|| panic!("{table}"));
        let done: u64 = before.rsplit_once('\n').unwrap().1.parse().unwrap();
        // All but the one that has ended its worker.
        assert!(done == NEIGHBOURS && parsed <= done, "{table}");
        assert!(table.contains("\n1 ended: overflowed its stack\n") && table.contains(" in parse (pid "), "{table}");
    }

    /// Nothing to count is an error of its own, with words that help.
    #[once]
    #[limit(600)]
    fn nothing_to_count() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        let complaint = |command: &mut Command| {
            let output = command.output().unwrap();
            assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]));
            String::from_utf8(output.stderr).unwrap()
        };

        let empty = complaint(Command::new(example("census")).arg(directory.path()));
        assert_eq!(empty, format!("error: there are no Rust sources (*.rs) in {}\n", directory.path().display()));
        let missing = complaint(Command::new(example("census")).arg(&home));
        assert!(missing.contains(home.to_str().unwrap()) && missing.contains("No such file"), "{missing}");
        let unused = complaint(Command::new(example("census")).env("CARGO_HOME", &home));
        let registry = home.join("registry/src");
        let expected = format!("error: cargo has no sources in {}: name a path to count\n", registry.display());
        assert_eq!(unused, expected);
    }

    /// Without paths, it counts what cargo has downloaded.
    #[once]
    #[limit(600)]
    fn counts_the_registry_by_default() {
        let directory = tempfile::tempdir().unwrap();
        write(&directory, "registry/src/index/crate-1.0.0/src/lib.rs", SMALL);
        let output = Command::new(example("census")).arg("--json").env("CARGO_HOME", directory.path()).output().unwrap();
        let census: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(census["parsed"], 1);
    }
}
