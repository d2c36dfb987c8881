//! Ends of pipes in every runtime, in none, and in ones that are gone or stand still.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::mpsc;
use std::time::Duration;

use procession::pipe::TrySendError;
use procession::simplex;
use procession_tests::{eventually, isolated, patience};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A message for which the socket has no room beside a few others.
fn large(n: u32) -> Vec<u32> {
    vec![n; 60_000]
}

/// Runs it on a thread of its own, and fails if it does not come back.
#[track_caller]
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(work()).unwrap());
    let value = is_done.recv_timeout(patience(LONG)).expect("it hangs, or has panicked");
    thread.join().unwrap();
    value
}

isolated! {
    /// Each end in one runtime after the other, in both directions of waiting, and between them in none.
    #[once]
    fn from_runtime_to_runtime() {
        let (mut sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
        for n in 0..6 {
            let (one, other) = (runtime(), runtime());
            one.block_on(async {
                assert!(timeout(Duration::from_millis(5), receiver.recv()).await.is_err());
                while timeout(Duration::from_millis(5), sender.send(large(n))).await.is_ok() {}
            });
            let read = async { while timeout(Duration::from_millis(50), receiver.recv()).await.is_ok() {} };
            let send = async { sender.send(large(n)).await.unwrap() };
            other.block_on(async { tokio::join!(read, send) });
            drop(one);
            let reader = std::thread::spawn(move || {
                assert_eq!(receiver.blocking_recv().unwrap(), Some(vec![n]));
                receiver
            });
            sender.blocking_send(vec![n]).unwrap();
            receiver = reader.join().unwrap();
        }
    }

    /// Without a runtime: `blocking_*`, another library's `block_on`, and both of them while the control thread writes the rest.
    #[once]
    fn without_a_runtime() {
        let (mut sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
        let (go, gone) = mpsc::channel::<()>();
        let reader = std::thread::spawn(move || {
            gone.recv().unwrap();
            let mut n = 0;
            while let Some(message) = if n % 2 == 0 {
                receiver.blocking_recv().unwrap()
            } else {
                futures::executor::block_on(receiver.recv()).unwrap()
            } {
                assert_eq!(message, large(n));
                n += 1;
            }
            n
        });
        let mut n = 0;
        while match sender.try_send(large(n)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(error) => panic!("{error:?}"),
        } {
            n += 1;
        }
        // So long that the control thread waits for room, too.
        std::thread::sleep(Duration::from_millis(100));
        let sends = std::thread::spawn(move || {
            for n in n..n + 20 {
                sender.blocking_send(large(n)).unwrap();
            }
            futures::executor::block_on(sender.flush()).unwrap();
            n + 20
        });
        std::thread::sleep(Duration::from_millis(100));
        go.send(()).unwrap();
        let sent = sends.join().unwrap();
        assert_eq!(reader.join().unwrap(), sent);
    }

    /// The runtime that watches an end is shut down; the end goes on.
    #[once]
    fn after_the_end_of_its_runtime() {
        let (mut sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
        let gone = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        gone.block_on(async {
            assert!(timeout(Duration::from_millis(5), receiver.recv()).await.is_err());
            while timeout(Duration::from_millis(5), sender.send(large(1))).await.is_ok() {}
        });
        gone.shutdown_background();
        let sends = std::thread::spawn(move || sender.blocking_send(large(2)).map(|()| sender));
        let mut last = Vec::new();
        while last != large(2) {
            last = receiver.blocking_recv().unwrap().unwrap();
        }
        drop(sends.join().unwrap().unwrap());
        assert_eq!(receiver.blocking_recv().unwrap(), None);
    }

    /// A run of messages from a place whose runtime has been shut down: a thread of its own, or a handle to it.
    #[once]
    fn a_run_of_messages_after_the_end_of_its_runtime() {
        let received = on_a_thread(|| {
            let (mut sender, mut receiver) = simplex::<u32>().unwrap();
            let gone = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let handle = gone.handle().clone();
            gone.shutdown_background();
            {
                let _inside = handle.enter();
                for n in 0..200 {
                    sender.try_send(n).unwrap();
                }
            }
            (0..200).all(|n| receiver.blocking_recv().unwrap() == Some(n))
        });
        assert!(received);
    }

    /// A run of messages within a runtime of one thread that is not driven before they are received.
    #[once]
    fn a_run_of_messages_in_a_runtime_that_stands_still() {
        let (mut sender, mut receiver) = simplex::<u32>().unwrap();
        let still = runtime();
        let reader = std::thread::spawn(move || {
            let mut last = None;
            while let Some(n) = receiver.blocking_recv().unwrap() {
                assert_eq!(n, last.map_or(0, |last| last + 1));
                last = Some(n);
                if n == 499 {
                    break;
                }
            }
            last
        });
        still.block_on(async {
            for n in 0..500 {
                sender.try_send(n).unwrap();
            }
            eventually(LONG, || reader.is_finished());
        });
        assert_eq!(reader.join().unwrap(), Some(499));
    }

    /// Blocking within a runtime of one thread, which nobody drives meanwhile, and more often than a task may go on.
    #[once]
    fn blocking_in_a_runtime_of_one_thread() {
        let received = on_a_thread(|| {
            let (mut sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
            let sends = std::thread::spawn(move || {
                runtime().block_on(async {
                    for n in 0..20 {
                        sender.blocking_send(large(n)).unwrap();
                    }
                    for n in 20..1000 {
                        sender.blocking_send(vec![n]).unwrap();
                    }
                });
            });
            let received = runtime().block_on(async {
                let mut n = 0;
                while let Some(message) = receiver.blocking_recv().unwrap() {
                    assert_eq!(message[0], n);
                    n += 1;
                }
                n
            });
            sends.join().unwrap();
            received
        });
        assert_eq!(received, 1000);
    }

    /// A runtime that watches descriptors, and has no clock.
    #[once]
    fn in_a_runtime_without_a_clock() {
        let received = on_a_thread(|| {
            let (mut sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
            Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
                let send = async move {
                    for n in 0..30 {
                        sender.send(large(n)).await.unwrap();
                    }
                };
                let receive = async {
                    let mut n = 0;
                    while let Some(message) = receiver.recv().await.unwrap() {
                        assert_eq!(message, large(n));
                        n += 1;
                    }
                    n
                };
                tokio::join!(send, receive).1
            })
        });
        assert_eq!(received, 30);
    }

    /// On a thread for blocking work, whose runtime somebody else drives.
    #[once]
    fn on_a_thread_for_blocking_work() {
        let (mut sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
        runtime().block_on(async {
            let sends = tokio::task::spawn_blocking(move || {
                (0..20).for_each(|n| sender.blocking_send(large(n)).unwrap());
            });
            let receives = tokio::task::spawn_blocking(move || {
                (0..20).for_each(|n| assert_eq!(receiver.blocking_recv().unwrap(), Some(large(n))));
            });
            sends.await.unwrap();
            receives.await.unwrap();
        });
    }
}
