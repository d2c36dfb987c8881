//! The programs in `examples/`.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The example of that name, where cargo has put it: beside the directory of the test's own binary.
///
/// `cargo test` in the workspace builds all examples before any test runs; what runs one test alone may not have, and
/// it is built now.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test is a file");
    let target = test.parent().and_then(Path::parent).expect("it stands in target/PROFILE/deps");
    let program = target.join("examples").join(name);
    if !program.exists() {
        build(name, target);
    }
    program
}

fn build(name: &str, target: &Path) {
    let profile = match target.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "procession-examples", "--example", name])
        .args(["--profile", profile, "--target-dir"])
        .arg(target.parent().unwrap_or(target))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(cargo.is_ok_and(|status| status.success()), "cannot build the example {name}");
}
