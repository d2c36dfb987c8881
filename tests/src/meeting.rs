//! A place in the file system where a process can show that it has come.

use std::fs;
use std::path::Path;

/// What it writes: a file that is there may still be empty.
const WORD: &[u8] = b"here";

/// Shows that this process has come.
///
/// # Panics
/// If the place cannot be written to.
pub fn arrive(place: &Path) {
    fs::write(place, WORD).expect("the place can be written to");
}

/// Whether somebody has come.
#[must_use]
pub fn has_arrived(place: &Path) -> bool {
    fs::read(place).is_ok_and(|bytes| bytes == WORD)
}
