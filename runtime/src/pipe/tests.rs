//! Pipes within one process.

use super::travel::{Given, Held, hash_of};
use super::*;
use crate::wire::beside::HandleKind;
use crate::wire::{pack, unpack};
use rustix::fs::MemfdFlags;

#[tokio::test]
async fn messages_in_order() {
    let (mut ours, mut theirs) = pipe::<u64, String>().unwrap();
    for n in 0..1000 {
        ours.send(n).await.unwrap();
    }
    for n in 0..1000 {
        assert_eq!(theirs.recv().await.unwrap(), Some(n));
    }
    theirs.send("x".repeat(100_000)).await.unwrap();
    theirs.send("y".repeat(1 << 20)).await.unwrap();
    assert_eq!(ours.recv().await.unwrap().unwrap().len(), 100_000);
    assert_eq!(ours.recv().await.unwrap().unwrap().len(), 1 << 20);
    drop(theirs);
    assert_eq!(ours.recv().await.unwrap(), None);
    assert!(ours.send(1).await.unwrap_err().is_closed());
}

/// A runtime that has ended drops what is spawned at once.
#[test]
fn a_run_in_a_runtime_that_has_ended() {
    let (socket, _other) = sockets().unwrap();
    let gone = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let handle = gone.handle().clone();
    drop(gone);
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let outbox = Arc::new(outbox::Outbox::new(socket));
        let _inside = handle.enter();
        assert!(outbox.push(&[b"message"], Vec::new(), Vec::new(), true).is_ok());
        done.send(outbox.is_empty())
    });
    let outcome = is_done.recv_timeout(std::time::Duration::from_secs(20));
    assert_eq!(outcome.expect("it waits for itself"), Ok(true));
}

/// A sender that was dropped is gone, though the task that was to write for it has not run, and may never.
#[test]
fn a_run_in_a_runtime_that_stands_still() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut sender, mut receiver) = simplex::<u64>().unwrap();
    runtime.block_on(async {
        for n in 0..1000 {
            sender.send(n).await.unwrap();
        }
    });
    drop(sender);
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let count = std::iter::from_fn(|| receiver.blocking_recv().unwrap()).count();
        done.send(count)
    });
    let count = is_done.recv_timeout(std::time::Duration::from_secs(20));
    assert_eq!(count.expect("it waits for the runtime"), 1000);
}

/// What a receiver brings along is checked as what comes through it: reading a slab must not wait.
#[test]
fn luggage_that_is_none() {
    let (socket, _other) = sockets().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let sealable = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create(c"a slab", sealable).unwrap();
    rustix::fs::ftruncate(&memory, 100).unwrap();
    rustix::fs::fcntl_add_seals(&memory, rustix::fs::SealFlags::SHRINK).unwrap();
    let received = |slab: OwnedFd| {
        let end = Given { socket: &socket, kind: HandleKind::PipeReceiver };
        let none: Vec<(u64, bool, Vec<Held>)> = Vec::new();
        let luggage = (Bytes::new(), none, vec![(5_u64, Held(Arc::new(slab)))]);
        let parcel =
            pack(&(end, hash_of::<u64>(), Limits::DEFAULT, false, luggage), &Limits::DEFAULT).unwrap();
        unpack::<Receiver<u64>>(&parcel.bytes, parcel.handles.into(), None, &Limits::DEFAULT)
    };
    received(memory).unwrap();
    assert!(received(reader.into()).unwrap_err().reason().contains("memory"));
}
