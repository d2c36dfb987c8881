//! Panics in a child: told on stderr, and kept for the parent.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::PanicHookInfo;

use crate::current::current;
use crate::link::{self, Report};

/// The most of a message, and of a backtrace, that is sent, in bytes; the frame's limit has room for both.
const MAX_TEXT: usize = 256 << 10;

thread_local! {
    /// What the last panic on this thread said: `catch_unwind` gives the message alone.
    static LAST: RefCell<Option<Report>> = const { RefCell::new(None) };
}

/// Takes the place of the standard hook.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let report = describe(panic);
        tell(&report);
        if cfg!(panic = "abort") {
            // Nobody will catch it: this is the last that the parent can hear of it.
            drop(link::send_report(&report));
        }
        LAST.with(|last| *last.borrow_mut() = Some(report));
    }));
}

/// The report of a panic that was caught on this thread.
pub(crate) fn report_of(payload: &(dyn Any + Send)) -> Report {
    let hooked = LAST.with(|last| last.borrow_mut().take());
    hooked.unwrap_or_else(|| Report::Panicked {
        message: message_of(payload),
        location: None,
        backtrace: None,
    })
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

#[expect(clippy::print_stderr, reason = "the standard hook, whose place this takes, prints there too")]
fn tell(report: &Report) {
    let Report::Panicked { message, location, backtrace } = report else { return };
    let location = location.as_deref().unwrap_or("an unknown place");
    let current = current();
    eprintln!("process '{}' ({}) panicked at {location}:\n{message}", current.name(), current.pid());
    match backtrace {
        Some(backtrace) => eprintln!("stack backtrace:\n{backtrace}"),
        None => eprintln!("note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace"),
    }
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
