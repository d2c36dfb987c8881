//! The programs that people learn multiprocessing from, as ours tell them, and those of the book's chapters on life and
//! death, on pools, on pipes, and on shared memory: what they print, and that they leave nothing.
#![expect(clippy::unwrap_used, reason = "what helps a test may fail as the test itself")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

use procession_tests::{Isolated, NotPassed, Outcome, StartMethod, example, under_both};

#[path = "../../examples/apply_and_map.rs"]
mod apply_and_map;
#[path = "../../examples/initializer.rs"]
mod initializer;
#[path = "../../examples/one_at_a_time.rs"]
mod one_at_a_time;
#[path = "../../examples/ping_pong.rs"]
mod ping_pong;
#[path = "../../examples/pipe_from_child.rs"]
mod pipe_from_child;
#[path = "../../examples/producers_and_consumers.rs"]
mod producers_and_consumers;
#[path = "../../examples/queue.rs"]
mod queue;
#[path = "../../examples/squares.rs"]
mod squares;
#[path = "../../examples/tasks_and_processes.rs"]
mod tasks_and_processes;
#[path = "../../examples/value_and_array.rs"]
mod value_and_array;

/// What an example prints, line by line, its pids replaced. It succeeds, and complains of nothing.
fn printed_by(name: &str) -> Vec<String> {
    printed_with(name, &[]).lines().map(without_pids).collect()
}

/// What an example prints that is given arguments.
fn printed_with(name: &str, arguments: &[&Path]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let run = Command::new(example(name)).args(arguments).current_dir(root).output().unwrap();
    assert!(run.status.success() && run.stderr.is_empty(), "{name}: {run:?}");
    String::from_utf8(run.stdout).unwrap()
}

fn without_pids(line: &str) -> String {
    let mut line = line.to_owned();
    for before in ["pid=", "pid ", "daemon "] {
        let Some((start, rest)) = line.split_once(before) else { continue };
        let end = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        assert!(end.len() < rest.len(), "there is no pid in {line:?}");
        line = format!("{start}{before}PID{end}");
    }
    line
}

/// Lines in an order of their own: that of processes which run side by side is not known.
fn sorted(lines: &[String]) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.sort_unstable();
    lines
}

fn position(lines: &[String], line: &str) -> usize {
    lines.iter().position(|other| other == line).unwrap_or_else(|| panic!("no {line:?} in {lines:?}"))
}

procession_tests::isolated! {
    /// Rows 0.4, 3.1, 4.1 and 4.2.
    #[once]
    #[limit(600)]
    fn start_and_join() {
        let lines = printed_by("start_and_join");
        let [first, workers @ .., last] = &*lines else { panic!("{lines:?}") };
        assert_eq!((first.as_str(), last.as_str()), ("Hello, Bob", "[1, 0, 1, 1, 0]"));
        assert_eq!(sorted(workers), ["Worker: 0", "Worker: 1", "Worker: 2", "Worker: 3", "Worker: 4"]);
    }

    /// Rows 1.4 and 4.4. The numbers of names by default are those of the processes that have none.
    #[once]
    #[limit(600)]
    fn who_am_i() {
        let lines = printed_by("who_am_i");
        let (introductions, names) = lines.split_at(3);
        let expected = [
            "In main: name=who_am_i, pid=PID",
            "In child process: name=introduce-1, pid=PID, val=param_val",
            "My parent is who_am_i, pid=PID",
        ];
        assert_eq!(introductions, expected);
        let expected = [
            "my_service Exiting", "my_service Starting", "worker 1 Exiting", "worker 1 Starting",
            "worker-2 Exiting", "worker-2 Starting",
        ];
        assert_eq!(sorted(names), expected);
    }

    /// Row 1.6.
    #[once]
    #[limit(600)]
    fn while_waiting() {
        let lines = printed_by("while_waiting");
        let (last, before) = lines.split_last().unwrap();
        assert_eq!(last, "done");
        assert!(!before.is_empty() && before.iter().all(|line| line == "in loop"), "{lines:?}");
    }

    /// Row 4.3.
    #[once]
    #[limit(600)]
    fn elsewhere() {
        assert_eq!(printed_by("elsewhere"), [0, 1, 2, 3, 4].map(|n| format!("Worker {n} of elsewhere::workers")));
    }

    /// Rows 4.5 and 4.6: a daemon that is joined comes to its end, one that is not does not.
    #[once]
    #[limit(600)]
    fn daemons() {
        let lines = printed_by("daemons");
        let order = ["joined daemon PID", "main", "non-daemon PID"].map(|name| format!("Exiting: {name}"));
        let order = order.map(|line| position(&lines, &line));
        assert!(order.is_sorted(), "{lines:?}");
        let exits = lines.iter().filter(|line| line.starts_with("Exiting")).count();
        assert_eq!(exits, order.len(), "{lines:?}");
    }

    /// Row 4.7. Just after the signal, the process may have ended or not.
    #[once]
    #[limit(600)]
    fn terminate() {
        let lines = printed_by("terminate");
        let [before, during, terminated, joined] = &*lines else { panic!("{lines:?}") };
        let (running, killed) = ("Process(\"slow\", pid PID, running) true", "Process(\"slow\", pid PID, killed by SIGTERM) false");
        assert_eq!(before, "BEFORE: Call(\"slow\", not started)");
        assert_eq!(*during, format!("DURING: {running}"));
        assert!([running, killed].map(|state| format!("TERMINATED: {state}")).contains(terminated), "{lines:?}");
        assert_eq!(*joined, format!("JOINED: {killed}"));
    }

    /// Row 1.10. Without a lock it goes wrong sooner or later. Nothing is lost: each of the pieces is there.
    #[once]
    #[limit(600)]
    fn interleaved() {
        let writers = ["child1", "child2", "interleaved"];
        let all = count_letters(&whole_lines_of(&writers).concat());
        let goes_wrong = || {
            let lines = printed_by("interleaved");
            assert_eq!(count_letters(&lines.concat()), all);
            sorted(&lines) != sorted(&whole_lines_of(&writers))
        };
        assert!((0..20).any(|_| goes_wrong()));
    }

    /// Row 1.11.
    #[once]
    #[limit(600)]
    fn whole_lines() {
        let lines = printed_by("whole_lines");
        assert_eq!(lines.len(), 1200);
        assert_eq!(sorted(&lines), sorted(&whole_lines_of(&["child1", "child2", "whole_lines"])));
    }

    /// The picture is the one that `shows` says, wherever the bands were painted.
    #[once]
    #[limit(600)]
    fn picture() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mandelbrot.png");
        let line = printed_with("picture", &[&path]);
        assert_eq!(line, format!("135 bands by 4 processes: {}\n", path.display()));

        let mut picture = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; picture.output_buffer_size().unwrap()];
        let frame = picture.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height, frame.color_type), (1920, 1080, png::ColorType::Rgb));
        shows(&pixels);
    }

    /// The harness looks at what they leave. What they print is compared with the book, here or in `documents`.
    #[once]
    #[limit(600)]
    fn the_chapters_leave_nothing() {
        for name in [
            "unstoppable", "stop", "drops", "generations", "surroundings", "last_words", "findings", "pipes", "replies",
            "owner_died", "held", "many_locks", "corpus", "callbacks", "jobs", "pool",
        ] {
            assert!(!printed_by(name).is_empty(), "{name}");
        }
    }

    /// The book shows outputs with pids, which are others each time.
    #[once]
    #[limit(600)]
    fn outputs_in_the_book() {
        let chapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/life.md");
        let chapter = std::fs::read_to_string(chapter).unwrap();
        let shown: Vec<(&str, &str)> = chapter.split("`cargo run --example ").skip(1).filter_map(|promise| {
            let (name, rest) = promise.split_once("` prints, with ")?;
            let (_, rest) = rest.split_once(":\n\n```text\n")?;
            Some((name, rest.split_once("\n```")?.0))
        }).collect();
        assert_eq!(shown.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["terminate", "daemons", "last_words"]);
        for (name, output) in shown {
            let shown: Vec<String> = output.lines().map(without_pids).collect();
            assert_eq!(certain(&printed_by(name)), certain(&shown), "{name}");
        }
    }
}

/// Rows 0.12, 1.9 and 3.5: the program as it is, and its `main` under each start method.
fn a_list_from_a_child(method: StartMethod) -> Result<(), NotPassed> {
    let test = Isolated::new(module_path!(), "a_list_from_a_child").under(method);
    let outcome = test.outcome(pipe_from_child::main);
    let expected = ["[42, None, 'Hello World!']", "['hello', 'world']", "[23, None, 'child']"];
    assert_eq!(lines_with(&outcome, '['), expected);
    assert_eq!(printed_by("pipe_from_child"), expected);
    outcome.passed()
}

/// Row 2.8. Each prints what it has received, and not before.
fn two_children_talk(method: StartMethod) -> Result<(), NotPassed> {
    let outcome = Isolated::new(module_path!(), "two_children_talk").under(method).outcome(ping_pong::main);
    let expected = ["proc2 rec: hello", "proc1 rec: hello, too"];
    assert_eq!(lines_with(&outcome, ':'), expected);
    assert_eq!(printed_by("ping_pong"), expected);
    outcome.passed()
}

under_both!(a_list_from_a_child);
under_both!(two_children_talk);

/// Rows 1.8 and 3.4. Here the children have ended before the first list is received.
fn lists_through_a_queue(method: StartMethod) -> Result<(), NotPassed> {
    let outcome = Isolated::new(module_path!(), "lists_through_a_queue").under(method).outcome(queue::main);
    let expected = ["['one', 'two', 3]", "['u', 0, 'hello']"];
    assert_eq!(lines_with(&outcome, '['), expected);
    assert_eq!(printed_by("queue"), expected);
    outcome.passed()
}

/// Row 2.10. The producers wait at three, and each item comes once.
fn producers_wait_for_consumers(method: StartMethod) -> Result<(), NotPassed> {
    let test = Isolated::new(module_path!(), "producers_wait_for_consumers").under(method);
    let outcome = test.outcome(producers_and_consumers::main);
    for output in [&outcome.output, &printed_with("producers_and_consumers", &[])] {
        assert!(output.lines().any(|line| line == "3 of 3 are queued"), "{output}");
        let items: Vec<_> = output.lines().filter_map(|line| line.split_once("(get):")).collect();
        let mut numbers: Vec<u64> =
            items.iter().map(|(_, item)| item.rsplit_once("(put):").unwrap().1.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        let pids = |pid: &dyn Fn(&(&str, &str)) -> u32| items.iter().map(pid).collect::<BTreeSet<_>>();
        let consumers = pids(&|(consumer, _)| consumer.parse().unwrap());
        let producers = pids(&|(_, item)| item.split_once('(').unwrap().0.parse().unwrap());
        assert_eq!(producers.len(), 10);
        assert!(consumers.is_disjoint(&producers));
    }
    outcome.passed()
}

under_both!(lists_through_a_queue);
under_both!(producers_wait_for_consumers);

/// Rows 0.3, 1.14, 2.11 and 3.7.
fn functions_over_lists(method: StartMethod) -> Result<(), NotPassed> {
    let outcome = Isolated::new(module_path!(), "functions_over_lists").under(method).outcome(squares::main);
    let expected =
        ["[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]", "[25, 100, 400]", "[1, 4, 9, 16, 25, 36, 49, 64, 81, 100]"];
    assert_eq!(lines_with(&outcome, '['), expected);
    assert_eq!(printed_by("squares"), expected);
    outcome.passed()
}

/// Row 0.2. Every worker has begun with the initializer, whose failure is told.
fn workers_are_prepared(method: StartMethod) -> Result<(), NotPassed> {
    let outcome =
        Isolated::new(module_path!(), "workers_are_prepared").under(method).outcome(initializer::main);
    let names = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi"];
    let greetings = names.map(|name| format!("Hello, {name}"));
    let expected: Vec<&str> = ["a worker for each processor: true"]
        .into_iter()
        .chain(greetings.iter().map(String::as_str))
        .chain([
            "no worker has greeted more than three: true",
            "could not be started (init): there is no greeting",
        ])
        .collect();
    assert_prints(&outcome, &expected);
    assert_eq!(printed_by("initializer"), expected);
    outcome.passed()
}

/// Rows 1.13, 2.12 and 2.13.
fn all_ways_to_a_pool(method: StartMethod) -> Result<(), NotPassed> {
    let outcome =
        Isolated::new(module_path!(), "all_ways_to_a_pool").under(method).outcome(apply_and_map::main);
    let expected = [
        "apply: 9",
        "apply_async: 16",
        "map: [1, 4, 9, 16, 25]",
        "starmap: [3, 7]",
        "map_async: [1, 4, 9, 16, 25]",
        "imap: 1",
        "imap: 4",
        "imap: 9",
        "imap: 16",
        "imap: 25",
        "imap_unordered, sorted: [1, 4, 9, 16, 25]",
        "done before the end: 100",
        "after it: was not run: its pool is closed",
    ];
    assert_prints(&outcome, &expected);
    assert_eq!(printed_by("apply_and_map"), expected);
    outcome.passed()
}

under_both!(functions_over_lists);
under_both!(workers_are_prepared);
under_both!(all_ways_to_a_pool);

/// That these lines come in this order, among what the test's own machinery says.
fn assert_prints(outcome: &Outcome, lines: &[&str]) {
    let printed: Vec<&str> = outcome.output.lines().filter(|line| lines.contains(line)).collect();
    assert_eq!(printed, lines, "{}", outcome.output);
}

/// Rows 0.9 and 3.3. Whole lines, in an order of their own.
fn five_print_in_turn(method: StartMethod) -> Result<(), NotPassed> {
    let outcome =
        Isolated::new(module_path!(), "five_print_in_turn").under(method).outcome(one_at_a_time::main);
    let is_number = |line: &str| line.parse::<u32>().is_ok();
    let printed: Vec<String> =
        outcome.output.lines().filter(|line| is_number(line)).map(str::to_owned).collect();
    for printed in [printed, printed_by("one_at_a_time")] {
        assert_eq!(sorted(&printed), ["0", "1", "2", "3", "4"]);
    }
    outcome.passed()
}

/// Row 2.7. The tasks are the main process, and the processes five others.
fn tasks_are_main_and_processes_others(method: StartMethod) -> Result<(), NotPassed> {
    let test = Isolated::new(module_path!(), "tasks_are_main_and_processes_others").under(method);
    let outcome = test.outcome(tasks_and_processes::main);
    for output in [&outcome.output, &printed_with("tasks_and_processes", &[])] {
        let pids_of = |sign: &str| -> Vec<u32> {
            let rest = output.lines().filter_map(|line| line.strip_prefix(sign)?.strip_prefix(' '));
            rest.filter_map(|pid| pid.parse().ok()).collect()
        };
        let [main] = *pids_of("main") else { panic!("{output}") };
        assert_eq!(pids_of("task"), [main; 5]);
        let processes = pids_of("process");
        let others: BTreeSet<_> = processes.iter().filter(|pid| **pid != main).collect();
        assert_eq!((processes.len(), others.len()), (5, 5), "{output}");
    }
    outcome.passed()
}

/// Rows 0.7, 0.8 and 2.14.
fn a_child_sets_values(method: StartMethod) -> Result<(), NotPassed> {
    let test = Isolated::new(module_path!(), "a_child_sets_values").under(method);
    let outcome = test.outcome(value_and_array::main);
    let expected = ["3.14", "[5, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "5000 ß true"];
    for line in expected {
        assert!(outcome.output.lines().any(|printed| printed == line), "{}", outcome.output);
    }
    assert_eq!(printed_by("value_and_array"), expected);
    outcome.passed()
}

under_both!(five_print_in_turn);
under_both!(tasks_are_main_and_processes_others);
under_both!(a_child_sets_values);

/// What each writer of rows 1.10 and 1.11 has to say.
fn whole_lines_of(writers: &[&str]) -> Vec<String> {
    let lines_of = |writer: &&str| (0..400).map(|i| format!("{i} in process {writer}")).collect::<Vec<_>>();
    writers.iter().flat_map(lines_of).collect()
}

/// How often each letter is there.
fn count_letters(text: &str) -> Vec<(char, usize)> {
    let letters: BTreeSet<char> = text.chars().collect();
    letters.into_iter().map(|letter| (letter, text.matches(letter).count())).collect()
}

/// Inside it is black, far outside of one colour, and above as below.
fn shows(pixels: &[u8]) {
    let pixel = |x: usize, y: usize| &pixels[(y * 1920 + x) * 3..][..3];
    for inside in [(960, 540), (1200, 540), (800, 540)] {
        assert_eq!(pixel(inside.0, inside.1), [0; 3], "{inside:?}");
    }
    for corner in [(0, 0), (0, 1079), (0, 540)] {
        assert_eq!(pixel(corner.0, corner.1), [27, 15, 42], "{corner:?}");
    }
    // Each band, the middle row of which is 540.
    for y in 1..540 {
        assert_eq!(pixel(1100, y), pixel(1100, 1080 - y), "{y}");
    }
    let colours: BTreeSet<_> = pixels.chunks_exact(3).collect();
    assert!(colours.len() > 100, "{}", colours.len());
}

/// The lines that an example has printed among what the test's own machinery says.
fn lines_with(outcome: &Outcome, sign: char) -> Vec<&str> {
    let is_its_own = |line: &&str| line.contains(sign) && !line.starts_with("test ");
    outcome.output.lines().filter(is_its_own).collect()
}

/// The lines that come each time: a signal may have arrived or not, a daemon may have begun or not.
fn certain(lines: &[String]) -> Vec<&str> {
    let may_differ = |line: &&str| line.starts_with("TERMINATED") || *line == "Starting: daemon PID";
    sorted(lines).into_iter().filter(|line| !may_differ(line)).collect()
}
