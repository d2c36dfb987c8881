//! The programs in `examples/`.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use walkdir::WalkDir;

/// The example of that name, where cargo has put it: beside the directory of the test's own binary.
///
/// `cargo test` in the workspace builds all examples before any test runs. What runs one test alone does not: an
/// example that is missing, or older than the sources, is built now.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test is a file");
    let target = test.parent().and_then(Path::parent).expect("it stands in target/PROFILE/deps");
    let program = target.join("examples").join(name);
    if modified(&program).is_none_or(|built| built < newest_source()) {
        build(name, target);
    }
    program
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// When what the examples are made of was changed last.
fn newest_source() -> SystemTime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["examples", "runtime", "macros"].map(|folder| WalkDir::new(root.join(folder)));
    let files =
        folders.into_iter().flatten().filter_map(Result::ok).filter(|file| file.file_type().is_file());
    files.filter_map(|file| modified(file.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
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
