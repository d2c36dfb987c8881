//! The outer process: what the test runner sees.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use crate::family::{ends_within, kill_descendants};
use crate::inner::temporary;
use crate::isolated::Isolated;
use crate::marker::Role;
use crate::outcome::{Outcome, Verdict};
use crate::proc::descendants_of;
use crate::wait::patience;

/// What a test may take beyond the limit of its watchdog, before the outer process ends it.
const GRACE: Duration = Duration::from_secs(30);

/// Runs a test in processes of its own and says how it ended.
pub(crate) fn run(test: &Isolated) -> Outcome {
    let ended = run_in_directory(test);
    let (verdict, output) = ended.unwrap_or_else(|error| (Verdict::Died(error.to_string()), String::new()));
    Outcome { test: test.path.clone(), verdict, output }
}

fn run_in_directory(test: &Isolated) -> io::Result<(Verdict, String)> {
    let directory = tempfile::Builder::new().prefix("procession-tests-").tempdir()?;
    let directory = directory.path();
    fs::create_dir(temporary(directory))?;
    let output = directory.join("output");
    // A file rather than a pipe: a process that gets away with the pipe would keep its reader waiting.
    let stdout = File::options().create(true).append(true).open(&output)?;
    let stderr = stdout.try_clone()?;
    let mut command = test.command(Role::Keeper, directory);
    let keeper = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn()?;
    let verdict = verdict(test, keeper, directory)?;
    let output = String::from_utf8_lossy(&fs::read(output)?).into_owned();
    Ok((verdict, without_headings(&output).to_owned()))
}

fn verdict(test: &Isolated, mut keeper: Child, directory: &Path) -> io::Result<Verdict> {
    let runs = if test.cold { 2 } else { 1 };
    if !ends_within(keeper.id(), Some(patience(test.limit * runs) + GRACE))? {
        let family: Vec<String> = descendants_of(keeper.id()).iter().map(ToString::to_string).collect();
        end(&mut keeper)?;
        return Ok(Verdict::Stuck(format!("not even the watchdog could end it\n{}", family.join("\n"))));
    }
    let status = keeper.wait()?;
    let missing =
        || Verdict::Died(format!("{status}, and no body ran; is {} the path of a test?", test.path));
    Ok(Verdict::read(directory).unwrap_or_else(missing))
}

/// Kills what the keeper keeps, upon which it ends; else the keeper too.
fn end(keeper: &mut Child) -> io::Result<ExitStatus> {
    kill_descendants(keeper.id());
    if !ends_within(keeper.id(), Some(GRACE))? {
        keeper.kill()?;
    }
    keeper.wait()
}

/// What libtest prints in the keeper and in the inner process before the body runs is left out.
fn without_headings(output: &str) -> &str {
    output.trim_start_matches("\nrunning 1 test\n")
}
