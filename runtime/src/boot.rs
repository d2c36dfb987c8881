//! The life of a child before, around and after its function.
//!
//! A child is this program, started again with a marker in its arguments. It is taken over before `main`, or at
//! the first line of it, and never comes back from here.

use std::any::Any;
use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::block_on::block_on;
use crate::current::{Born, be};
use crate::entry::{Body, Entry, Ready, Running};
use crate::family::join_children;
use crate::image::Image;
use crate::link::{self, Bootstrap, NoParent, Report};
use crate::wire::frame::{Kind, MAX_REPORT};
use crate::wire::{DecodeError, EncodeError, Limits};
use crate::{panic, sys};

/// How long a child whose function has returned waits for what it left running by `spawn_blocking`.
const LINGER: Duration = Duration::from_secs(5);

/// What a child exits with where its function did not; that of a Rust program that panics among them, and
/// that of `sysexits.h` for a wrong use.
mod code {
    pub(super) const RETURNED: i32 = 0;
    pub(super) const NO_RESULT: i32 = 1;
    pub(super) const USAGE: i32 = 64;
    pub(super) use crate::panic::PANICKED;
}

/// Takes this process over if it is a child. Without the feature `before-main`, the first line of `main`.
///
/// With that feature, which is on by default where the C library is glibc, children are taken over before `main`
/// and this does nothing. Without it, a program whose `main` does not call this (or carry
/// [`#[procession::main]`](macro@crate::main)) gets a typed error from every call, never a second run of `main`.
///
/// In a child this does not return. What stands before it runs in every child: let nothing stand there.
pub fn init() {
    let marked = std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument.as_encoded_bytes() == sys::MARKER.to_bytes());
    if !sys::armed() && marked {
        take_over(Entered::InMain, || {});
    }
    sys::arm();
}

/// Runs the future that `#[procession::main]` makes of an `async fn main`.
///
/// # Panics
/// If the system has no threads or descriptors left for a runtime.
pub fn block_on_main<F: Future>(main: F) -> F::Output {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system can make a tokio runtime for `main`").block_on(async {
        let output = main.await;
        join_children().await;
        output
    })
}

/// Runs the function that `#[procession::main]` makes of a plain `fn main`.
pub fn run_main<T>(main: impl FnOnce() -> T) -> T {
    let output = main();
    block_on(join_children());
    output
}

/// Where a child was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    #[cfg_attr(
        not(all(feature = "before-main", target_env = "gnu")),
        expect(dead_code, reason = "there is no constructor")
    )]
    BeforeMain,
    /// The standard library has prepared the process: its handler for stack overflows is there, which knows no parent.
    InMain,
}

/// Becomes the child that the parent wants, and ends. `finish_start` runs what the start of the program still
/// owes: the constructors after ours.
pub(crate) fn take_over(entered: Entered, finish_start: impl FnOnce()) -> ! {
    let stream = match link::inherit() {
        Ok(stream) => stream,
        Err(NoParent::ByHand(why)) => refuse(why),
        Err(NoParent::Gone) => sys::exit_now(code::USAGE),
    };
    sys::arm();
    sys::close_strangers();
    // The order counts: a parent that dies from here on takes us along, and one that has died before is seen
    // now, because our parent is then somebody else.
    if sys::arm_lifeline().is_err() || !link::is_from_parent(&stream) {
        sys::exit_now(code::NO_RESULT);
    }
    finish_start();
    leave(run(stream, entered))
}

fn refuse(why: &str) -> ! {
    let marker = sys::MARKER.to_string_lossy();
    // Somebody has started this program by hand with the marker; it ends whether or not they can read why.
    drop(writeln!(std::io::stderr(), "{marker} is for Procession's own use, and {why}"));
    sys::exit_now(code::USAGE)
}

#[expect(clippy::exit, reason = "a child must not come to `main`")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// Runs the function and reports; gives the exit code. An error of the link means that the parent is gone, and
/// nobody is left to tell.
fn run(mut stream: std::os::unix::net::UnixStream, entered: Entered) -> i32 {
    let start = link::read(&mut stream, Kind::Start, MAX_REPORT);
    let Ok(Some(bootstrap)) =
        start.map(|body| body.and_then(|body| postcard::from_bytes::<Bootstrap>(&body).ok()))
    else {
        return code::NO_RESULT;
    };
    let Ok(mut reader) = stream.try_clone() else { return code::NO_RESULT };
    link::open(stream);
    let limits = bootstrap.limits;
    let entry = match settle(bootstrap, entered) {
        Ok(entry) => entry,
        Err(reason) => return report(&Report::Refused { reason }),
    };
    if link::send(Kind::Hello, &[]).is_err() {
        return code::NO_RESULT;
    }
    let arguments = link::read(&mut reader, Kind::Arguments, limits.max_message);
    drop(reader);
    match arguments {
        Ok(Some(arguments)) => finish(perform(entry, arguments, limits)),
        Ok(None) => code::NO_RESULT,
        Err(error) => report(&Report::Refused { reason: format!("it cannot read its arguments: {error}") }),
    }
}

/// Makes this process what the parent wants it to be, and finds the function.
fn settle(bootstrap: Bootstrap, entered: Entered) -> Result<&'static Entry, String> {
    let image = Image::this().map_err(|cause| cause.to_string())?;
    if image.identity != bootstrap.image {
        return Err("the program has changed: the child is another build than its parent".into());
    }
    let entry = image.entry_at(bootstrap.entry);
    let entry = entry.filter(|entry| {
        entry.place.to_string() == bootstrap.place && (entry.signature)() == bootstrap.signature
    });
    let entry = entry.ok_or_else(|| format!("there is no {} in the child", bootstrap.place))?;
    bootstrap.settings.apply()?;
    let Bootstrap { name, parent_name, parent_pid, depth, .. } = bootstrap;
    // A thread's name has 15 bytes; `ps` and debuggers show it.
    let _ = rustix::thread::set_name(&thread_name(&name));
    be(Born { name, parent_name, parent_pid, depth });
    panic::install_hook();
    sys::ignore_broken_pipes().map_err(|error| error.to_string())?;
    sys::catch_overflows(entered).map_err(|error| error.to_string())?;
    Ok(entry)
}

fn thread_name(name: &str) -> std::ffi::CString {
    let bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    std::ffi::CString::new(bytes).unwrap_or_default()
}

/// What became of the function.
enum Outcome {
    Returned(Result<Vec<u8>, EncodeError>),
    Undecodable(DecodeError),
    NoRuntime(std::io::Error),
    Panicked(Box<dyn Any + Send>),
}

/// The function, ready to run.
enum Prepared {
    Async(Runtime, Running),
    Plain(Ready),
}

fn perform(entry: &Entry, arguments: Vec<u8>, limits: Limits) -> (Outcome, Option<Runtime>) {
    let prepared = match catch_unwind(AssertUnwindSafe(|| prepare(entry, &arguments, limits))) {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(outcome)) => return (outcome, None),
        Err(payload) => return (Outcome::Panicked(payload), None),
    };
    drop(arguments);
    drop(link::send(Kind::Started, &[]));
    let (result, runtime) = match prepared {
        Prepared::Async(runtime, function) => {
            (catch_unwind(AssertUnwindSafe(|| runtime.block_on(function))), Some(runtime))
        }
        Prepared::Plain(function) => (catch_unwind(AssertUnwindSafe(function)), None),
    };
    (result.map_or_else(Outcome::Panicked, Outcome::Returned), runtime)
}

fn prepare(entry: &Entry, arguments: &[u8], limits: Limits) -> Result<Prepared, Outcome> {
    match entry.body {
        Body::Async { threads, prepare } => {
            let runtime = runtime(threads).map_err(Outcome::NoRuntime)?;
            let function = {
                let _inside = runtime.enter();
                prepare(arguments, limits).map_err(Outcome::Undecodable)?
            };
            Ok(Prepared::Async(runtime, function))
        }
        Body::Plain { prepare } => {
            prepare(arguments, limits).map(Prepared::Plain).map_err(Outcome::Undecodable)
        }
    }
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = match threads {
        0 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().on_thread_start(sys::guard_thread);
    // Where tokio finds no thread it panics, and then waits for those that it has.
    panic::ends_the_process_during(|| builder.build())
}

/// Tells the parent, lets the runtime finish, and gives the exit code.
fn finish((outcome, runtime): (Outcome, Option<Runtime>)) -> i32 {
    let code = tell(outcome);
    if !link::is_ours() {
        // The function has forked, and this is the copy: what it owes to the original it must not do.
        sys::exit_now(code);
    }
    if let Some(runtime) = runtime {
        runtime.shutdown_timeout(LINGER);
    }
    code
}

fn tell(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Returned(Ok(result)) => match link::send(Kind::Returned, &result) {
            Ok(()) => code::RETURNED,
            Err(_the_parent_is_gone) => code::NO_RESULT,
        },
        Outcome::Returned(Err(error)) => report(&Report::Encode(error)),
        Outcome::Undecodable(error) => report(&Report::Decode(error)),
        Outcome::NoRuntime(error) => {
            report(&Report::Refused { reason: format!("no tokio runtime: {error}") })
        }
        Outcome::Panicked(payload) => {
            report(&panic::report_of(&*payload));
            code::PANICKED
        }
    }
}

fn report(report: &Report) -> i32 {
    drop(link::send_report(report));
    code::NO_RESULT
}
