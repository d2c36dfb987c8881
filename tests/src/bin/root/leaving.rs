//! A program that ends while a child of it, whose value it has, does not yet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use procession::{on_exit, process};

#[process]
fn writes_at_its_end(place: PathBuf) {
    on_exit(move || {
        std::thread::sleep(Duration::from_millis(300));
        std::fs::write(place, "here").unwrap();
    });
}

/// Has the value, and ends.
pub(crate) fn leaving(place: &Path) {
    writes_at_its_end(place.to_owned()).blocking().unwrap();
    assert!(!place.exists(), "the value has come before the end");
}
