//! The marker of a child is no authority: whoever starts the program can write it into the arguments. R7.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use procession_tests::isolated;

const ROOT: &str = env!("CARGO_BIN_EXE_root");
const MARKER: &str = concat!("--procession-child-", env!("CARGO_PKG_VERSION"));

/// Runs the program with the marker, a link whose other end was ours and is closed, and something for a lifeline.
fn with_a_link(shell: &str) -> Output {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let mut command = Command::new("sh");
    command.args(["-c", shell, ROOT, MARKER]).stdin(OwnedFd::from(theirs)).process_group(0);
    command.output().unwrap()
}

isolated! {
    /// A link of the very parent's is believed: the child reads from it, finds its end, and has no result.
    #[once]
    fn a_link_of_the_parents_is_believed() {
        let ended = with_a_link("exec \"$0\" \"$1\" 3<&0 4</dev/null");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }

    /// A link of somebody else's is not, be it our own user's and even a grandparent's.
    #[once]
    fn a_link_of_anybody_elses_is_not() {
        let ended = with_a_link("exec setsid --fork --wait sh -c 'exec \"$0\" \"$1\" 3<&0 4</dev/null' \"$0\" \"$1\"");
        assert_eq!(ended.status.code(), Some(64), "{ended:?}");
        assert!(ended.stdout.is_empty(), "{ended:?}");
    }

    /// Nor is no link, or one that is none.
    #[once]
    fn no_link_is_not() {
        for shell in ["exec \"$0\" \"$1\" 3<&- 4</dev/null", "exec \"$0\" \"$1\" 3</dev/null 4</dev/null"] {
            let ended = with_a_link(shell);
            assert_eq!(ended.status.code(), Some(64), "{ended:?}");
            assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{ended:?}");
        }
    }
}
