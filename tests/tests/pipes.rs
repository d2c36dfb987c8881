//! Pipes between processes: conformance CO01, CO02, CO03, CO11, CO14, CO16, CO17; failures F4, F6, F25; requirement 24.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use procession::pipe::{
    Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, pipe_with, simplex_with,
};
use procession::{
    Call, EncodeError, Failure, Limits, Passed, Pipe, Process, Resource, pipe, process, simplex,
};
use procession_tests::{in_time, isolated, patience};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const MEGABYTE: usize = 1 << 20;

/// Limits for one large message.
const LARGE: Limits = Limits::DEFAULT.max_message(80 << 20);

/// A child that may have no memory of the size of a long message, so that the socket carries it.
fn without_slabs<T>(call: Call<T>) -> Call<T> {
    call.rlimit(Resource::FileSize, 4096, 4096)
}

/// Different bytes for each message.
fn bytes(n: usize, length: usize) -> Bytes {
    let pattern: Vec<u8> = (0..251).map(|at| (at + n) as u8).collect();
    let mut bytes = pattern.repeat(length.div_ceil(251));
    bytes.truncate(length);
    bytes.into()
}

/// A message that no codec sees as bytes, encoded in about as many bytes as that.
fn words(n: usize, length: usize) -> Vec<u32> {
    vec![0xf000_0000 | n as u32; length / 5]
}

fn signal<T>(process: &Process<T>, signal: Signal) {
    kill_process(Pid::from_raw(process.pid().cast_signed()).unwrap(), signal).unwrap();
}

#[process]
async fn doubles(mut pipe: Pipe<u64, u64>) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(n) = pipe.recv().await? {
        pipe.send(2 * n).await?;
        count += 1;
    }
    Ok(count)
}

#[process]
fn doubles_plainly(mut pipe: Pipe<u64, u64>) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(n) = pipe.blocking_recv()? {
        pipe.blocking_send(2 * n)?;
        count += 1;
    }
    Ok(count)
}

#[process]
async fn opens() -> Result<(Passed<File>, Receiver<String>), Failure> {
    let mut file = tempfile::tempfile()?;
    file.write_all(b"from the child")?;
    let (mut sender, receiver) = simplex()?;
    sender.send("left behind".to_owned()).await?;
    Ok((Passed::new(file)?, receiver))
}

/// Sends back what comes, of both kinds.
#[process]
async fn echoes(mut pipe: Pipe<String, String>) -> Result<(), Failure> {
    loop {
        match pipe.recv().await {
            Ok(Some(text)) => pipe.send(text).await?,
            Ok(None) => return Ok(()),
            Err(RecvError::NotAMessage) => {
                let bytes = pipe.recv_bytes().await?.expect("bytes");
                pipe.send_bytes(&bytes).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends before it receives.
#[process]
async fn exchanges_bytes(mut pipe: Pipe<Bytes, Bytes>, length: usize) -> Result<bool, Failure> {
    for n in 0..3 {
        pipe.send(bytes(n, length)).await?;
    }
    let mut all = true;
    for n in 0..3 {
        all &= pipe.recv().await?.expect("a message") == bytes(n + 7, length);
    }
    Ok(all)
}

#[process]
async fn exchanges_words(mut pipe: Pipe<Vec<u32>, Vec<u32>>, length: usize) -> Result<bool, Failure> {
    pipe.send(words(1, length)).await?;
    Ok(pipe.recv().await?.expect("a message") == words(2, length))
}

/// Sends and receives so many at once.
async fn floods(mut pipe: Pipe<Bytes, Bytes>, count: usize) -> Result<usize, Failure> {
    let length = |n: usize| [0, 10, 3000, 70_000, 300_000][n % 5];
    pipe.flush().await?;
    let (mut sender, mut receiver) = pipe.into_split();
    let send = async move {
        for n in 0..count {
            sender.send(bytes(n, length(n))).await?;
        }
        Ok::<_, SendError<Bytes>>(())
    };
    let receive = async move {
        let mut n = 0;
        while let Some(message) = receiver.recv().await? {
            assert!(message == bytes(n, length(n)), "message {n} of {} bytes", message.len());
            n += 1;
        }
        Ok::<_, RecvError>(n)
    };
    let (sent, received) = tokio::join!(send, receive);
    sent?;
    Ok(received?)
}

#[process]
async fn floods_too(pipe: Pipe<Bytes, Bytes>, count: usize) -> Result<usize, Failure> {
    floods(pipe, count).await
}

/// Accepts what takes the pipe's slabs, then a large message; says so, and stays.
#[process]
async fn sends_and_stays(
    mut pipe: Sender<Bytes>,
    mut told: Sender<()>,
    before: usize,
    length: usize,
) -> Result<(), Failure> {
    for n in 0..before {
        pipe.send(bytes(n, 300_000)).await?;
    }
    pipe.send(bytes(before, length)).await?;
    told.send(()).await?;
    std::future::pending().await
}

#[process]
async fn sends_words_and_stays(
    mut pipe: Sender<Vec<u32>>,
    mut told: Sender<()>,
    length: usize,
) -> Result<(), Failure> {
    pipe.send(words(0, length)).await?;
    told.send(()).await?;
    std::future::pending().await
}

#[process]
async fn counts(mut pipe: Receiver<Vec<u32>>) -> Result<usize, Failure> {
    let mut n = 0;
    while let Some(message) = pipe.recv().await? {
        assert!(message == words(n, 5 * message.len()), "message {n}");
        n += 1;
    }
    Ok(n)
}

/// Sends, and is done.
#[process]
async fn sends_and_returns(mut pipe: Sender<Vec<u32>>, sizes: Vec<usize>) -> Result<usize, Failure> {
    let count = sizes.len();
    for (n, size) in sizes.into_iter().enumerate() {
        pipe.send(words(n, size)).await?;
    }
    Ok(count)
}

#[process]
async fn sends_bytes_and_returns(mut pipe: Sender<Bytes>, lengths: Vec<usize>) -> Result<(), Failure> {
    for (n, length) in lengths.into_iter().enumerate() {
        pipe.send(bytes(n, length)).await?;
    }
    Ok(())
}

/// Sends without awaiting, as fast as it can, and then holds its only thread.
#[process]
async fn bursts_and_blocks(mut pipe: Sender<u64>, count: u64) {
    for n in 0..count {
        pipe.try_send(n).unwrap();
    }
    loop {
        std::thread::park();
    }
}

#[process]
fn bursts_and_blocks_plainly(mut pipe: Sender<u64>, count: u64) {
    for n in 0..count {
        pipe.try_send(n).unwrap();
    }
    loop {
        std::thread::park();
    }
}

/// Fills the pipe, and when it is told that there is some room writes what has waited, and is done.
#[process]
async fn fills_flushes_and_returns(
    mut pipe: Sender<Vec<u32>>,
    mut more: Pipe<u64, ()>,
) -> Result<(), Failure> {
    let mut count = 0;
    while pipe.try_send(words(0, 20_000)).is_ok() {
        count += 1;
    }
    // So long that the control thread waits for room, rather than look for it.
    assert!(timeout(Duration::from_millis(100), pipe.flush()).await.is_err());
    more.send(count).await?;
    more.recv().await?.expect("a word");
    pipe.flush().await?;
    Ok(())
}

/// A pipe within the process, whose receiver is a task of its own runtime.
#[process]
async fn sends_to_its_own_task(length: usize) -> Result<(), Failure> {
    let (mut sender, mut receiver) = simplex::<Vec<u32>>()?;
    tokio::spawn(async move { while let Ok(Some(_)) = receiver.recv().await {} });
    sender.send(words(0, length)).await?;
    Ok(())
}

/// Takes one message, and hands the rest to the next.
#[process]
async fn relays(
    mut receiver: Receiver<String>,
    depth: u32,
) -> Result<(Vec<String>, Receiver<String>), Failure> {
    let first = receiver.recv().await?.expect("a message");
    if depth == 0 {
        return Ok((vec![first], receiver));
    }
    let (mut rest, receiver) = relays(receiver, depth - 1).await??;
    rest.insert(0, first);
    Ok((rest, receiver))
}

#[process]
async fn lends(sender: Sender<String>, depth: u32) -> Result<Sender<String>, Failure> {
    let mut sender = if depth == 0 { sender } else { lends(sender, depth - 1).await?? };
    sender.send(format!("from {depth}")).await?;
    Ok(sender)
}

/// Gives back bytes, twice as many, and holds its thread until it is killed.
#[process]
fn doubles_bytes_plainly(mut bytes_in: Receiver<()>, mut bytes_out: Sender<()>) -> Result<(), Failure> {
    while let Some(bytes) = bytes_in.blocking_recv_bytes()? {
        for _ in 0..2 {
            bytes_out.blocking_send_bytes(&bytes)?;
        }
        bytes_out.blocking_flush()?;
    }
    loop {
        std::thread::park();
    }
}

async fn doubled_by(child: impl FnOnce(Pipe<u64, u64>) -> Call<Result<u64, Failure>>) {
    let (mut ours, theirs) = pipe().unwrap();
    let mut child = child(theirs).spawn().await.unwrap();
    for n in 0..100 {
        ours.send(n).await.unwrap();
        assert_eq!(ours.recv().await.unwrap(), Some(2 * n));
    }
    drop(ours);
    assert_eq!(child.join().await.unwrap().unwrap(), 100);
}

isolated! {
    /// A pipe end is an argument; its other end sees that the child is done with it.
    async fn co01_a_pipe_to_a_child() {
        doubled_by(doubles).await;
    }

    async fn a_pipe_to_a_plain_child() {
        doubled_by(doubles_plainly).await;
    }

    async fn handles_in_a_result() {
        let (file, mut receiver) = opens().await.unwrap().unwrap();
        let mut file = file.into_inner().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the child");
        assert_eq!(receiver.recv().await.unwrap().as_deref(), Some("left behind"));
        assert_eq!(receiver.recv().await.unwrap(), None);
    }

    async fn ends_within_messages() {
        let (mut carrier, mut carried) = simplex::<(Vec<Sender<u64>>, Receiver<u64>)>().unwrap();
        let (mut first, rest) = simplex::<u64>().unwrap();
        first.send(1).await.unwrap();
        let (tx, mut rx) = simplex::<u64>().unwrap();
        carrier.send((vec![tx], rest)).await.unwrap();
        let (mut senders, mut receiver) = carried.recv().await.unwrap().unwrap();
        assert_eq!(receiver.recv().await.unwrap(), Some(1));
        senders[0].send(7).await.unwrap();
        assert_eq!(rx.recv().await.unwrap(), Some(7));
        drop(senders);
        assert_eq!(rx.recv().await.unwrap(), None);
    }

    /// CO01, CO11: values and bytes of every length, among them none; into a buffer, and into one that is too short.
    async fn co01_values_bytes_and_buffers() {
        let (mut ours, theirs) = pipe::<String, String>().unwrap();
        let mut child = echoes(theirs).spawn().await.unwrap();
        for length in [0, 1, 8191, 8192, 65_535, 65_536, 65_537, 262_143, 262_144, 5 * MEGABYTE] {
            let text = "x".repeat(length);
            ours.send(text.clone()).await.unwrap();
            assert!(ours.recv().await.unwrap().unwrap() == text, "{length} characters");
            let sent = bytes(length, length);
            ours.send_bytes(&sent).await.unwrap();
            ours.readable().await.unwrap();
            assert!(matches!(ours.try_recv(), Err(TryRecvError::Failed(RecvError::NotAMessage))));
            assert!(ours.recv_bytes().await.unwrap().unwrap() == sent, "{length} bytes");
            ours.send_bytes(&sent).await.unwrap();
            let mut buffer = vec![0xee; length + 3];
            assert_eq!(ours.recv_bytes_into(&mut buffer).await.unwrap(), Some(length));
            assert!(buffer[..length] == sent && buffer[length..] == [0xee; 3]);
        }
        ours.send_bytes(b"longer").await.unwrap();
        match ours.recv_bytes_into(&mut [0; 5]).await {
            Err(RecvError::BufferTooShort(bytes)) => assert_eq!(bytes, &b"longer"[..]),
            other => panic!("{other:?}"),
        }
        ours.send("text".into()).await.unwrap();
        assert!(matches!(ours.recv_bytes().await, Err(RecvError::NotBytes)));
        assert_eq!(ours.recv().await.unwrap().as_deref(), Some("text"));
        let (sender, mut receiver) = ours.into_split();
        drop(sender);
        assert_eq!(receiver.recv().await.unwrap(), None);
        assert_eq!(receiver.recv_bytes().await.unwrap(), None);
        assert_eq!(receiver.recv_bytes_into(&mut []).await.unwrap(), None);
        receiver.readable().await.unwrap();
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Closed)));
        child.join().await.unwrap().unwrap();
    }

    /// CO01, CO16: poll with no time, some, and as much as it takes.
    async fn co16_readable_and_time_limits() {
        let (mut ours, mut theirs) = pipe::<u64, u64>().unwrap();
        assert!(ours.readable().now_or_never().is_none());
        assert!(matches!(ours.try_recv(), Err(TryRecvError::Empty)));
        assert!(timeout(Duration::from_millis(50), ours.readable()).await.is_err());
        assert!(timeout(Duration::from_millis(50), ours.recv()).await.is_err());
        theirs.send(7).await.unwrap();
        in_time(ours.readable()).await.unwrap();
        ours.readable().now_or_never().unwrap().unwrap();
        assert_eq!(ours.try_recv().unwrap(), 7);
        assert!(ours.readable().now_or_never().is_none());
        drop(theirs);
        in_time(ours.readable()).await.unwrap();
        assert_eq!(in_time(ours.recv()).await.unwrap(), None);
    }

    /// CO01: sixteen megabytes each way, three times, sent before anything is received: by slabs.
    async fn co01_large_bytes_both_ways_at_once() {
        let (mut ours, theirs) = pipe_with::<Bytes, Bytes>(LARGE).unwrap();
        let mut child = exchanges_bytes(theirs, 16 * MEGABYTE).spawn().await.unwrap();
        for n in 0..3 {
            in_time(ours.send(bytes(n + 7, 16 * MEGABYTE))).await.unwrap();
        }
        for n in 0..3 {
            assert!(in_time(ours.recv()).await.unwrap().unwrap() == bytes(n, 16 * MEGABYTE));
        }
        assert!(in_time(child.join()).await.unwrap().unwrap());
    }

    /// CO01: the same once, by the stream.
    async fn co01_large_values_both_ways_at_once() {
        let (mut ours, theirs) = pipe_with::<Vec<u32>, Vec<u32>>(LARGE).unwrap();
        let mut child = exchanges_words(theirs, 16 * MEGABYTE).spawn().await.unwrap();
        in_time(ours.send(words(2, 16 * MEGABYTE))).await.unwrap();
        assert!(in_time(ours.recv()).await.unwrap().unwrap() == words(1, 16 * MEGABYTE));
        drop(ours);
        assert!(in_time(child.join()).await.unwrap().unwrap());
    }

    /// 24: two processes that flood each other, with messages of every way that there is.
    async fn rr24_two_processes_flood_each_other() {
        let (ours, theirs) = pipe::<Bytes, Bytes>().unwrap();
        let mut child = floods_too(theirs, 400).spawn().await.unwrap();
        assert_eq!(in_time(floods(ours, 400)).await.unwrap(), 400);
        assert_eq!(in_time(child.join()).await.unwrap().unwrap(), 400);
    }

    /// F25: what exceeds the limit comes back before a byte of it is sent, and the pipe goes on.
    async fn f25_limits_at_the_sender() {
        let limits = Limits::DEFAULT.max_message(1000);
        let (mut sender, mut receiver) = simplex_with::<String>(limits).unwrap();
        let fits = "x".repeat(998);
        for n in 0..3 {
            match sender.send(format!("{fits}{n}")).await.unwrap_err() {
                SendError::Encode(message, EncodeError::TooLarge { size: 1001, limit: 1000 }) => {
                    assert_eq!(message, format!("{fits}{n}"));
                }
                error => panic!("{error:?}"),
            }
            let error = sender.try_send("y".repeat(1 << 20)).unwrap_err();
            assert_eq!(error.into_inner().len(), 1 << 20);
            assert!(matches!(
                sender.send_bytes(&[0; 1001]).await,
                Err(SendError::Encode((), EncodeError::TooLarge { size: 1001, limit: 1000 }))
            ));
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        }
        sender.send(fits.clone()).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), Some(fits));
        sender.send_bytes(&[7; 1000]).await.unwrap();
        assert_eq!(receiver.recv_bytes().await.unwrap().unwrap(), vec![7; 1000]);
    }

    /// What is not sent comes back, whatever the reason.
    async fn values_come_back() {
        let (mut sender, receiver) = simplex::<Vec<u32>>().unwrap();
        let full = loop {
            match sender.try_send(words(0, 50_000)) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(&full, TrySendError::Full(message) if *message == words(0, 50_000)), "{full:?}");
        drop(receiver);
        let error = sender.try_send(words(1, 100)).unwrap_err();
        assert!(error.is_closed());
        assert_eq!(error.into_inner(), words(1, 100));
        let error = sender.send(words(2, 100)).await.unwrap_err();
        assert!(error.is_closed());
        assert_eq!(error.into_inner(), words(2, 100));
        assert!(sender.flush().await.is_err());
        assert!(sender.send_bytes(b"x").await.unwrap_err().is_closed());
    }

    /// As streams and sinks.
    async fn streams_and_sinks() {
        let (mut ours, theirs) = pipe::<u64, u64>().unwrap();
        let mut child = doubles(theirs).spawn().await.unwrap();
        for n in 0..10 {
            ours.feed(n).await.unwrap();
        }
        SinkExt::flush(&mut ours).await.unwrap();
        SinkExt::send(&mut ours, 10).await.unwrap();
        let (mut sender, receiver) = ours.into_split();
        let mut numbers = futures::stream::iter((11..500).map(Ok));
        let (sent, received) = tokio::join!(
            async { sender.send_all(&mut numbers).await.and(sender.close().await).map(|()| drop(sender)) },
            receiver.map(Result::unwrap).collect::<Vec<_>>(),
        );
        sent.unwrap();
        assert_eq!(received, (0..500).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!(child.join().await.unwrap().unwrap(), 500);
    }

    /// CO17: whichever comes first, a message or the end of the process.
    async fn co17_a_pipe_and_the_end_of_a_process() {
        let (mut ours, theirs) = pipe::<u64, u64>().unwrap();
        let mut child = doubles(theirs).spawn().await.unwrap();
        ours.send(4).await.unwrap();
        let is_message = in_time(async {
            tokio::select! {
                message = ours.recv() => message.unwrap() == Some(8),
                _ = child.wait() => false,
            }
        }).await;
        assert!(is_message);
        signal(&child, Signal::KILL);
        in_time(child.wait()).await.unwrap();
        assert_eq!(in_time(ours.recv()).await.unwrap(), None);
        assert!(in_time(async { loop { if let Err(error) = ours.send(1).await { return error } } }).await.is_closed());
    }

    /// F4: a sender that is killed within a message on the stream.
    async fn f4_killed_within_a_message_on_the_stream() {
        let (sender, mut receiver) = simplex_with::<Bytes>(LARGE).unwrap();
        let (told, mut is_told) = simplex::<()>().unwrap();
        let call = without_slabs(sends_and_stays(sender, told, 0, 64 * MEGABYTE));
        let mut child = call.spawn().await.unwrap();
        is_told.recv().await.unwrap().unwrap();
        signal(&child, Signal::KILL);
        in_time(child.wait()).await.unwrap();
        let killed = Instant::now();
        let error = in_time(receiver.recv()).await.unwrap_err();
        assert!(matches!(error, RecvError::CutOff), "{error:?}");
        assert!(killed.elapsed() < patience(10 * SECOND));
        assert!(error.ends_the_pipe());
        assert!(in_time(receiver.recv()).await.unwrap().is_none());
    }

    /// F4: the same for one whose receiver has begun to read, and with a time limit.
    async fn f4_killed_within_a_message_that_is_being_read() {
        let (sender, mut receiver) = simplex_with::<Vec<u32>>(LARGE).unwrap();
        let (told, mut is_told) = simplex::<()>().unwrap();
        let call = without_slabs(sends_words_and_stays(sender, told, 64 * MEGABYTE));
        let mut child = call.spawn().await.unwrap();
        is_told.recv().await.unwrap().unwrap();
        signal(&child, Signal::STOP);
        assert!(timeout(Duration::from_millis(50), receiver.recv()).await.is_err());
        assert!(timeout(Duration::from_millis(50), receiver.readable()).await.is_err());
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        signal(&child, Signal::KILL);
        let killed = Instant::now();
        let error = in_time(receiver.recv()).await.unwrap_err();
        assert!(matches!(error, RecvError::CutOff), "{error:?}");
        assert!(killed.elapsed() < patience(10 * SECOND));
        in_time(child.wait()).await.unwrap();
    }

    /// What stands in a slab is safe from its sender's death.
    async fn f4_killed_when_the_message_is_in_a_slab() {
        let (sender, mut receiver) = simplex_with::<Bytes>(LARGE).unwrap();
        let (told, mut is_told) = simplex::<()>().unwrap();
        let mut child = sends_and_stays(sender, told, 0, 64 * MEGABYTE).spawn().await.unwrap();
        is_told.recv().await.unwrap().unwrap();
        signal(&child, Signal::KILL);
        in_time(child.wait()).await.unwrap();
        assert!(in_time(receiver.recv()).await.unwrap().unwrap() == bytes(0, 64 * MEGABYTE));
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
    }

    /// F4: time limits hold while the peer is stopped, and nothing is lost when it goes on.
    async fn f4_a_stopped_peer() {
        let (mut sender, receiver) = simplex::<Vec<u32>>().unwrap();
        let mut child = counts(receiver).spawn().await.unwrap();
        signal(&child, Signal::STOP);
        let mut accepted = 0;
        while let Ok(sent) = timeout(Duration::from_millis(100), sender.send(words(accepted, 30_000))).await {
            sent.unwrap();
            accepted += 1;
        }
        assert!(timeout(Duration::from_millis(50), sender.flush()).await.is_err());
        assert!(matches!(sender.try_send(words(0, 4)), Err(TrySendError::Full(_))));
        signal(&child, Signal::CONT);
        in_time(sender.flush()).await.unwrap();
        drop(sender);
        assert_eq!(in_time(child.join()).await.unwrap().unwrap(), accepted);
    }

    /// A receiver that is killed is told to whoever sends, also where the sender is waiting for room.
    async fn f4_a_receiver_is_killed() {
        let (mut sender, receiver) = simplex::<Vec<u32>>().unwrap();
        let mut child = counts(receiver).spawn().await.unwrap();
        signal(&child, Signal::STOP);
        let waiting = async { loop { if let Err(error) = sender.send(words(0, 300_000)).await { return error } } };
        let kill = async {
            tokio::task::yield_now().await;
            signal(&child, Signal::KILL);
        };
        let (error, ()) = in_time(async { tokio::join!(waiting, kill) }).await;
        assert!(error.is_closed(), "{error:?}");
        in_time(child.wait()).await.unwrap();
    }

    /// A function that returns has sent what it had sent.
    async fn accepted_and_returned() {
        let (sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
        let sizes: Vec<usize> = (0..400).map(|n| if n % 100 == 99 { 300_000 } else { 40 * n }).collect();
        let mut child = sends_and_returns(sender, sizes.clone()).spawn().await.unwrap();
        for (n, size) in sizes.into_iter().enumerate() {
            assert!(in_time(receiver.recv()).await.unwrap().unwrap() == words(n, size), "message {n}");
        }
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
        assert_eq!(in_time(child.join()).await.unwrap().unwrap(), 400);
    }

    /// A slab is a file to the kernel, but not to a child that may write no large ones.
    async fn large_bytes_of_a_child_that_may_write_small_files() {
        for limit in [0, 100_000, 400_000] {
            let (sender, mut receiver) = simplex::<Bytes>().unwrap();
            let lengths = [300_000, MEGABYTE, 300_000];
            let call = sends_bytes_and_returns(sender, lengths.to_vec()).rlimit(Resource::FileSize, limit, limit);
            let mut child = call.spawn().await.unwrap();
            for (n, length) in lengths.into_iter().enumerate() {
                assert!(in_time(receiver.recv()).await.unwrap().unwrap() == bytes(n, length), "limit {limit}");
            }
            in_time(child.join()).await.unwrap().unwrap();
        }
    }

    /// F6: first join, then read.
    async fn f6_joined_before_it_is_read() {
        let (sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
        let sent = in_time(sends_and_returns(sender, vec![40; 200])).await.unwrap().unwrap();
        for n in 0..sent {
            assert!(in_time(receiver.recv()).await.unwrap().unwrap() == words(n, 40));
        }
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
    }

    /// A burst is on its way although its sender's thread does nothing more.
    async fn accepted_and_blocked() {
        for is_plain in [false, true] {
            let (sender, mut receiver) = simplex::<u64>().unwrap();
            let call = if is_plain { bursts_and_blocks_plainly(sender, 500) } else { bursts_and_blocks(sender, 500) };
            let mut child = call.spawn().await.unwrap();
            for n in 0..500 {
                assert_eq!(in_time(receiver.recv()).await.unwrap(), Some(n));
            }
            child.kill().await.unwrap();
        }
    }

    /// F6: a child whose bytes are all with the kernel ends, whether or not they are read.
    async fn f6_flushed_and_returned() {
        let (sender, mut receiver) = simplex::<Vec<u32>>().unwrap();
        let (mut ours, theirs) = pipe::<(), u64>().unwrap();
        let mut child = fills_flushes_and_returns(sender, theirs).spawn().await.unwrap();
        let count = in_time(ours.recv()).await.unwrap().unwrap();
        // Room for what waits, but not so much that the kernel would say so.
        for _ in 0..5 {
            in_time(receiver.recv()).await.unwrap().unwrap();
        }
        ours.send(()).await.unwrap();
        in_time(child.join()).await.unwrap().unwrap();
        for _ in 5..count {
            in_time(receiver.recv()).await.unwrap().unwrap();
        }
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
    }

    /// What a child sends to itself does not keep it.
    async fn accepted_by_its_own_task() {
        in_time(sends_to_its_own_task(4 * MEGABYTE)).await.unwrap().unwrap();
    }

    /// CO14: an end that has read ahead moves three times, and comes back.
    async fn co14_a_receiver_moves_with_what_it_has_read() {
        let (mut sender, mut receiver) = simplex::<String>().unwrap();
        for n in 0..10 {
            sender.send(n.to_string()).await.unwrap();
        }
        assert_eq!(receiver.recv().await.unwrap().as_deref(), Some("0"));
        let (taken, mut receiver) = in_time(relays(receiver, 2)).await.unwrap().unwrap();
        assert_eq!(taken, ["1", "2", "3"]);
        sender.send("10".into()).await.unwrap();
        for n in 4..=10 {
            assert_eq!(in_time(receiver.recv()).await.unwrap(), Some(n.to_string()));
        }
        drop(sender);
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
    }

    /// CO14: as does one that sends.
    async fn co14_a_sender_moves() {
        let (sender, mut receiver) = simplex::<String>().unwrap();
        let mut sender = in_time(lends(sender, 2)).await.unwrap().unwrap();
        sender.send("from home".into()).await.unwrap();
        for expected in ["from 0", "from 1", "from 2", "from home"] {
            assert_eq!(in_time(receiver.recv()).await.unwrap().as_deref(), Some(expected));
        }
        drop(sender);
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
    }

    /// To close the sink is to close the sender, though it is still there.
    #[once]
    async fn closed_as_a_sink() {
        let (mut sender, mut receiver) = simplex::<u64>().unwrap();
        sender.feed(1).await.unwrap();
        SinkExt::<u64>::close(&mut sender).await.unwrap();
        assert_eq!(in_time(receiver.recv()).await.unwrap(), Some(1));
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
        assert!(sender.send(2).await.unwrap_err().is_closed());
        let (mut ours, mut theirs) = pipe::<u64, u64>().unwrap();
        SinkExt::<u64>::close(&mut ours).await.unwrap();
        assert_eq!(in_time(theirs.recv()).await.unwrap(), None);
        theirs.send(3).await.unwrap();
        assert_eq!(in_time(ours.recv()).await.unwrap(), Some(3));
    }

    /// What was flushed is here, though its thread does nothing more.
    async fn raw_bytes_of_a_plain_child() {
        let (mut tx, theirs_in) = simplex::<()>().unwrap();
        let (theirs_out, mut rx) = simplex::<()>().unwrap();
        let mut child = doubles_bytes_plainly(theirs_in, theirs_out).spawn().await.unwrap();
        for length in [0, 10, 100_000, 300_000, 5 * MEGABYTE] {
            tx.send_bytes(&bytes(7, length)).await.unwrap();
            for _ in 0..2 {
                assert!(in_time(rx.recv_bytes()).await.unwrap() == Some(bytes(7, length)));
            }
        }
        drop(tx);
        child.kill().await.unwrap();
        assert_eq!(in_time(rx.recv_bytes()).await.unwrap(), None);
    }
}
