//! The life of a child before, around and after its function.
//!
//! A child is this program, started again with a marker in its arguments. It is taken over before `main`, or at
//! the first line of it, and never comes back from here.

use std::any::Any;
use std::future::Future;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::block_on::block_on;
use crate::current::{Born, be};
use crate::entry::{Body, Entry, Ready, Running};
use crate::family::join_children;
use crate::fork_server::{self, Ahead, Served, Service};
use crate::image::{Identity, Image};
use crate::link::{self, Bootstrap, NoParent, Program, Report};
use crate::wire::frame::{Kind, Told, header_with, read_frame_with};
use crate::wire::{DecodeError, EncodeError, Limits, Packet, handles, pack};
use crate::{panic, pipe, sys};

/// How long a child whose function has returned waits for what it left running by `spawn_blocking`.
const LINGER: Duration = Duration::from_secs(5);

/// How long a child whose end nobody waits for leaves the processor to others first: longer than a call to a spare takes, so
/// that the next one does not wait until this process is taken apart.
const COURTESY: Duration = Duration::from_millis(2);

/// Whether any runtime of this process has started a thread.
static HAS_THREADS: AtomicBool = AtomicBool::new(false);

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
    // The order counts: a parent that dies from here on takes us along, and one that has died before is seen now.
    if sys::arm_lifeline().is_err() || sys::lifeline_is_cut() {
        sys::exit_now(code::NO_RESULT);
    }
    finish_start();
    // Before the first word to a parent that may be gone.
    drop(sys::ignore_broken_pipes());
    link::open(stream);
    leave(run(entered))
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

/// Says that it is there, does what the parent wants, and gives the exit code. An error of the link means that the
/// parent is gone, and nobody is left to tell.
fn run(entered: Entered) -> i32 {
    let Some(mut reader) = link::listener() else { return code::NO_RESULT };
    if link::send(Kind::Hello, &[]).is_err() {
        return code::NO_RESULT;
    }
    match read_frame_with(&reader, 0) {
        Ok(Some(Told { kind: Kind::Start, body: start, beside })) => {
            if let Err(reason) = prepare_process(entered) {
                return refuse_to(reason);
            }
            be_child(reader, &start, beside, None)
        }
        Ok(Some(Told { kind: Kind::Serve, body: service, beside })) => {
            match be_server(&mut reader, service, beside, entered) {
                // Hooks that a preload has left are its children's.
                Ok(Served::Done) => sys::exit_now(code::RETURNED),
                Ok(Served::Forked { ahead }) => {
                    // It was the server's.
                    drop(reader);
                    be_forked(ahead)
                }
                Err(reason) => refuse_to(reason),
            }
        }
        Ok(Some(_)) => refuse_to("it was told neither to run something nor to serve".into()),
        Ok(None) => code::NO_RESULT,
        Err(error) => refuse_to(format!("it cannot read what it is to do: {error}")),
    }
}

fn refuse_to(reason: String) -> i32 {
    report(&Report::Refused { reason })
}

/// What a process that does not come to `main` lacks, and what its parent is to hear of.
fn prepare_process(entered: Entered) -> Result<(), String> {
    panic::install_hook();
    sys::catch_overflows(entered).map_err(|error| error.to_string())
}

/// Runs the preloads, and serves. What is not needed for that is freed before: to free memory is to write to it, and the
/// first write of a child to a page copies it.
fn be_server(
    reader: &mut UnixStream,
    service: Vec<u8>,
    mut beside: Vec<OwnedFd>,
    entered: Entered,
) -> Result<Served, String> {
    let Service { image, preloads } = postcard::from_bytes(&service).map_err(|error| error.to_string())?;
    let requests = beside.pop().ok_or("no socket for requests came")?;
    check_image(&image)?;
    drop((service, beside, image));
    prepare_process(entered)?;
    fork_server::serve(reader, preloads, requests)
}

/// The life of a process that the fork server has made.
fn be_forked(ahead: Ahead) -> i32 {
    let Some(reader) = link::listener() else { return code::NO_RESULT };
    if link::send_hello_of_forked().is_err() {
        return code::NO_RESULT;
    }
    // The parent is about to tell it what to run: meanwhile it makes ready what most functions need.
    let runtime = (ahead != Ahead::Nothing).then(|| runtime(0));
    if let (Ahead::Everything, Some(Ok(runtime))) = (ahead, &runtime) {
        // What fails here is told when it fails in earnest.
        drop(rehearse(runtime));
    }
    match read_frame_with(&reader, 0) {
        Ok(Some(Told { kind: Kind::Start, body: start, beside })) => {
            be_child(reader, &start, beside, runtime)
        }
        Ok(None) => code::NO_RESULT,
        Ok(Some(_)) => refuse_to("it was not told to run something".into()),
        Err(error) => refuse_to(format!("it cannot read what it is to run: {error}")),
    }
}

/// Does once, with nothing, what a child does with what it is told. The first time costs more than a message: the kernel
/// maps, or copies, each page that is touched.
fn rehearse(runtime: &Runtime) -> std::io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let body = postcard::to_stdvec(&Bootstrap::empty()).map_err(std::io::Error::other)?;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut start = header_with(Kind::Start, body.len() as u64, 3).to_vec();
    start.extend_from_slice(&body);
    handles::send(&ours, &start, &streams)?;
    link::write_frame(&ours, Kind::Arguments, &[])?;
    let told = read_frame_with(&theirs, 0).map_err(std::io::Error::other)?;
    let told = told.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let bootstrap: Bootstrap = postcard::from_bytes(&told.body).map_err(std::io::Error::other)?;
    drop(find(&bootstrap));
    drop(thread_name(&bootstrap.name));
    if let Some(inherited) = bootstrap.inherited {
        inherited.apply(told.beside).map_err(std::io::Error::other)?;
    }
    bootstrap.settings.apply().map_err(std::io::Error::other)?;
    drop(link::read_arguments(&theirs, &Limits::DEFAULT));
    let done = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(Box::pin(async { pack(&(), &Limits::DEFAULT).map(Packet::from) }))
    }));
    done.map_or_else(|_panic| Ok(()), |encoded| encoded.map(drop).map_err(std::io::Error::other))
}

/// Runs the function and reports.
fn be_child(
    reader: UnixStream,
    start: &[u8],
    beside: Vec<OwnedFd>,
    ahead: Option<std::io::Result<Runtime>>,
) -> i32 {
    let Ok(bootstrap) = postcard::from_bytes::<Bootstrap>(start) else {
        return refuse_to("it cannot read what it is to run".into());
    };
    let Bootstrap { limits, is_timed, lingers, .. } = bootstrap;
    let entry = match settle(bootstrap, beside) {
        Ok(entry) => entry,
        Err(reason) => return refuse_to(reason),
    };
    if let Err(payload) = catch_unwind(fork_server::run_hooks) {
        drop(link::send_report(&panic::report_of(&*payload)));
        return code::PANICKED;
    }
    let arguments = link::read_arguments(&reader, &limits);
    drop(reader);
    match arguments {
        Ok(Some(arguments)) => {
            let prepared = prepare_safely(entry, arguments, limits, ahead);
            let done =
                prepared.map_or_else(|outcome| (outcome, None), |prepared| perform(prepared, is_timed));
            finish(done, lingers)
        }
        Ok(None) => code::NO_RESULT,
        Err(error) => refuse_to(format!("it cannot read its arguments: {error}")),
    }
}

/// Makes this process what the parent wants it to be, and finds the function.
fn settle(bootstrap: Bootstrap, beside: Vec<OwnedFd>) -> Result<&'static Entry, String> {
    let entry = find(&bootstrap)?;
    if let Some(inherited) = bootstrap.inherited {
        inherited.apply(beside)?;
    }
    bootstrap.settings.apply()?;
    if let Some(method) = bootstrap.default_method {
        method.set_default();
    }
    let Bootstrap { name, parent_name, parent_pid, depth, .. } = bootstrap;
    // A thread's name has 15 bytes; `ps` and debuggers show it.
    let _ = rustix::thread::set_name(&thread_name(&name));
    be(Born { name, parent_name, parent_pid, depth });
    Ok(entry)
}

/// The function that the parent names, if this process is of the same image.
pub(crate) fn find(bootstrap: &Bootstrap) -> Result<&'static Entry, String> {
    let Some(Program { image, place, signature }) = &bootstrap.program else {
        let entry = this_image()?.entry_at(bootstrap.entry);
        return entry.ok_or_else(|| "there is no such function in the fork server".into());
    };
    let entry = check_image(image)?.entry_at(bootstrap.entry);
    let entry = entry.filter(|entry| entry.place.to_string() == *place && (entry.signature)() == signature);
    entry.ok_or_else(|| format!("there is no {place} in the child"))
}

fn this_image() -> Result<&'static Image, String> {
    Image::this().map_err(|cause| cause.to_string())
}

fn check_image(identity: &Identity) -> Result<&'static Image, String> {
    let image = this_image()?;
    if image.identity == *identity {
        Ok(image)
    } else {
        Err("the program has changed: the child is another build than its parent".into())
    }
}

fn thread_name(name: &str) -> std::ffi::CString {
    let bytes: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    std::ffi::CString::new(bytes).unwrap_or_default()
}

/// What became of the function.
enum Outcome {
    Returned(Result<Packet, EncodeError>),
    Undecodable(DecodeError),
    NoRuntime(std::io::Error),
    Panicked(Box<dyn Any + Send>),
}

/// The function, ready to run.
enum Prepared {
    Async(Runtime, Running),
    Plain(Ready),
}

fn perform(prepared: Prepared, is_timed: bool) -> (Outcome, Option<Runtime>) {
    if is_timed {
        drop(link::send(Kind::Started, &[]));
    }
    let (result, runtime) = match prepared {
        Prepared::Async(runtime, function) => {
            (catch_unwind(AssertUnwindSafe(|| runtime.block_on(function))), Some(runtime))
        }
        Prepared::Plain(function) => (catch_unwind(AssertUnwindSafe(function)), None),
    };
    if result.is_ok() && pipe::is_unwritten() && link::is_ours() {
        // A function that has returned is done: nothing that it has sent is lost now.
        match &runtime {
            Some(runtime) => runtime.block_on(pipe::written()),
            None => block_on(pipe::written()),
        }
    }
    (result.map_or_else(Outcome::Panicked, Outcome::Returned), runtime)
}

fn prepare_safely(
    entry: &Entry,
    arguments: Packet,
    limits: Limits,
    ahead: Option<std::io::Result<Runtime>>,
) -> Result<Prepared, Outcome> {
    let prepared = catch_unwind(AssertUnwindSafe(|| prepare(entry, arguments, limits, ahead)));
    prepared.unwrap_or_else(|payload| Err(Outcome::Panicked(payload)))
}

fn prepare(
    entry: &Entry,
    arguments: Packet,
    limits: Limits,
    ahead: Option<std::io::Result<Runtime>>,
) -> Result<Prepared, Outcome> {
    match entry.body {
        Body::Async { threads, prepare, .. } => {
            let ahead = ahead.filter(|_| threads == 0);
            let runtime = ahead.unwrap_or_else(|| runtime(threads)).map_err(Outcome::NoRuntime)?;
            let function = {
                let _inside = runtime.enter();
                prepare(arguments, limits).map_err(Outcome::Undecodable)?
            };
            Ok(Prepared::Async(runtime, function))
        }
        Body::Plain { prepare, .. } => {
            // That of a spare, which has made it for nothing: to take it apart takes longer than the rest of the call.
            let _left_to_the_system = ManuallyDrop::new(ahead);
            prepare(arguments, limits).map(Prepared::Plain).map_err(Outcome::Undecodable)
        }
    }
}

pub(crate) fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = match threads {
        0 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    // Whoever starts a thread asks for its name first.
    let name = || {
        HAS_THREADS.store(true, Relaxed);
        "tokio-rt-worker".to_owned()
    };
    builder.enable_all().thread_name_fn(name).on_thread_start(sys::guard_thread);
    // Where tokio finds no thread it panics, and then waits for those that it has.
    panic::ends_the_process_during(|| builder.build())
}

/// Lets a runtime finish what was left running in it. One that has nothing left is not taken apart: this process ends, and
/// the system is faster at that.
fn leave_runtime(runtime: Runtime) {
    if runtime.metrics().num_alive_tasks() > 0 || HAS_THREADS.load(Relaxed) {
        runtime.shutdown_timeout(LINGER);
    } else {
        let _left_to_the_system = ManuallyDrop::new(runtime);
    }
}

/// Tells the parent, lets the runtime finish, and gives the exit code.
fn finish((outcome, runtime): (Outcome, Option<Runtime>), lingers: bool) -> i32 {
    let code = tell(outcome);
    if !link::is_ours() {
        // The function has forked, and this is the copy: what it owes to the original it must not do.
        sys::exit_now(code);
    }
    if lingers && code == code::RETURNED {
        link::await_word(COURTESY);
    }
    if let Some(runtime) = runtime {
        leave_runtime(runtime);
    }
    code
}

fn tell(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Returned(Ok(result)) => match link::send_result(&result) {
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
