//! Panics in a child: told on stderr, and kept for the parent.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::current::current;
use crate::link::{self, Report};
use crate::sys;

/// The most of a message, and of a backtrace, that is sent, in bytes; the frame's limit has room for both.
const MAX_TEXT: usize = 256 << 10;

thread_local! {
    /// What the last panic on this thread said: `catch_unwind` gives the message alone.
    static LAST: RefCell<Option<Report>> = const { RefCell::new(None) };
}

/// What a Rust program that panics exits with.
pub(crate) const PANICKED: i32 = 101;

/// Whether a panic, on any thread, ends the process at once.
static FATAL: AtomicBool = AtomicBool::new(false);

/// Does what cannot be unwound through.
pub(crate) fn ends_the_process_during<T>(body: impl FnOnce() -> T) -> T {
    FATAL.store(true, Relaxed);
    let output = body();
    FATAL.store(false, Relaxed);
    output
}

/// Takes the place of the standard hook.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let report = describe(panic);
        let fatal = FATAL.load(Relaxed);
        if cfg!(panic = "abort") || fatal {
            // Nobody will catch it: this is the last that the parent can hear of it.
            drop(link::send_report(&report));
        }
        tell(&report);
        if fatal {
            sys::exit_now(PANICKED);
        }
        LAST.with(|last| *last.borrow_mut() = Some(report));
    }));
}

/// The report of a panic that was caught on this thread.
///
/// The hook's last one is of another panic if this one came by [`std::panic::resume_unwind`], which calls no hook.
pub(crate) fn report_of(payload: &(dyn Any + Send)) -> Report {
    let words = message_of(payload);
    let hooked = LAST.with(|last| last.borrow_mut().take());
    hooked
        .filter(|report| matches!(report, Report::Panicked { message, .. } if *message == words))
        .unwrap_or(Report::Panicked { message: words, location: None, backtrace: None })
}

fn describe(panic: &PanicHookInfo<'_>) -> Report {
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    Report::Panicked {
        message: message_of(panic.payload()),
        location: panic.location().map(ToString::to_string),
        backtrace: captured.then(|| shortened(backtrace.to_string())),
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    shortened(text.unwrap_or_else(|| "a value that is not text".to_owned()))
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = text.floor_char_boundary(MAX_TEXT);
        let left_out = text.len() - end;
        text.truncate(end);
        text.push_str(&format!(" [and {left_out} more bytes]"));
    }
    text
}

/// Says it on stderr, as the standard hook does; where nobody can read that, the parent is told all the same.
fn tell(report: &Report) {
    let Report::Panicked { message, location, backtrace } = report else { return };
    let location = location.as_deref().unwrap_or("an unknown place");
    let current = current();
    let backtrace = match backtrace {
        Some(backtrace) => format!("stack backtrace:\n{backtrace}"),
        None => "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace".to_owned(),
    };
    let (name, pid) = (current.name(), current.pid());
    drop(writeln!(io::stderr(), "process '{name}' ({pid}) panicked at {location}:\n{message}\n{backtrace}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_say_what_they_lack() {
        let text = shortened("ä".repeat(MAX_TEXT));
        assert!(text.ends_with(&format!(" [and {MAX_TEXT} more bytes]")));
        assert!(text.len() < MAX_TEXT + 64);
    }
}
