//! Handles in arguments, results and messages: CO05, CO14; R8; requirement 35.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{PipeReader, Read, Seek, SeekFrom, Write};
use std::net;
use std::os::fd::OwnedFd;
use std::os::unix::net as unix;
use std::time::Duration;

use bytes::Bytes;
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use procession::pipe::{Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, simplex_with};
use procession::{Cause, EncodeError, Failure, Limits, Passed, Pipe, Resource, pipe, process, simplex};
use procession_tests::{eventually, in_time, isolated, open_fds};
use rustix::process::{Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// A pipe of the system whose writer is to travel: its reader sees when nobody has that any more.
fn writer() -> (PipeReader, Passed<OwnedFd>) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, Passed::new(writer.into()).unwrap())
}

/// That nobody has the writer, now or soon.
#[track_caller]
fn is_closed(reader: &PipeReader) {
    eventually(10 * SECOND, || {
        let mut fds = [rustix::event::PollFd::new(reader, rustix::event::PollFlags::empty())];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 1
    });
}

/// So many files, each with its number in it.
fn files(count: usize) -> Vec<Passed<File>> {
    let file = |n: usize| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&n.to_le_bytes()).unwrap();
        Passed::new(file).unwrap()
    };
    (0..count).map(file).collect()
}

/// That these are the files, from that number on.
fn are_files(files: Vec<Passed<File>>, from: usize) -> bool {
    files.into_iter().zip(from..).all(|(file, n)| {
        let (mut file, mut bytes) = (file.into_inner().unwrap(), [0; 8]);
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        usize::from_le_bytes(bytes) == n
    })
}

#[process]
async fn accepts(
    listener: Passed<tokio::net::TcpListener>,
) -> Result<Passed<tokio::net::TcpStream>, Failure> {
    let (mut stream, _) = listener.into_inner()?.accept().await?;
    stream.write_all(b"from the child").await?;
    Ok(Passed::new(stream)?)
}

#[process]
fn accepts_plainly(listener: Passed<net::TcpListener>) -> Result<Passed<net::TcpStream>, Failure> {
    let (mut stream, _) = listener.into_inner()?.accept()?;
    stream.write_all(b"from the child")?;
    Ok(Passed::new(stream)?)
}

#[process]
async fn answers(stream: Passed<tokio::net::UnixStream>) -> Result<(), Failure> {
    let mut stream = stream.into_inner()?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    stream.write_all(&[byte[0] + 1]).await?;
    Ok(())
}

#[process]
fn answers_plainly(stream: Passed<unix::UnixStream>) -> Result<(), Failure> {
    let mut stream = stream.into_inner()?;
    stream.set_nonblocking(false)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    stream.write_all(&[byte[0] + 1])?;
    Ok(())
}

#[process]
async fn gives_back(files: Vec<Passed<File>>, text: String) -> (String, Vec<Passed<File>>) {
    (text, files)
}

#[process]
async fn counts(files: Vec<Passed<File>>) -> usize {
    files.len()
}

#[process]
async fn gives(count: usize) -> Vec<Passed<File>> {
    files(count)
}

#[process]
async fn drops_and_stays(handle: Passed<OwnedFd>, sender: Sender<u64>) {
    drop((handle, sender));
    std::future::pending().await
}

#[process]
async fn keeps(handle: Passed<OwnedFd>) {
    std::future::pending::<()>().await;
    drop(handle);
}

#[process]
async fn takes(_handle: Passed<OwnedFd>) {}

/// Everything that can stand in everything.
#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf(Passed<File>),
    Node(Vec<Self>),
    Map(BTreeMap<u32, Option<Box<Self>>>),
    End(Box<Receiver<Self>>),
    Ends(Box<(Sender<Self>, Pipe<Self, Self>)>),
}

fn depth(tree: &Tree) -> usize {
    1 + match tree {
        Tree::Node(nodes) => nodes.iter().map(depth).max().unwrap_or(0),
        Tree::Map(nodes) => nodes.values().flatten().map(|node| depth(node)).max().unwrap_or(0),
        Tree::Leaf(_) | Tree::End(_) | Tree::Ends(_) => 0,
    }
}

/// Receives while it can have few descriptors: those that it has, and so many more.
#[process]
async fn is_short_of_descriptors(
    mut pipe: Receiver<(Vec<Passed<File>>, Vec<u32>)>,
    mut word: Pipe<(), ()>,
    more: usize,
) -> Result<Vec<String>, Failure> {
    word.send(()).await?;
    word.recv().await?;
    let highest = u64::from(*open_fds().keys().last().expect("a descriptor"));
    let all = getrlimit(rustix::process::Resource::Nofile);
    let mut holes: Vec<File> = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        let number = std::os::fd::AsRawFd::as_raw_fd(&file) as u64;
        if number > highest {
            break;
        }
        holes.push(file);
    }
    let few = Rlimit { current: Some(highest + 1 + more as u64), ..all };
    setrlimit(rustix::process::Resource::Nofile, few)?;
    let mut seen = Vec::new();
    loop {
        seen.push(match pipe.recv().await {
            Ok(None) => break,
            Ok(Some((files, numbers))) => format!("{} files, {} numbers", files.len(), numbers.len()),
            Err(RecvError::NoDescriptors) => "no descriptors".to_owned(),
            Err(error) => format!("{error:?}"),
        });
    }
    setrlimit(rustix::process::Resource::Nofile, all)?;
    Ok(seen)
}

/// Sends more handles than a user may have in flight, to itself.
#[process]
async fn has_many_in_flight(user: u32) -> Result<(usize, bool, usize), Failure> {
    setresgid(Gid::from_raw(user), Gid::from_raw(user), Gid::from_raw(user))?;
    setresuid(Uid::from_raw(user), Uid::from_raw(user), Uid::from_raw(user))?;
    let null = File::open("/dev/null")?;
    let (mut sender, mut receiver) = simplex::<Vec<Passed<File>>>()?;
    let handles = || (0..50).map(|_| Passed::new(null.try_clone()?)).collect::<Result<Vec<_>, _>>();
    let mut accepted = 0;
    let is_full = loop {
        match sender.try_send(handles()?) {
            Ok(()) => accepted += 1,
            Err(TrySendError::Full(handles)) => break handles.len() == 50,
            Err(error) => return Err(error.into_failure()),
        }
        assert!(accepted < 20, "there is no limit");
    };
    assert!(timeout(Duration::from_millis(50), sender.flush()).await.is_err());
    assert!(timeout(Duration::from_millis(50), sender.send(handles()?)).await.is_err());
    let receive = async {
        let mut received = 0;
        while let Some(handles) = receiver.recv().await? {
            assert_eq!(handles.len(), 50);
            received += 1;
        }
        Ok::<_, RecvError>(received)
    };
    let send = async move { sender.send(handles().unwrap()).await.is_ok() };
    let (received, sent) = tokio::join!(receive, send);
    assert!(sent);
    Ok((accepted, is_full, received?))
}

trait IntoFailure {
    fn into_failure(self) -> Failure;
}

impl<T: 'static> IntoFailure for TrySendError<T> {
    fn into_failure(self) -> Failure {
        std::io::Error::other(format!("{self:?}")).into()
    }
}

/// More than anybody has by default.
const WIDE: Limits =
    Limits::DEFAULT.max_message(1 << 40).max_depth(u32::MAX).max_heap(u64::MAX).max_handles(1000);

#[process]
async fn offers() -> Result<(Sender<u64>, Receiver<u64>), Failure> {
    Ok(simplex_with(WIDE)?)
}

#[process]
async fn sees(ends: (Sender<u64>, Receiver<u64>)) -> bool {
    ends.0.limits() == WIDE && ends.1.limits() == WIDE
}

isolated! {
    /// CO05: a listener goes to a child, and what it has accepted comes back; tokio's and std's, in any mixture.
    async fn co05_listeners_and_streams() {
        for is_plain in [false, true] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let connects = tokio::net::TcpStream::connect(address);
            let mut there = if is_plain {
                let listener = listener.into_std().unwrap();
                listener.set_nonblocking(false).unwrap();
                let mut child = accepts_plainly(Passed::new(listener).unwrap()).spawn().await.unwrap();
                let there = connects.await.unwrap();
                let stream = in_time(child.join()).await.unwrap().unwrap().into_inner().unwrap();
                (&stream).write_all(b", and from the parent").unwrap();
                there
            } else {
                let mut child = accepts(Passed::new(listener).unwrap()).spawn().await.unwrap();
                let there = connects.await.unwrap();
                let mut stream = in_time(child.join()).await.unwrap().unwrap().into_inner().unwrap();
                stream.write_all(b", and from the parent").await.unwrap();
                there
            };
            let mut text = String::new();
            in_time(there.read_to_string(&mut text)).await.unwrap();
            assert_eq!(text, "from the child, and from the parent");
        }
    }

    /// Streams that are tokio's on one side and std's on the other.
    async fn co05_streams_of_two_kinds() {
        for is_plain in [false, true] {
            let (mut ours, theirs) = tokio::net::UnixStream::pair().unwrap();
            let mut child = if is_plain {
                answers_plainly(Passed::new(theirs.into_std().unwrap()).unwrap()).spawn().await.unwrap()
            } else {
                answers(Passed::new(theirs).unwrap()).spawn().await.unwrap()
            };
            ours.write_all(&[7]).await.unwrap();
            let mut byte = [0];
            in_time(ours.read_exact(&mut byte)).await.unwrap();
            assert_eq!(byte, [8]);
            in_time(child.join()).await.unwrap().unwrap();
        }
    }

    /// More than the kernel takes at once: in an argument and a result, and in a message.
    async fn many_handles_at_once() {
        let limits = Limits::DEFAULT.max_handles(600);
        for count in [0, 1, 64, 253, 254, 300, 506, 507] {
            // A head that is longer than a socket takes, too.
            for length in [10, 300_000] {
                let call = gives_back(files(count), "x".repeat(length)).limits(limits);
                let (text, files_there) = in_time(call).await.unwrap();
                assert_eq!((text.len(), files_there.len()), (length, count));
                assert!(are_files(files_there, 0), "{count} files");
            }
            let (mut sender, mut receiver) = simplex_with::<(Vec<Passed<File>>, Vec<u32>, Bytes)>(limits).unwrap();
            for length in [10, 20_000, 300_000] {
                let large = Bytes::from(vec![7; length]);
                sender.send((files(count), vec![u32::MAX; length / 5], large)).await.unwrap();
                let (came, numbers, bytes) = in_time(receiver.recv()).await.unwrap().unwrap();
                assert_eq!((came.len(), numbers.len(), bytes.len()), (count, length / 5, length));
                assert!(are_files(came, 0), "{count} files, {length} bytes");
            }
        }
    }

    /// So many that a head alone has no byte for each turn.
    #[once]
    async fn more_turns_than_a_header_has_bytes() {
        let limits = Limits::DEFAULT.max_handles(3000);
        let all = getrlimit(rustix::process::Resource::Nofile);
        setrlimit(rustix::process::Resource::Nofile, Rlimit { current: all.maximum, ..all }).unwrap();
        let (mut sender, mut receiver) = simplex_with::<(Vec<Passed<File>>, Vec<u32>)>(limits).unwrap();
        let null = File::open("/dev/null").unwrap();
        let handles = || (0..2300).map(|_| Passed::new(null.try_clone().unwrap()).unwrap()).collect();
        for numbers in [10, 20_000] {
            let receives = tokio::spawn(async move { (receiver.recv().await, receiver) });
            sender.send((handles(), vec![u32::MAX; numbers])).await.unwrap();
            in_time(sender.flush()).await.unwrap();
            let (came, same) = in_time(receives).await.unwrap();
            let (came, seen) = came.unwrap().unwrap();
            assert_eq!((came.len(), seen.len()), (2300, numbers));
            receiver = same;
        }
    }

    /// 35: one more than the limit is refused where it would be sent, and comes back; everything goes on.
    async fn rr35_the_limit_of_handles() {
        let error = counts(files(65)).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Encode(EncodeError::TooManyHandles { count: 65, limit: 64 })), "{error:?}");
        assert_eq!(counts(files(64)).await.unwrap(), 64);
        let error = gives(65).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Encode(EncodeError::TooManyHandles { count: 65, limit: 64 })), "{error:?}");
        assert_eq!(gives(64).await.unwrap().len(), 64);
        let (mut sender, mut receiver) = simplex::<Vec<Passed<File>>>().unwrap();
        match sender.send(files(65)).await.unwrap_err() {
            SendError::Encode(back, EncodeError::TooManyHandles { count: 65, limit: 64 }) => assert!(are_files(back, 0)),
            error => panic!("{error:?}"),
        }
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
        sender.send(files(64)).await.unwrap();
        assert!(are_files(in_time(receiver.recv()).await.unwrap().unwrap(), 0));
    }

    /// CO14: types that hold ends of pipes for themselves, at any depth.
    async fn co14_recursive_messages() {
        let (mut sender, mut receiver) = simplex::<Tree>().unwrap();
        let leaf = || Tree::Leaf(files(1).remove(0));
        let (mut inner, inner_end) = simplex::<Tree>().unwrap();
        inner.send(leaf()).await.unwrap();
        let (there, mut here) = simplex::<Tree>().unwrap();
        let (mut ours, theirs) = pipe::<Tree, Tree>().unwrap();
        let map = BTreeMap::from([(1, None), (2, Some(Box::new(Tree::End(Box::new(inner_end))))), (3, Some(Box::new(leaf())))]);
        let tree = Tree::Node(vec![leaf(), Tree::Map(map), Tree::Node(vec![Tree::Ends(Box::new((there, theirs)))])]);
        sender.send(tree).await.unwrap();
        let tree = in_time(receiver.recv()).await.unwrap().unwrap();
        assert_eq!(depth(&tree), 3);
        let Tree::Node(mut nodes) = tree else { panic!("{tree:?}") };
        let Some(Tree::Node(mut ends)) = nodes.pop() else { panic!("{nodes:?}") };
        let Some(Tree::Ends(ends)) = ends.pop() else { panic!("{ends:?}") };
        let (mut there, mut both) = *ends;
        there.send(leaf()).await.unwrap();
        assert!(matches!(in_time(here.recv()).await.unwrap(), Some(Tree::Leaf(_))));
        ours.send(leaf()).await.unwrap();
        let leaf = in_time(both.recv()).await.unwrap().unwrap();
        both.send(leaf).await.unwrap();
        assert!(matches!(in_time(ours.recv()).await.unwrap(), Some(Tree::Leaf(_))));
        let Some(Tree::Map(mut map)) = nodes.pop() else { panic!("{nodes:?}") };
        let Some(Some(end)) = map.remove(&2) else { panic!("{map:?}") };
        let Tree::End(mut end) = *end else { panic!("{end:?}") };
        assert!(matches!(in_time(end.recv()).await.unwrap(), Some(Tree::Leaf(_))));
    }

    /// CO14: what has been read ahead has handles, which go with the end that moves.
    async fn co14_handles_that_were_read_ahead() {
        let (mut carrier, mut carried) = simplex_with::<Receiver<Vec<Passed<File>>>>(Limits::DEFAULT.max_handles(200)).unwrap();
        let (mut sender, mut receiver) = simplex::<Vec<Passed<File>>>().unwrap();
        for count in [1, 0, 2, 3] {
            sender.send(files(count)).await.unwrap();
        }
        for count in [1, 0, 2] {
            in_time(receiver.readable()).await.unwrap();
            for _ in 0..3 {
                carrier.send(receiver).await.unwrap();
                receiver = in_time(carried.recv()).await.unwrap().unwrap();
            }
            let came = in_time(receiver.recv()).await.unwrap().unwrap();
            assert_eq!(came.len(), count);
            assert!(are_files(came, 0));
        }
        let came = in_time(receiver.recv()).await.unwrap().unwrap();
        assert!(came.len() == 3 && are_files(came, 0));
    }

    /// What is never received is closed with the pipe, wherever it was.
    async fn never_received() {
        let (mut sender, mut receiver) = simplex::<(u32, Passed<OwnedFd>)>().unwrap();
        let mut readers = Vec::new();
        for n in 0..20 {
            let (reader, writer) = writer();
            sender.send((n, writer)).await.unwrap();
            readers.push(reader);
        }
        in_time(receiver.readable()).await.unwrap();
        drop(sender);
        drop(receiver);
        readers.iter().for_each(is_closed);
    }

    /// Nor does an end that was sent through itself stay.
    async fn a_pipe_within_itself() {
        let (mut sender, receiver) = simplex::<Tree>().unwrap();
        let (reader, handle) = writer();
        let file = File::from(handle.into_inner().unwrap());
        sender.send(Tree::Leaf(Passed::new(file).unwrap())).await.unwrap();
        sender.send(Tree::End(Box::new(receiver))).await.unwrap();
        drop(sender);
        is_closed(&reader);
    }

    /// The parent's copy is closed as soon as the child has it, and it sees what the child does with it.
    async fn co03_the_parents_copy() {
        let ((reader, handle), (sender, mut receiver)) = (writer(), simplex::<u64>().unwrap());
        let mut child = drops_and_stays(handle, sender).spawn().await.unwrap();
        is_closed(&reader);
        assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
        child.kill().await.unwrap();
    }

    /// A call that does not come to its function, or not to its end, keeps nothing.
    async fn calls_that_fail() {
        let (reader, handle) = writer();
        drop(keeps(handle));
        is_closed(&reader);

        let (reader, handle) = writer();
        drop(keeps(handle).spawn());
        is_closed(&reader);

        let (reader, handle) = writer();
        assert!(timeout(Duration::from_millis(100), keeps(handle)).await.is_err());
        is_closed(&reader);

        let (reader, handle) = writer();
        let mut process = keeps(handle).spawn().await.unwrap();
        process.kill().await.unwrap();
        is_closed(&reader);
        drop(process);

        let (reader, handle) = writer();
        assert!(keeps(handle).timeout(Duration::from_millis(100)).await.unwrap_err().is_timeout());
        is_closed(&reader);

        let (reader, handle) = writer();
        assert!(takes(handle).current_dir("/nowhere/at/all").await.is_err());
        is_closed(&reader);

        let (reader, handle) = writer();
        assert!(takes(handle).max_message(0).await.is_err());
        is_closed(&reader);

        let (reader, handle) = writer();
        takes(handle).local().await.unwrap();
        is_closed(&reader);

        let (reader, handle) = writer();
        assert!(timeout(Duration::from_millis(10), keeps(handle).local()).await.is_err());
        is_closed(&reader);
    }

    /// Outside of a message a handle is an error, and is not lost.
    #[once]
    async fn outside_of_a_message() {
        let (reader, handle) = writer();
        assert!(serde_json::to_string(&handle).unwrap_err().to_string().contains("travels only in a message"));
        assert!(postcard::to_stdvec(&handle).is_err());
        let (sender, receiver) = simplex::<u64>().unwrap();
        assert!(serde_json::to_string(&sender).is_err());
        assert!(serde_json::to_string(&receiver).is_err());
        assert!(serde_json::to_string(&(Some(&receiver), 1)).is_err());
        for text in ["1", "2", "[1]", "null"] {
            assert!(serde_json::from_str::<Passed<OwnedFd>>(text).is_err());
            assert!(serde_json::from_str::<Receiver<u64>>(text).is_err());
        }
        assert!(postcard::from_bytes::<Passed<OwnedFd>>(&[1]).is_err());
        assert!(postcard::from_bytes::<Sender<u64>>(&[6; 40]).is_err());
        drop(handle);
        is_closed(&reader);
    }

    /// R8: a receiver that can have no more descriptors loses the message that has them, and no other.
    async fn r8_no_descriptors_at_the_receiver() {
        let (mut sender, receiver) = simplex::<(Vec<Passed<File>>, Vec<u32>)>().unwrap();
        let (mut word, theirs) = pipe::<(), ()>().unwrap();
        let mut child = is_short_of_descriptors(receiver, theirs, 5).spawn().await.unwrap();
        word.recv().await.unwrap();
        // The large ones come in more than one read, and the rest of them together with the head of the next.
        for (handles, numbers) in [(0, 1), (3, 1), (30, 1), (2, 1), (30, 3000), (2, 2), (3, 3000), (30, 2999), (1, 3), (0, 4)] {
            sender.send((files(handles), vec![u32::MAX; numbers])).await.unwrap();
        }
        drop(sender);
        word.send(()).await.unwrap();
        let seen = in_time(child.join()).await.unwrap().unwrap();
        let expected = [
            "0 files, 1 numbers", "3 files, 1 numbers", "no descriptors", "2 files, 1 numbers", "no descriptors",
            "2 files, 2 numbers", "3 files, 3000 numbers", "no descriptors", "1 files, 3 numbers", "0 files, 4 numbers",
        ];
        assert_eq!(seen, expected);
    }

    /// R8: what the kernel lets nobody have in flight waits, and is not lost.
    async fn r8_too_many_in_flight() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("PROCESSION_NO_SKIP").is_none(), "this is not root");
            writeln!(std::io::stderr(), "skipped: only root can become another user").unwrap();
            return;
        }
        // A user that nobody else is.
        let user = 3_000_000 + std::process::id() % 1_000_000;
        let call = has_many_in_flight(user).rlimit(Resource::OpenFiles, 128, 128);
        let (accepted, is_full, received) = in_time(call).await.unwrap().unwrap();
        assert!(is_full && (2..6).contains(&accepted), "{accepted} accepted");
        assert_eq!(received, accepted + 1);
    }

    /// An end from a child has no wider limits than the message that brought it; one from a parent has its own.
    async fn limits_of_an_end() {
        let (sender, receiver) = offers().await.unwrap().unwrap();
        assert_eq!([sender.limits(), receiver.limits()], [Limits::DEFAULT; 2]);
        let deep = Limits::DEFAULT.max_depth(1000).max_heap(1 << 20);
        let (_, receiver) = offers().limits(deep).await.unwrap().unwrap();
        assert_eq!(receiver.limits(), deep);
        assert!(sees(simplex_with(WIDE).unwrap()).await.unwrap());
    }
}
