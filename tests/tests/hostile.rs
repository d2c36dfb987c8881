//! A child that lies, babbles, or leaves in the middle of a word. Requirements 31 to 34.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use procession::{Cause, process};
use procession_tests::isolated;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Bytes before a frame's body: length, kind, version, handles, zeros.
fn header(kind: u8, length: u64) -> Vec<u8> {
    [&length.to_le_bytes()[..], &[kind, 1, 0, 0, 0, 0, 0, 0]].concat()
}

const STARTED: u8 = 17;
const RETURNED: u8 = 18;
const FAILED: u8 = 19;
const OVERFLOWED: u8 = 20;

/// The link of this process to its parent, which is at a known place.
fn link() -> UnixStream {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    UnixStream::from(pidfd_getfd(this, 3, PidfdGetfdFlags::empty()).unwrap())
}

/// Says these bytes to the parent, and then nothing more.
#[process]
fn says(bytes: Vec<u8>, then_lives: bool) -> u64 {
    // A parent that has heard enough hangs up.
    drop(link().write_all(&bytes));
    if !then_lives {
        return 7;
    }
    loop {
        std::thread::park();
    }
}

async fn is_a_bad_message(bytes: Vec<u8>) {
    let shown = format!("{:02x?}", &bytes[..bytes.len().min(32)]);
    let error = says(bytes, true).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::BadMessage { .. }), "{shown}: {error:?}");
}

isolated! {
    /// 32: what is not a frame, is too long, or is out of turn, ends the child as a bad message.
    async fn rr32_protocol_errors() {
        is_a_bad_message(b"GET / HTTP/1.1\r\n\r\n".to_vec()).await;
        is_a_bad_message(vec![0xff; 1000]).await;
        is_a_bad_message(header(RETURNED, u64::MAX)).await;
        is_a_bad_message(header(RETURNED, (16 << 20) + 1)).await;
        is_a_bad_message(header(FAILED, (1 << 20) + 1)).await;
        is_a_bad_message(header(STARTED, 0)).await;
        is_a_bad_message(header(1, 0)).await;
        is_a_bad_message([header(FAILED, 3), vec![0xff; 3]].concat()).await;
        is_a_bad_message(header(FAILED, 0)).await;
        is_a_bad_message([header(OVERFLOWED, 0), header(OVERFLOWED, 0)].concat()).await;
    }

    /// 32: a result that is none is a decoding error of that call: the frame was right.
    async fn rr32_results_that_are_none() {
        for body in [vec![], vec![0xff; 11], vec![7, 7]] {
            let bytes = [header(RETURNED, body.len() as u64), body].concat();
            let error = says(bytes, false).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Decode(_)), "{error:?}");
        }
    }

    /// A forged result of the right type is a result: the function itself could have given it.
    async fn a_forged_result() {
        assert_eq!(says([header(RETURNED, 1), vec![5]].concat(), false).await.unwrap(), 5);
    }

    /// 31: a child that promises sixteen megabytes and sends none takes none of the parent's.
    async fn rr31_promises_take_no_memory() {
        let before = resident();
        let mut liars = Vec::new();
        for _ in 0..20 {
            let mut liar = says(header(RETURNED, 16 << 20), true).spawn().await.unwrap();
            assert!(tokio::time::timeout(Duration::from_millis(50), liar.join()).await.is_err());
            liars.push(liar);
        }
        let grown = resident().saturating_sub(before);
        for mut liar in liars {
            liar.kill().await.unwrap();
        }
        assert!(grown < 64 << 20, "{grown} bytes for promises of 320 MiB");
    }

    /// 34: a child that falls silent in the middle of a frame can still be given up, and killed.
    async fn rr34_silence_in_the_middle_of_a_frame() {
        let half = [header(RETURNED, 100), vec![1; 50]].concat();
        let error = says(half.clone(), true).timeout(Duration::from_millis(300)).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        let mut silent = says(half, true).spawn().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), silent.join()).await.is_err());
        assert_eq!(silent.kill().await.unwrap().signal(), Some(9));
        assert_eq!(silent.join().await.unwrap_err().signal(), Some(9));
    }

    /// A child that dies in the middle of a frame is told as what killed it.
    async fn death_in_the_middle_of_a_frame() {
        let error = half_a_frame_and_abort().await.unwrap_err();
        assert_eq!(error.signal(), Some(6), "{error:?}");
    }

    /// A child that babbles for ever after its result is ended, and its result stands.
    async fn babbling_after_the_result() {
        let mut process = babbles().spawn().await.unwrap();
        assert_eq!(process.join().await.unwrap(), 5);
        assert_eq!(process.exit_code(), Some(-9));
    }
}

#[process]
fn half_a_frame_and_abort() {
    link().write_all(&[header(RETURNED, 100), vec![1; 50]].concat()).unwrap();
    std::process::abort()
}

#[process]
fn babbles() -> u64 {
    let mut link = link();
    link.write_all(&[header(RETURNED, 1), vec![5]].concat()).unwrap();
    loop {
        drop(link.write_all(&[0xff; 4096]));
    }
}

/// Bytes of this process in memory, as `proc_pid_statm(5)` has them in its second field, in pages.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}
