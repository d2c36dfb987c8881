//! Finding the files.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use walkdir::WalkDir;

/// Every Rust source under the paths, sorted, each once; without paths, those in cargo's registry.
///
/// Only regular files count. Links are not followed, so that no file counts twice and no walk is endless, and
/// special files are passed over: to read from a FIFO is to wait for somebody to write.
pub(crate) fn sources(mut paths: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if paths.is_empty() {
        paths.push(registry()?);
    }
    let mut sources = Vec::new();
    for path in &paths {
        find(path, &mut sources)?;
    }
    sources.sort();
    sources.dedup();
    ensure!(!sources.is_empty(), "there are no Rust sources (*.rs) in {}", list(&paths));
    Ok(sources)
}

/// Where cargo unpacks the crates that it downloads.
fn registry() -> Result<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    let sources = cargo.context("cargo's home is not known: name a path to count")?.join("registry/src");
    ensure!(sources.is_dir(), "cargo has no sources in {}: name a path to count", sources.display());
    Ok(sources)
}

/// A directory that cannot be read is an error: a census that passed it over would be wrong.
fn find(path: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in WalkDir::new(path) {
        let entry = entry?;
        if entry.file_type().is_file() && entry.path().extension().is_some_and(|it| it == "rs") {
            sources.push(entry.into_path());
        }
    }
    Ok(())
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
