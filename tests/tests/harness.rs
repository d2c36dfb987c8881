//! The harness itself: every kind of leak and every kind of failure is found, and a clean body passes.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::env;
use std::fs::{self, File};
use std::future::pending;
use std::mem::forget;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use procession_tests::{
    Isolated, NotPassed, Outcome, StartMethod, Verdict, children_of, descendants_of, eventually,
    eventually_async, fork_servers_of, info, isolated, open_fds, state, threads, under_both, wait_until_gone,
    warm_up,
};

/// A limit for what takes a moment.
const SOON: Duration = Duration::from_secs(10);

/// A test of this file whose body is to fail: what it leaves is not waited for long.
fn failing(name: &str) -> Isolated {
    Isolated::new(module_path!(), name).settle(Duration::from_millis(200))
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").spawn().expect("sleep(1)")
}

/// The report of a leak, which has one line.
#[track_caller]
fn only_leak(outcome: &Outcome) -> &str {
    match &outcome.verdict {
        Verdict::Leaked(report) if report.lines().count() == 1 => report,
        other => panic!("not one leak: {other:?}"),
    }
}

/// The first number after a word in a text.
fn number_after(text: &str, word: &str) -> u32 {
    let (_before, after) = text.split_once(word).unwrap_or_else(|| panic!("no {word:?} in {text:?}"));
    let end = after.find(|it: char| !it.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().expect("a number")
}

isolated! {
    /// A current-thread runtime, with time and its own children.
    #[once]
    async fn a_clean_async_body_passes() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let status = tokio::process::Command::new("true").status().await.unwrap();
        assert!(status.success());
    }

    /// The worker threads are there, and gone before the check.
    #[once]
    #[threads(2)]
    async fn a_runtime_may_have_threads() -> Result<(), tokio::task::JoinError> {
        assert_eq!(tokio::runtime::Handle::current().metrics().num_workers(), 2);
        eventually(SOON, || threads().values().filter(|name| name.starts_with("tokio-")).count() == 2);
        tokio::spawn(async {}).await
    }

    #[once]
    fn a_clean_plain_body_passes() {
        let mut child = sleeper();
        assert_eq!(children_of(process::id()).len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state(child.id()), None);
    }

    /// What ends a little later, without being waited for, is no leak.
    #[once]
    #[limit(30)]
    fn the_check_gives_time() {
        thread::spawn(|| Command::new("sleep").arg("0.3").status());
    }

    /// The control thread, which stays, is not yet there.
    #[once]
    #[cold]
    fn a_cold_body_may_warm_up() {
        let before = threads().len();
        warm_up();
        assert!(threads().len() > before);
    }

    #[once]
    #[cold]
    fn a_cold_body_may_stay_cold() {}

    #[once]
    fn other_bodies_are_warm() {
        let before = threads();
        warm_up();
        eventually(SOON, || threads() == before);
    }

    /// The runtime goes on while the condition is looked at, also where its clock stands still.
    #[once]
    async fn waiting_lets_tasks_run() {
        tokio::time::pause();
        let task = tokio::spawn(tokio::time::sleep(SOON));
        eventually_async(SOON, || task.is_finished()).await;
    }

    /// An orphan that ends is reaped as by init.
    #[once]
    fn an_orphan_that_ends_is_no_leak() {
        let parent = Command::new("sh").args(["-c", "sleep 0.1 & echo $!"]).stderr(Stdio::null()).output().unwrap();
        wait_until_gone(String::from_utf8(parent.stdout).unwrap().trim().parse().unwrap());
    }

    #[once]
    fn temporary_files_have_a_directory_of_their_own() {
        assert_eq!(fs::read_dir(env::temp_dir()).unwrap().count(), 0);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(file.path().starts_with(env::temp_dir()));
    }

    #[once]
    fn descendants_are_seen() {
        let mut shell = Command::new("sh").args(["-c", "cat; true"]).stdin(Stdio::piped()).spawn().unwrap();
        let names = || descendants_of(process::id()).into_iter().map(|it| it.comm).collect::<Vec<_>>();
        eventually(SOON, || names() == ["fork-server", "sh", "cat"]);
        shell.wait().unwrap();
    }

    /// What a body starts has the marker in its environment, and cannot start tests from it.
    #[once]
    fn a_test_within_a_test_is_refused() {
        let mut inner = Command::new("/proc/self/exe");
        let output = inner.args(["--exact", "a_clean_plain_body_passes", "--nocapture"]).output().unwrap();
        assert!(!output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("cannot run within an isolated test"), "{stderr}");
    }
}

#[procession::process]
async fn waits() {
    pending::<()>().await;
}

/// The start method is that of the test, also in processes below its own and in the census, and a child is seen as one
/// however it came to be.
fn the_method_is_that_of_the_test(method: StartMethod) -> Result<(), NotPassed> {
    let test = Isolated::new(module_path!(), "the_method_is_that_of_the_test").under(method);
    test.run_async(async move || {
        let servers = fork_servers_of(process::id());
        assert_eq!(servers.len(), usize::from(method == StartMethod::ForkServer), "{servers:?}");
        let mut child = waits().spawn().await.unwrap();
        let parent = servers.first().map_or(process::id(), |server| server.pid);
        assert_eq!(info(child.pid()).unwrap().ppid, parent);
        let children: Vec<u32> = children_of(process::id()).into_iter().map(|it| it.pid).collect();
        assert_eq!(children, [child.pid()]);
        child.kill().await.unwrap();
    })
}
under_both!(the_method_is_that_of_the_test);

#[test]
fn a_zombie_is_found() {
    let outcome = failing("a_zombie_is_found").outcome(|| {
        drop(Command::new("true").spawn().unwrap());
    });
    assert!(only_leak(&outcome).starts_with("left behind: zombie: process "), "{outcome:?}");
}

#[test]
fn a_running_child_is_found_and_killed() {
    let outcome = failing("a_running_child_is_found_and_killed").outcome(|| drop(sleeper()));
    let report = only_leak(&outcome);
    assert!(report.starts_with("left behind: process: process "), "{report}");
    assert!(report.ends_with("state S, sleep) \"sleep 1000\""), "{report}");
    assert_eq!(state(number_after(report, "process: process ")), None);
}

#[test]
fn an_orphaned_grandchild_is_found_and_killed() {
    let outcome = failing("an_orphaned_grandchild_is_found_and_killed").outcome(|| {
        // In a session of its own, as a daemon would be.
        Command::new("sh").args(["-c", "setsid sleep 1000 &"]).status().unwrap();
    });
    let report = only_leak(&outcome);
    assert!(report.starts_with("left behind: orphan: process "), "{report}");
    assert_eq!(state(number_after(report, "orphan: process ")), None);
}

#[test]
fn an_open_fd_is_found() {
    let outcome = failing("an_open_fd_is_found").outcome(|| forget_file(Path::new("/dev/zero")));
    let report = only_leak(&outcome);
    assert!(report.starts_with("left behind: fd "), "{report}");
    assert!(report.ends_with(" -> /dev/zero"), "{report}");
}

#[test]
fn a_thread_is_found() {
    let outcome = failing("a_thread_is_found").outcome(|| {
        thread::Builder::new().name("left over".to_owned()).spawn(thread::park).unwrap();
    });
    let report = only_leak(&outcome);
    assert!(report.starts_with("left behind: thread "), "{report}");
    assert!(report.ends_with(" \"left over\""), "{report}");
}

/// In a directory of its own, since tests next to this one look into `/dev/shm`.
#[test]
fn shared_memory_is_found() {
    let objects = tempfile::tempdir().unwrap();
    let path = objects.path().join("left over");
    let outcome = failing("shared_memory_is_found").shared_memory(objects.path()).outcome(|| {
        drop(File::create(path).unwrap());
    });
    let report = only_leak(&outcome);
    assert!(report.starts_with("left behind: shared memory "), "{report}");
    assert!(report.ends_with("/left over"), "{report}");
}

#[test]
fn a_temporary_file_is_found_and_removed() {
    let outcome = failing("a_temporary_file_is_found_and_removed").outcome(|| {
        fs::write(env::temp_dir().join("left over"), "").unwrap();
    });
    let report = only_leak(&outcome);
    let path = report.strip_prefix("left behind: temporary file ").unwrap_or_else(|| panic!("{report}"));
    assert!(path.ends_with("/left over"), "{path}");
    assert!(!Path::new(path).exists());
}

#[test]
fn every_leak_is_listed() {
    let outcome = failing("every_leak_is_listed").outcome(|| {
        forget_file(Path::new("/dev/zero"));
        forget_file(Path::new("/dev/zero"));
        drop(sleeper());
    });
    let Verdict::Leaked(report) = &outcome.verdict else { panic!("{outcome:?}") };
    assert_eq!(report.lines().count(), 3, "{report}");
}

#[test]
fn a_leak_of_a_cold_body_is_found() {
    let test = failing("a_leak_of_a_cold_body_is_found").cold();
    let outcome = test.outcome(|| forget_file(Path::new("/dev/zero")));
    assert!(only_leak(&outcome).ends_with(" -> /dev/zero"), "{outcome:?}");
}

#[test]
fn a_panic_is_told() {
    let outcome = failing("a_panic_is_told").outcome(|| panic!("the {}", "reason"));
    assert_eq!(outcome.verdict, Verdict::Failed("the body panicked: the reason".to_owned()));
    assert!(outcome.output.contains("harness.rs:"), "{outcome:?}");
    let failure = outcome.passed().unwrap_err();
    assert_eq!(format!("{failure:?}"), "a_panic_is_told failed: the body panicked: the reason");
}

#[test]
fn an_error_is_told() {
    let outcome = failing("an_error_is_told").outcome(|| Err::<(), _>("the reason"));
    assert!(matches!(outcome.verdict, Verdict::Failed(_)), "{outcome:?}");
    assert!(outcome.output.contains("Error: \"the reason\""), "{outcome:?}");
}

#[test]
fn a_body_that_ends_its_process_has_not_passed() {
    let outcome = failing("a_body_that_ends_its_process_has_not_passed").outcome(|| {
        drop(sleeper());
        #[expect(clippy::exit, reason = "the subject of this test")]
        process::exit(0);
    });
    let Verdict::Died(reason) = &outcome.verdict else { panic!("{outcome:?}") };
    assert!(reason.contains("exited with code 0 before it was done"), "{reason}");
}

#[test]
fn a_body_that_crashes_has_not_passed() {
    let outcome = failing("a_body_that_crashes_has_not_passed").outcome(|| process::abort());
    let Verdict::Died(reason) = &outcome.verdict else { panic!("{outcome:?}") };
    assert!(reason.contains("was killed by signal 6"), "{reason}");
}

#[test]
fn a_test_that_is_not_found_has_not_passed() {
    let outcome = failing("no_such_test").outcome(|| ());
    let Verdict::Died(reason) = &outcome.verdict else { panic!("{outcome:?}") };
    assert!(reason.contains("is no_such_test the path of a test?"), "{reason}");
}

#[test]
fn the_watchdog_tells_who_waits() {
    let test = failing("the_watchdog_tells_who_waits").limit(Duration::from_secs(3));
    let outcome = test.outcome(|| {
        thread::Builder::new().name("waits too".to_owned()).spawn(thread::park).unwrap();
        sleeper().wait().unwrap();
    });
    let Verdict::Stuck(report) = &outcome.verdict else { panic!("{outcome:?}") };
    assert!(report.starts_with("not done after 3s"), "{report}");
    assert!(report.contains("\"waits too\": state S"), "{report}");
    let line =
        report.lines().find(|line| line.contains("\"sleep 1000\"")).unwrap_or_else(|| panic!("{report}"));
    assert_eq!(state(number_after(line, "process ")), None);
}

#[test]
fn the_watchdog_ends_an_async_body() {
    let test = failing("the_watchdog_ends_an_async_body").limit(Duration::from_secs(1));
    let outcome = test.outcome_async(async || pending::<()>().await);
    assert!(matches!(outcome.verdict, Verdict::Stuck(_)), "{outcome:?}");
}

#[test]
#[should_panic = "did not happen within 20ms"]
fn what_does_not_happen_is_told() {
    eventually(Duration::from_millis(20), || false);
}

fn forget_file(path: &Path) {
    #[expect(clippy::mem_forget, reason = "the subject of these tests")]
    forget(File::open(path).expect("a file"));
    assert!(open_fds().values().any(|target| Path::new(target) == path));
}

/// Two tests at the same time: what one of them holds is no leak of the other one.
mod neighbours {
    use super::*;

    /// The directory in which the two tests meet; unset where they are run for themselves.
    const MEETING: &str = "PROCESSION_TESTS_MEETING";

    fn meeting() -> Option<PathBuf> {
        env::var_os(MEETING).map(PathBuf::from)
    }

    fn start(name: &str, meeting: &Path) -> Child {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", &format!("neighbours::{name}"), "--ignored"]);
        command.env(MEETING, meeting).stdout(Stdio::null()).spawn().expect("this binary")
    }

    #[test]
    fn do_not_disturb_one_another() {
        let meeting = tempfile::tempdir().unwrap();
        let mut one = start("one", meeting.path());
        let mut other = start("other", meeting.path());
        assert!(other.wait().unwrap().success());
        File::create(meeting.path().join("other is checked")).unwrap();
        assert!(one.wait().unwrap().success());
    }

    isolated! {
        /// Holds one of everything while the other one begins and ends.
        #[once]
        #[ignore = "run by do_not_disturb_one_another"]
        fn one() {
            let Some(meeting) = meeting() else { return };
            eventually(SOON, || meeting.join("other has begun").exists());
            let name = format!("procession-tests-{}", process::id());
            let _file = tempfile::NamedTempFile::new().unwrap();
            let shared = Path::new("/dev/shm").join(name);
            let _shared = File::create(&shared).unwrap();
            let mut child = sleeper();
            File::create(meeting.join("one holds everything")).unwrap();
            eventually(SOON, || meeting.join("other is checked").exists());
            child.kill().unwrap();
            child.wait().unwrap();
            fs::remove_file(shared).unwrap();
        }

        /// Is checked while the first one holds everything.
        #[once]
        #[ignore = "run by do_not_disturb_one_another"]
        fn other() {
            let Some(meeting) = meeting() else { return };
            File::create(meeting.join("other has begun")).unwrap();
            eventually(SOON, || meeting.join("one holds everything").exists());
        }
    }
}
