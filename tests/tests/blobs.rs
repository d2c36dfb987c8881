//! Bytes that processes share: conformance SH12 to SH14; failures F13, F14; requirements 32, 35.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use procession::pipe::{Receiver, RecvError, simplex_with};
use procession::shared::Blob;
use procession::{Cause, Failure, Limits, Passed, Pipe, Stdio, pipe, process, simplex};
use procession_tests::{eventually, in_time, isolated, open_fds};
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    ftruncate, memfd_create, open,
};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_getfd, pidfd_open, setrlimit,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

const MIB: usize = 1 << 20;
const LENGTHS: [usize; 7] = [0, 1, 4095, 4096, 4097, MIB, 64 * MIB];
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Bytes whose order shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

fn blob(length: usize) -> Blob {
    Blob::new(pattern(length)).unwrap()
}

/// The mappings of blobs in this process, which are private ones, and how much of each was touched, in KiB.
fn mappings() -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines();
    let mut seen = Vec::new();
    while lines.by_ref().any(|line| line.contains("/memfd:procession-blob")) {
        let touched = lines.by_ref().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        seen.push(touched.trim().trim_end_matches(" kB").parse().unwrap());
    }
    seen
}

/// What this process holds that a blob is made of, or that a test sends in place of one.
fn held() -> (usize, usize) {
    (open_fds().len(), mappings().len())
}

/// Which memory it is.
fn identity(memory: impl AsFd) -> (u64, u64) {
    let stat = fstat(memory).unwrap();
    (stat.st_dev, stat.st_ino)
}

/// Another open file for the same memory.
fn reopened(memory: impl AsFd, flags: OFlags) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd());
    open(path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// What of this can be done to a blob: nothing.
fn tricks_that_work(blob: &Blob) -> Vec<&'static str> {
    let before = blob.to_vec();
    let writable = reopened(blob, OFlags::RDWR);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let length = blob.len() as u64;
    let mut tricks = vec![
        ("write", rustix::io::write(&writable, b"X").map(drop)),
        ("pwrite", rustix::io::pwrite(&writable, b"X", 0).map(drop)),
        ("pwrite through its own descriptor", rustix::io::pwrite(blob, b"X", 0).map(drop)),
        ("append", rustix::io::pwrite(&writable, b"X", length).map(drop)),
        ("cut short", ftruncate(&writable, 1)),
        ("grow", ftruncate(&writable, length + 1)),
        ("punch a hole", fallocate(&writable, hole, 0, length)),
        ("zero", fallocate(&writable, FallocateFlags::ZERO_RANGE, 0, length)),
        ("grow beyond the end", fallocate(&writable, FallocateFlags::KEEP_SIZE, length, 1 << 16)),
        ("seal", fcntl_add_seals(&writable, SealFlags::FUTURE_WRITE)),
        ("map to be written", mapped_to_write(&writable, || ())),
    ];
    tricks.retain(|(_, done)| *done != Err(Errno::PERM) && *done != Err(Errno::OPNOTSUPP));
    let mut worked: Vec<_> = tricks.into_iter().map(|(name, _)| name).collect();
    if **blob != *before {
        worked.push("something");
    }
    worked
}

/// Does something while a memory is mapped to be written.
#[expect(unsafe_code, reason = "mapping is unsafe")]
fn mapped_to_write<T>(memory: impl AsFd, body: impl FnOnce() -> T) -> rustix::io::Result<T> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses where, so that no other memory changes.
    let start = unsafe { mmap(std::ptr::null_mut(), 1, protection, MapFlags::SHARED, memory, 0) }?;
    let done = body();
    // SAFETY: it was mapped above, and nothing points into it.
    unsafe { munmap(start, 1) }?;
    Ok(done)
}

/// Where blobs can stand.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shelf {
    name: String,
    blobs: Vec<Blob>,
    one: Option<Box<(u8, Blob)>>,
}

#[process]
async fn knows(blob: Blob, length: usize) -> (bool, (u64, u64)) {
    (*blob == *pattern(length), identity(&blob))
}

#[process]
fn knows_plainly(blob: Blob, length: usize) -> (bool, (u64, u64)) {
    (*blob == *pattern(length), identity(&blob))
}

#[process]
async fn makes(length: usize) -> Blob {
    blob(length)
}

#[process]
async fn turns_round(shelf: Shelf) -> Shelf {
    let blobs = shelf.blobs.into_iter().rev().collect();
    Shelf { blobs, ..shelf }
}

#[process]
async fn echoes(mut pipe: Pipe<Blob, Shelf>) -> Result<(), Failure> {
    while let Some(shelf) = pipe.recv().await? {
        for blob in shelf.blobs {
            pipe.send(blob).await?;
        }
    }
    Ok(())
}

#[process]
async fn tries_tricks(blob: Blob) -> Vec<String> {
    tricks_that_work(&blob).into_iter().map(str::to_owned).collect()
}

#[process]
async fn touches(blob: Blob) -> (Vec<usize>, u8, usize) {
    let untouched = mappings();
    let last = blob.last().copied().unwrap_or_default();
    (untouched, last, mappings().iter().sum())
}

/// Holds a blob, of which it says that it has it.
#[process]
async fn attaches(blob: Blob, mut word: Pipe<usize, ()>) -> Result<(), Failure> {
    word.send(blob.len()).await?;
    std::future::pending::<()>().await;
    drop(blob);
    Ok(())
}

/// Makes a blob of its own, of which it passes on a clone.
#[process]
async fn owns(length: usize, mut word: Pipe<Blob, ()>) -> Result<(), Failure> {
    let blob = blob(length);
    word.send(blob.clone()).await?;
    std::future::pending::<()>().await;
    drop(blob);
    Ok(())
}

#[process]
fn prints(length: usize) {
    std::io::stdout().write_all(&pattern(length)).unwrap();
}

/// Says that it returns a blob, and sends something else.
#[process]
fn lies(is_sealed: bool, body: Vec<u8>) -> Blob {
    let memory = loose(b"unsealed");
    if is_sealed {
        fcntl_add_seals(&memory, SEALS).unwrap();
    }
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let link = UnixStream::from(pidfd_getfd(this, 3, PidfdGetfdFlags::empty()).unwrap());
    let returned = [&(body.len() as u64).to_le_bytes()[..], &[18, 1, 1, 0], &[0; 4], &body].concat();
    write_beside(&link, &returned, &[memory.as_fd()]).unwrap();
    // By then the parent has heard enough.
    Blob::new("").unwrap()
}

/// Memory that holds these bytes, without a seal.
fn loose(bytes: &[u8]) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"procession-blob", flags).unwrap());
    file.write_all(bytes).unwrap();
    file
}

fn sealed(bytes: &[u8], seals: SealFlags) -> File {
    let file = loose(bytes);
    fcntl_add_seals(&file, seals).unwrap();
    file
}

/// Memory without pages, so long; and so much beyond its end that there are pages enough.
fn sparse(length: u64, beyond: u64) -> File {
    let file = loose(&[]);
    ftruncate(&file, length).unwrap();
    if beyond > 0 {
        fallocate(&file, FallocateFlags::KEEP_SIZE, length.next_multiple_of(1 << 16), beyond).unwrap();
    }
    fcntl_add_seals(&file, SEALS).unwrap();
    file
}

/// Sealed memory of large pages, where the kernel has some; touching it could fail.
fn large_pages() -> Option<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let memory = memfd_create(c"procession-blob", flags).ok()?;
    fcntl_add_seals(&memory, SEALS).ok()?;
    Some(memory)
}

/// Writes bytes, and handles beside the first of them.
fn write_beside(socket: impl AsFd, bytes: &[u8], handles: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(handles.is_empty() || beside.push(SendAncillaryMessage::ScmRights(handles)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)
}

/// A message in a pipe, whose every handle is announced.
fn frame(handles: u16, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &handles.to_le_bytes(), &[1, 0], body].concat()
}

/// A pipe whose sender is a socket.
fn by_hand<T: procession::Message>() -> (UnixStream, Receiver<T>) {
    let (sender, receiver) = simplex().unwrap();
    (sender.as_fd().try_clone_to_owned().unwrap().into(), receiver)
}

fn limited<T>(resource: Resource, current: u64, body: impl FnOnce() -> T) -> T {
    let all = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(current), ..all }).unwrap();
    let done = body();
    setrlimit(resource, all).unwrap();
    done
}

/// A future that is ready at once.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[track_caller]
fn is_too_large(made: std::io::Result<Blob>) {
    assert_eq!(made.unwrap_err().kind(), ErrorKind::FileTooLarge);
}

/// Gives so many bytes, then an error, and knows how much it was asked for.
struct Breaks {
    left: usize,
    most: usize,
}

impl AsyncRead for Breaks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(std::io::Error::other("it broke")));
        }
        self.most = self.most.max(buffer.remaining());
        let count = buffer.remaining().min(self.left);
        self.left -= count;
        buffer.put_slice(&vec![7; count]);
        Poll::Ready(Ok(()))
    }
}

#[test]
fn the_table() {
    fn is_a_value<T: Clone + Send + Sync + Unpin + Eq + Debug + procession::Message + AsRef<[u8]> + AsFd>() {}
    is_a_value::<Blob>();
}

isolated! {
    /// SH12: an argument of any length is the same memory in the child, and says so little that its length makes no difference.
    #[limit(120)]
    async fn sh12_arguments() {
        for length in LENGTHS {
            let blob = blob(length);
            assert_eq!(*blob, *pattern(length));
            // A message of one byte or so.
            let (there, same) = in_time(knows(blob.clone(), length).max_message(32)).await.unwrap();
            assert!(there && same == identity(&blob), "{length}");
            let (there, same) = in_time(knows_plainly(blob.clone(), length).max_message(32)).await.unwrap();
            assert!(there && same == identity(&blob), "{length}");
        }
        procession::join_children().await;
        assert!(mappings().is_empty());
    }

    /// A result of any length outlives the process that has made it.
    #[limit(120)]
    async fn results() {
        for length in LENGTHS {
            let mut child = makes(length).max_message(16).spawn().await.unwrap();
            let blob = in_time(child.join()).await.unwrap();
            child.wait().await.unwrap();
            assert!(*blob == *pattern(length), "{length}");
        }
        assert!(mappings().is_empty());
    }

    /// Fields of all kinds, there and back, and the same blob more than once.
    async fn fields() {
        let twice = blob(100_000);
        let shelf = || Shelf {
            name: "all".into(),
            blobs: LENGTHS[..6].iter().map(|length| blob(*length)).chain([twice.clone(), twice.clone()]).collect(),
            one: Some(Box::new((7, blob(5)))),
        };
        let back = in_time(turns_round(shelf())).await.unwrap();
        let mut expected = shelf();
        expected.blobs.reverse();
        assert_eq!(back, expected);
        assert!(back.blobs[..2].iter().all(|blob| identity(blob) == identity(&twice)));
        // Where the function runs in this process, nothing travels.
        assert_eq!(turns_round(shelf()).local().await.unwrap(), expected);
        let empty = Shelf { name: String::new(), blobs: vec![], one: None };
        assert_eq!(in_time(turns_round(empty)).await.unwrap().blobs, []);
    }

    /// Through a pipe to a child and back: the same memory, and each clone another handle.
    #[limit(120)]
    async fn through_pipes() {
        let (mut ours, theirs) = pipe::<Shelf, Blob>().unwrap();
        let child = echoes(theirs).spawn().await.unwrap();
        for length in LENGTHS {
            let blob = blob(length);
            let blobs = vec![blob.clone(); 10];
            ours.send(Shelf { name: "ten".into(), blobs, one: None }).await.unwrap();
            for _ in 0..10 {
                let back = in_time(ours.recv()).await.unwrap().unwrap();
                assert_eq!(identity(&back), identity(&blob));
                assert!(back == blob, "{length}");
            }
        }
        drop(ours);
        in_time(child).await.unwrap().unwrap();
        assert!(mappings().is_empty());
    }

    /// Neither who has made it nor who has received it can change it, whatever he tries.
    async fn nobody_can_change_it() {
        let blob = blob(10_000);
        assert_eq!(tricks_that_work(&blob), <[&str; 0]>::default());
        assert_eq!(in_time(tries_tricks(blob.clone())).await.unwrap(), <[&str; 0]>::default());
        assert!(fcntl_get_seals(&blob).unwrap().contains(SEALS));
        assert_eq!(*blob, *pattern(10_000));
    }

    /// Neither sending nor receiving touches the bytes: a page is looked up by who reads it.
    async fn nothing_is_read_ahead() {
        let blob = blob(64 * MIB);
        assert_eq!(mappings(), [0]);
        let (untouched, last, touched) = in_time(touches(blob.clone())).await.unwrap();
        assert_eq!((untouched, Some(&last)), (vec![0], pattern(64 * MIB).last()));
        // Some pages around the one that was read; a large page, where the system makes such of shared memory.
        assert!((1..=2048).contains(&touched), "{touched} KiB");
        assert_eq!(mappings(), [0]);
    }

    /// SH14, F14: whoever has had it and ends, by itself or by SIGKILL, destroys nothing.
    async fn sh14_attach_exit_attach_again() {
        let blob = makes(MIB).await.unwrap();
        procession::join_children().await;
        let by_itself = in_time(knows(blob.clone(), MIB)).await.unwrap();
        let (mut word, theirs) = pipe::<(), usize>().unwrap();
        let mut killed = attaches(blob.clone(), theirs).spawn().await.unwrap();
        assert_eq!(in_time(word.recv()).await.unwrap(), Some(MIB));
        let (mut other_word, theirs) = pipe::<(), usize>().unwrap();
        let mut stays = attaches(blob.clone(), theirs).spawn().await.unwrap();
        assert_eq!(in_time(other_word.recv()).await.unwrap(), Some(MIB));
        assert_eq!(killed.kill().await.unwrap().signal(), Some(9));
        assert_eq!(*blob, *pattern(MIB));
        assert_eq!(in_time(knows(blob.clone(), MIB)).await.unwrap(), by_itself);
        assert_eq!(by_itself, (true, identity(&blob)));
        stays.kill().await.unwrap();
        assert_eq!(*blob, *pattern(MIB));
    }

    /// SH13, F13: the owner is killed. Others still have its memory; without them nothing of it is left, with or without a name.
    async fn sh13_the_owner_is_killed() {
        let names = || -> BTreeSet<OsString> {
            std::fs::read_dir("/dev/shm").unwrap().flatten().map(|file| file.file_name()).collect()
        };
        let is_ours = |name: &OsString| name.to_string_lossy().contains("procession");
        let before = names();
        let left = || names().difference(&before).filter(|name| is_ours(name)).count();
        for passes_on in [true, false] {
            let (mut word, theirs) = pipe::<(), Blob>().unwrap();
            let mut owner = owns(8 * MIB, theirs).spawn().await.unwrap();
            let blob = in_time(word.recv()).await.unwrap().unwrap();
            assert_eq!(left(), 0);
            if !passes_on {
                drop(blob);
                owner.kill().await.unwrap();
                continue;
            }
            owner.kill().await.unwrap();
            assert!(*blob == *pattern(8 * MIB));
            assert!(in_time(knows(blob.clone(), 8 * MIB)).await.unwrap().0);
        }
        assert_eq!((left(), mappings().len()), (0, 0));
    }

    /// What nobody has received goes with the pipe, and what was never sent with the call.
    async fn never_received() {
        let before = held();
        let (mut sender, receiver) = simplex::<Blob>().unwrap();
        for _ in 0..20 {
            sender.send(blob(100_000)).await.unwrap();
        }
        drop((sender, receiver));
        drop(knows(blob(100_000), 0));
        drop(knows(blob(100_000), 0).spawn());
        eventually(Duration::from_secs(10), || held() == before);
    }

    /// Something else in place of a blob is an error that says what it is not, of that message alone.
    #[once]
    async fn rr35_what_is_no_blob() {
        let before = held();
        let good = blob(1000);
        let (reader, _writer) = std::io::pipe().unwrap();
        let (socket, _other) = UnixStream::pair().unwrap();
        let mut on_disk = tempfile::tempfile().unwrap();
        on_disk.write_all(b"bytes").unwrap();
        // A file of tmpfs that is no memory of a process: it comes with one seal.
        let in_tmpfs = tempfile::tempfile_in("/dev/shm").unwrap();
        let ours = |seals| sealed(&[3; 1000], seals);
        let cut = loose(&[3; 100_000]);
        fcntl_add_seals(&cut, SealFlags::WRITE | SealFlags::GROW).unwrap();
        ftruncate(&cut, 10).unwrap();
        let cases: Vec<(OwnedFd, &str)> = vec![
            (loose(&[3; 1000]).into(), "it is not sealed"),
            (ours(SEALS.difference(SealFlags::WRITE)).into(), "it is not sealed"),
            (ours(SEALS.difference(SealFlags::WRITE) | SealFlags::FUTURE_WRITE).into(), "it is not sealed"),
            (ours(SEALS.difference(SealFlags::SHRINK)).into(), "it is not sealed"),
            (ours(SEALS.difference(SealFlags::GROW)).into(), "it is not sealed"),
            (ours(SEALS.difference(SealFlags::SEAL)).into(), "it is not sealed"),
            (cut.into(), "it is not sealed"),
            (sparse(1, 0).into(), "it has holes"),
            (sparse(1 << 50, 0).into(), "it has holes"),
            (sparse(1 << 20, 1 << 20).into(), "it has holes"),
            (sparse(1 << 20, 2 << 20).into(), "it has holes"),
            (reader.into(), "it is no memory"),
            (socket.into(), "it is no memory"),
            (on_disk.into(), "it is no memory"),
            (File::open("/").unwrap().into(), "it is no memory"),
            (File::open("/dev/shm").unwrap().into(), "it is no memory"),
            (File::open("/dev/zero").unwrap().into(), "it is no memory"),
            (File::open("/proc/self/mem").unwrap().into(), "it is no memory"),
            (in_tmpfs.into(), "it is not sealed"),
            (reopened(&good, OFlags::PATH), "it is no memory"),
            (reopened(&good, OFlags::WRONLY), "Permission denied"),
        ];
        let large = large_pages().map(|memory| (memory, "it is no memory"));
        for (handle, expected) in cases.into_iter().chain(large) {
            let (raw, mut receiver) = by_hand::<(Blob, u8)>();
            let held_before = held();
            write_beside(&raw, &frame(1, &[8, 1]), &[handle.as_fd()]).unwrap();
            let error = in_time(receiver.recv()).await.unwrap_err();
            let RecvError::Decode(why) = &error else { panic!("{expected}: {error:?}") };
            assert!(why.to_string().contains(&format!("no `Blob`: {expected}")), "{expected}: {why}");
            assert_eq!(held(), held_before);
            // One that can be read alone is as good as any.
            write_beside(&raw, &frame(1, &[8, 2]), &[reopened(&good, OFlags::RDONLY).as_fd()]).unwrap();
            let (next, number) = in_time(receiver.recv()).await.unwrap().unwrap();
            assert!(next == good && number == 2);
        }
        drop(good);
        assert_eq!(held(), (before.0 + 2, before.1));
    }

    /// The length is the memory's, the kind the message's: what contradicts them is not read.
    #[once]
    async fn rr35_messages_that_lie_about_blobs() {
        let good = blob(1000);
        let one = [good.as_fd()];
        let cases: [(u16, &[u8], &[BorrowedFd<'_>]); 6] =
            [(1, &[2], &one), (1, &[9], &one), (0, &[8], &[]), (1, &[], &one), (1, &[8, 200, 200], &one), (1, &[8, 8], &one)];
        for (handles, body, beside) in cases {
            let (raw, mut receiver) = by_hand::<Blob>();
            let before = held();
            write_beside(&raw, &frame(handles, body), beside).unwrap();
            let error = in_time(receiver.recv()).await.unwrap_err();
            assert!(matches!(error, RecvError::Decode(_)), "{body:?}: {error:?}");
            assert_eq!(held(), before);
        }
        let (raw, mut receiver) = by_hand::<Passed<OwnedFd>>();
        write_beside(&raw, &frame(1, &[8]), &one).unwrap();
        assert!(matches!(in_time(receiver.recv()).await.unwrap_err(), RecvError::Decode(_)));
    }

    /// The kernel's own part of it: memory that somebody has mapped to be written cannot be sealed against that.
    #[once]
    async fn memory_that_is_mapped_to_be_written() {
        let memory = OwnedFd::from(loose(&[3; 1000]));
        let (raw, mut receiver) = by_hand::<Blob>();
        let error = mapped_to_write(&memory, || {
            assert_eq!(fcntl_add_seals(&memory, SEALS), Err(Errno::BUSY));
            // A seal for the future leaves the mapping as it is.
            let rest = SEALS.difference(SealFlags::WRITE) | SealFlags::FUTURE_WRITE;
            fcntl_add_seals(&memory, rest).unwrap();
            write_beside(&raw, &frame(1, &[8]), &[memory.as_fd()]).unwrap();
            receiver.try_recv().unwrap_err()
        });
        assert!(format!("{:?}", error.unwrap()).contains("it is not sealed"));
    }

    /// 32: a child that lies in its result is an error of that call.
    async fn rr32_a_child_that_lies() {
        let before = held();
        for (is_sealed, body) in [(false, vec![8]), (true, vec![8, 0]), (true, vec![2])] {
            let error = in_time(lies(is_sealed, body)).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::Decode(_)), "{error:?}");
        }
        assert_eq!(*in_time(lies(true, vec![8])).await.unwrap(), *b"unsealed");
        procession::join_children().await;
        assert_eq!(held(), before);
    }

    /// A blob counts as a handle.
    async fn the_limit_of_handles() {
        let limits = Limits::DEFAULT.max_handles(2);
        let (mut sender, mut receiver) = simplex_with::<Vec<Blob>>(limits).unwrap();
        let one = blob(MIB);
        assert!(sender.send(vec![one.clone(); 3]).await.is_err());
        sender.send(vec![one.clone(); 2]).await.unwrap();
        assert_eq!(in_time(receiver.recv()).await.unwrap().unwrap(), [one.clone(), one]);
    }

    /// A process that can have no more descriptors makes none, receives none, and has the next one.
    #[once]
    async fn no_descriptors() {
        let (mut sender, mut receiver) = simplex::<Blob>().unwrap();
        let (one, file) = (blob(1000), File::open("/proc/self/exe").unwrap());
        let before = held();
        let all = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..all }).unwrap();
        sender.send(one.clone()).await.unwrap();
        sender.flush().await.unwrap();
        let rest: Vec<File> = std::iter::from_fn(|| file.try_clone().ok()).collect();
        let is_emfile = |made: std::io::Result<Blob>| made.unwrap_err().raw_os_error() == Some(24);
        assert!(is_emfile(Blob::new("x")) && is_emfile(Blob::from_file(&file)));
        assert!(is_emfile(Blob::from_reader(&b"x"[..]).await));
        assert_eq!(one.clone(), one);
        let error = in_time(receiver.recv()).await.unwrap_err();
        assert!(matches!(error, RecvError::NoDescriptors), "{error:?}");
        drop(rest);
        setrlimit(Resource::Nofile, all).unwrap();
        sender.send(one.clone()).await.unwrap();
        assert_eq!(in_time(receiver.recv()).await.unwrap(), Some(one));
        assert_eq!(held(), (before.0 - 1, before.1 - 1));
    }

    /// No room for the mapping: an error where it is made, and where it arrives.
    #[once]
    async fn no_address_space() {
        let (bytes, one) = (vec![1; 64 * MIB], blob(64 * MIB));
        let (mut sender, mut receiver) = simplex::<Blob>().unwrap();
        sender.send(one).await.unwrap();
        let before = held();
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        let limit = pages * rustix::param::page_size() as u64 + 32 * MIB as u64;
        let (made, came) = limited(Resource::As, limit, || (Blob::new(&bytes), receiver.try_recv()));
        assert_eq!(made.unwrap_err().kind(), ErrorKind::OutOfMemory);
        let error = came.unwrap_err();
        assert!(format!("{error:?}").contains("Cannot allocate memory"), "{error:?}");
        assert_eq!(held(), before);
    }

    /// Beyond the limit of a file's size is an error, and no signal; up to it is none.
    #[once]
    async fn files_too_large() {
        let before = held();
        let (limit, mut file) = (MIB as u64, tempfile::tempfile().unwrap());
        file.write_all(&pattern(MIB + 1)).unwrap();
        let from = |at| {
            (&file).seek(SeekFrom::Start(at)).unwrap();
            Blob::from_file(&file)
        };
        let bytes = pattern(MIB + 1);
        limited(Resource::Fsize, limit, || {
            is_too_large(Blob::new(&bytes));
            is_too_large(from(0));
            is_too_large(Blob::from_file(&File::open("/dev/zero").unwrap()));
            is_too_large(now(Blob::from_reader(&bytes[..])));
            for blob in [Blob::new(&bytes[1..]), from(1), now(Blob::from_reader(&bytes[1..]))] {
                assert_eq!(*blob.unwrap(), bytes[1..]);
            }
        });
        limited(Resource::Fsize, 0, || {
            is_too_large(Blob::new("x"));
            is_too_large(from(0));
            is_too_large(now(Blob::from_reader(&b"x"[..])));
            for blob in [Blob::new(""), from(MIB as u64 + 1), now(Blob::from_reader(&b""[..]))] {
                assert!(blob.unwrap().is_empty());
            }
        });
        assert_eq!(held(), (before.0 + 1, before.1));
    }

    /// Files of all kinds, from where they stand.
    #[once]
    async fn from_files() {
        let program = Blob::from_file(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(*program == std::fs::read("/proc/self/exe").unwrap());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(100_000)).unwrap();
        assert!(Blob::from_file(&file).unwrap().is_empty());
        file.seek(SeekFrom::Start(90_000)).unwrap();
        let end = Blob::from_file(&file).unwrap();
        assert_eq!(*end, pattern(100_000)[90_000..]);
        assert_eq!(file.stream_position().unwrap(), 100_000);
        // It is a copy.
        file.set_len(0).unwrap();
        assert_eq!(*end, pattern(100_000)[90_000..]);
        // A blob is a file, too, and stands at its beginning.
        let again = File::from(end.as_fd().try_clone_to_owned().unwrap());
        let copy = Blob::from_file(&again).unwrap();
        assert!(copy == end && identity(&copy) != identity(&end));
        // One whose length nobody knows before it is read.
        let status = Blob::from_file(&File::open("/proc/self/status").unwrap()).unwrap();
        assert!(status.starts_with(b"Name:"));
        assert_eq!(Blob::from_file(&File::open("/").unwrap()).unwrap_err().kind(), ErrorKind::IsADirectory);
        let write_only = File::options().write(true).open("/dev/null").unwrap();
        assert!(Blob::from_file(&write_only).is_err());
    }

    /// A pipe of the system, until its end.
    #[once]
    fn from_a_pipe_of_the_system() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let writes = std::thread::spawn(move || writer.write_all(&pattern(MIB)).unwrap());
        let blob = Blob::from_file(&File::from(OwnedFd::from(reader))).unwrap();
        writes.join().unwrap();
        assert!(*blob == *pattern(MIB));
    }

    /// A file that is cut short while it is read gives what was read; nobody faults.
    #[once]
    fn a_file_that_shrinks_meanwhile() {
        let mut file = tempfile::tempfile().unwrap();
        let all = pattern(MIB);
        file.write_all(&all).unwrap();
        let (other, stop) = (file.try_clone().unwrap(), std::sync::mpsc::channel::<()>());
        let shrinks = std::thread::spawn(move || {
            let mut length = 0;
            while stop.1.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                length = (length + 777_777) % MIB as u64;
                other.set_len(length).unwrap();
            }
        });
        for _ in 0..50 {
            file.rewind().unwrap();
            let blob = Blob::from_file(&file).unwrap();
            assert!(blob.len() <= MIB);
            // What was cut off is zeros when the file grows again.
            assert!(blob.iter().zip(&all).all(|(byte, was)| byte == was || *byte == 0));
        }
        drop(stop.0);
        shrinks.join().unwrap();
    }

    /// From what a child prints, from a socket, and from nothing.
    async fn from_readers() {
        let mut child = prints(3 * MIB).stdout(Stdio::piped()).spawn().await.unwrap();
        let printed = in_time(Blob::from_reader(child.stdout().unwrap())).await.unwrap();
        in_time(child.join()).await.unwrap();
        assert!(*printed == *pattern(3 * MIB));
        let (mut ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let writes = async move { ours.write_all(&pattern(3 * MIB)).await.unwrap() };
        let (read, ()) = in_time(async { tokio::join!(Blob::from_reader(theirs), writes) }).await;
        assert!(*read.unwrap() == *pattern(3 * MIB));
        assert!(Blob::from_reader(tokio::io::empty()).await.unwrap().is_empty());
    }

    /// A reader's error is told, what it gave before is gone, and it was asked for little at a time.
    #[once]
    async fn readers_that_break() {
        let before = held();
        let mut reader = Breaks { left: 10 * MIB, most: 0 };
        assert_eq!(Blob::from_reader(&mut reader).await.unwrap_err().to_string(), "it broke");
        assert!(reader.left == 0 && reader.most <= 64 << 10, "{} at once", reader.most);
        assert_eq!(held(), before);
    }

    /// A reader that always has something lets others run; one that is given up leaves nothing.
    #[once]
    async fn readers_without_end() {
        let before = held();
        let long = Breaks { left: 1 << 30, most: 0 };
        tokio::select! {
            biased;
            made = Blob::from_reader(long) => panic!("it has kept the thread: {made:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(held(), before);
        let (mut ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut silent = Box::pin(Blob::from_reader(&mut theirs));
        ours.write_all(b"read and lost").await.unwrap();
        tokio::select! {
            biased;
            made = &mut silent => panic!("{made:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(silent);
        ours.write_all(b"next").await.unwrap();
        let mut next = [0; 4];
        in_time(theirs.read_exact(&mut next)).await.unwrap();
        drop((ours, theirs));
        assert_eq!(held(), before);
    }

    /// What it shows is its length, what it equals is its content, and what it is outside of a message is an error.
    #[once]
    fn a_value() {
        let secret = Blob::new("a secret").unwrap();
        assert_eq!(format!("{secret:?}"), "Blob { len: 8, .. }");
        assert_eq!(secret, secret.clone());
        assert_eq!(secret, Blob::new(b"a secret").unwrap());
        assert_ne!(secret, Blob::new(b"a Secret").unwrap());
        assert_ne!(secret, Blob::new("").unwrap());
        assert_eq!(secret.as_ref().len(), secret.len());
        let bytes = bytes::Bytes::from_owner(secret.clone());
        assert_eq!(bytes.as_ptr(), secret.as_ptr());
        let error = serde_json::to_string(&secret).unwrap_err();
        assert!(error.to_string().contains("travels only in a message"), "{error}");
        assert!(postcard::to_stdvec(&secret).is_err());
        assert!(serde_json::from_str::<Blob>("8").is_err());
        assert!(postcard::from_bytes::<Blob>(&[8]).is_err());
        let mut read = [0; 8];
        Read::read_exact(&mut std::io::Cursor::new(secret), &mut read).unwrap();
        assert_eq!(read, *b"a secret");
    }
}
