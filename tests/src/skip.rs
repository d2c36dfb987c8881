//! Tests that need what a machine may lack.

use std::env;
use std::io::{Write, stderr};
use std::process::{Command, Stdio};

use crate::outcome::NotPassed;

/// Runs a test if there is what it needs; else says on stderr that it does not, or fails, with `PROCESSION_NO_SKIP`.
///
/// # Errors
/// If the test did not pass.
///
/// # Panics
/// If there is not what it needs, and nothing may be skipped.
pub fn needing(
    what: &str,
    is_there: bool,
    test: impl FnOnce() -> Result<(), NotPassed>,
) -> Result<(), NotPassed> {
    if is_there {
        return test();
    }
    assert!(env::var_os("PROCESSION_NO_SKIP").is_none(), "there is no {what} here");
    let test = std::thread::current();
    // Not by a macro, whose words libtest would keep to itself. Whether or not anybody reads it.
    drop(writeln!(stderr().lock(), "SKIPPED: {}: there is no {what} here", test.name().unwrap_or("?")));
    Ok(())
}

/// Whether a program is there, and succeeds.
#[must_use]
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether this process is root's.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
