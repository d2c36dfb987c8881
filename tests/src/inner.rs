//! The inner process: warms up, counts, runs the body, counts again.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode, Termination};

use crate::census::Census;
use crate::files::Files;
use crate::isolated::Isolated;
use crate::marker::Marker;
use crate::method::take_start_method;
use crate::outcome::Verdict;
use crate::wait::holds_within;
use crate::warm_up::{warm_up, warm_up_tokio};
use crate::watchdog;

/// Where the temporary files of a body go.
pub(crate) fn temporary(directory: &Path) -> PathBuf {
    directory.join("tmp")
}

/// Where the census of a warm process is handed to the test that starts cold.
fn reference(directory: &Path) -> PathBuf {
    directory.join("reference")
}

/// Runs the body between two counts, and ends the process.
#[expect(clippy::exit, reason = "what follows in the test function is for the outer process alone")]
pub(crate) fn run<T: Termination>(test: &Isolated, marker: &Marker, body: impl FnOnce() -> T) -> ! {
    prepare(test, marker);
    let before = if test.cold { read_reference(&marker.directory) } else { warm_census(marker.parent) };
    let files = Files::now(&test.shared_memory, &temporary(&marker.directory));
    let verdict = match run_body(body) {
        Ok(()) => check(test, marker, &before, &files),
        Err(reason) => Verdict::Failed(reason),
    };
    verdict.write(&marker.directory).expect("the test's own directory is writable");
    process::exit(i32::from(verdict != Verdict::Passed));
}

/// Writes down what a process holds that has only been warmed up, and ends the process.
///
/// # Panics
/// If the file cannot be written.
#[expect(clippy::exit, reason = "what follows in the test function is for the outer process alone")]
pub(crate) fn write_reference(test: &Isolated, marker: &Marker) -> ! {
    prepare(test, marker);
    let census = serde_json::to_vec(&warm_census(marker.parent)).expect("a census is plain data");
    fs::write(reference(&marker.directory), census).expect("the test's own directory is writable");
    process::exit(0);
}

fn read_reference(directory: &Path) -> Census {
    let census = fs::read(reference(directory)).expect("the reference was written before");
    serde_json::from_slice(&census).expect("the reference is whole")
}

/// What comes before the first count in every inner process.
fn prepare(test: &Isolated, marker: &Marker) {
    marker.follow_parent();
    take_start_method();
    watchdog::start(test.limit, marker.parent, marker.directory.clone());
    warm_up_tokio();
}

fn warm_census(keeper: u32) -> Census {
    warm_up();
    Census::when_calm(keeper)
}

/// Runs the body; the error says how it failed.
fn run_body<T: Termination>(body: impl FnOnce() -> T) -> Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| body().report()));
    match result {
        Ok(code) if code == ExitCode::SUCCESS => Ok(()),
        Ok(_failure) => Err("the body returned an error, which is in its output".to_owned()),
        Err(payload) => Err(format!("the body panicked: {}", message(payload.as_ref()))),
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(not a text)")
}

/// Gives what ends in the background its time, then lists what is left.
fn check(test: &Isolated, marker: &Marker, before: &Census, files: &Files) -> Verdict {
    if test.cold {
        warm_up();
    }
    let mut difference = Vec::new();
    let is_clean = holds_within(test.settle, || {
        difference = Census::now(marker.parent).difference(before);
        difference.extend(Files::now(&test.shared_memory, &temporary(&marker.directory)).left_since(files));
        difference.is_empty()
    });
    if is_clean { Verdict::Passed } else { Verdict::Leaked(difference.join("\n")) }
}
