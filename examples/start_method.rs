//! The two ways to start a process: who is its parent in the kernel's eyes, and who in ours.
#![expect(clippy::print_stdout, reason = "an example")]

use procession::{StartMethod, current, parent, process};

#[process]
fn kernel_says_the_same() -> bool {
    parent().is_some_and(|parent| parent.pid() == std::os::unix::process::parent_id())
}

#[process]
fn is_yours(pid: u32) -> bool {
    parent().is_some_and(|parent| parent.pid() == pid)
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), procession::ProcessError> {
    for method in [StartMethod::ForkServer, StartMethod::Spawn] {
        let same = kernel_says_the_same().start_method(method).await?;
        let yours = is_yours(current().pid()).start_method(method).await?;
        println!("{method:?}: parent() is this process: {yours}; getppid is the same: {same}");
    }
    Ok(())
}
// ANCHOR_END: main
