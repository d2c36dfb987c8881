//! Where the process function stands. It is as visible as any other function is.

use procession::process;

/// What a worker does.
#[process]
pub(crate) fn worker(number: u32) -> String {
    format!("Worker {number} of {}", module_path!())
}
