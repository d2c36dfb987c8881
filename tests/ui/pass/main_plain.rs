//! A plain `main` with an exit code.

#![deny(warnings)]

use std::process::ExitCode;

#[procession::main]
fn main() -> ExitCode {
    ExitCode::SUCCESS
}
