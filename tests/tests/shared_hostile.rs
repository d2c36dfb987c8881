//! Regions from peers that are hostile, or none of ours: requirements 29 and 30.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use procession::pipe::{Receiver, RecvError, Sender, simplex_with};
use procession::shared::{Mutex, Region};
use procession::{Failure, Limits, ProcessSet, process, simplex};
use procession_tests::{eventually_async, isolated, open_fds, patience, shared_mappings};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(patience(20 * SECOND), future).await.expect("in time")
}

/// What a region is made of: its memory, with all its bytes, and its bells.
struct Parts {
    memory: Vec<u8>,
    bells: Vec<OwnedFd>,
}

/// The memory of the only region that this process has, to be written to.
fn memory_of_region() -> File {
    let fds = open_fds();
    let (number, _) = fds.iter().find(|(_, target)| target.contains("memfd:procession")).unwrap();
    File::options().read(true).write(true).open(format!("/proc/self/fd/{number}")).unwrap()
}

/// Those of a lock, which is at 2120, as each region's first object is.
fn parts() -> Parts {
    let _lock = Mutex::new(5_u64).unwrap();
    let file = memory_of_region();
    let mut memory = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut memory, 0).unwrap();
    // As after its last member has left.
    memory[MEMBERS..OBJECTS].fill(0);
    let (one, other) = UnixStream::pair().unwrap();
    Parts { memory, bells: vec![one.into(), other.into()] }
}

const MEMBERS: usize = 64;
const SLOTS: usize = 254;
const OBJECTS: usize = 2112;
const PLACE: u64 = OBJECTS as u64 + 8;
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let memory = memfd_create(c"by hand", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let file = File::from(memory);
    file.write_all_at(bytes, 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

/// A message with a lock, by hand: what kind of handle, how many descriptors, which is the first, and where it stands.
fn frame(descriptors: usize, place: u64) -> Vec<u8> {
    let mut body = vec![9, descriptors as u8, 0];
    let mut rest = place;
    while rest >= 0x80 {
        body.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    body.push(rest as u8);
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend((descriptors as u16).to_le_bytes());
    frame.extend([1, 0]);
    frame.extend(body);
    frame
}

fn write_beside(socket: impl AsFd, bytes: &[u8], handles: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(handles.is_empty() || beside.push(SendAncillaryMessage::ScmRights(handles)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL).unwrap();
}

/// What comes of a lock that consists of these.
async fn comes_of(handles: &[BorrowedFd<'_>], place: u64) -> Result<Mutex<u64>, RecvError> {
    let (sender, mut receiver): (_, Receiver<Mutex<u64>>) = simplex_with(Limits::DEFAULT).unwrap();
    let socket = UnixStream::from(sender.as_fd().try_clone_to_owned().unwrap());
    write_beside(&socket, &frame(handles.len(), place), handles);
    in_time(receiver.recv()).await.map(|came| came.expect("it is no end"))
}

#[process]
async fn adds(total: Mutex<u64>, times: u32) -> Result<(), Failure> {
    for _ in 0..times {
        *total.lock().await? += 1;
    }
    Ok(())
}

/// Writes random numbers over all of the region, for as long as it lives.
#[process]
fn scribbles(lock: Mutex<u64>, until: Duration) {
    let memory = memory_of_region();
    let (words, began) = (memory.metadata().unwrap().len() / 8, Instant::now());
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    while began.elapsed() < until {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Small numbers are more often something than large ones.
        let value = random >> (random % 64);
        memory.write_all_at(&value.to_le_bytes(), random % words * 8).unwrap();
    }
    drop(lock);
}

/// Locks with a time limit, for so long: whatever comes of it, it comes in time. How often it came to something.
#[process]
async fn tries(lock: Mutex<u64>, until: Duration, mut begins: Sender<()>) -> u64 {
    begins.send(()).await.unwrap();
    let (began, limit) = (Instant::now(), Duration::from_millis(10));
    let mut times = 0;
    while began.elapsed() < until {
        let tried = Instant::now();
        match timeout(limit, lock.lock()).await {
            Ok(Ok(mut guard)) => *guard += 1,
            Ok(Err(died)) => *died.recover() += 1,
            Err(_elapsed) => {}
        }
        drop(lock.try_lock());
        drop((lock.owner(), format!("{lock:?}")));
        assert!(tried.elapsed() < patience(10 * SECOND), "a wait could not be given up");
        times += 1;
    }
    times
}

isolated! {
    /// The control: what the others are made of is a lock.
    #[once]
    async fn rr30_one_made_by_hand() {
        let Parts { memory: bytes, bells } = parts();
        let before = open_fds().len();
        let memory = memory(&bytes, SEALS);
        let lock = comes_of(&[memory.as_fd(), bells[0].as_fd(), bells[1].as_fd()], PLACE).await.unwrap();
        assert_eq!(*in_time(lock.lock()).await.unwrap(), 5);
        drop((lock, memory));
        eventually_async(20 * SECOND, || open_fds().len() == before).await;
    }

    /// 30: what is no region is refused, says why, and leaves nothing.
    #[once]
    async fn rr30_regions_that_are_none() {
        let Parts { memory: bytes, bells } = parts();
        let (fds, mappings) = (open_fds().len(), shared_mappings());
        let with = |at: usize, value: u64| {
            let mut other = bytes.clone();
            other[at..at + 8].copy_from_slice(&value.to_le_bytes());
            memory(&other, SEALS)
        };
        let sparse = File::from(memory(&bytes, SealFlags::empty()));
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&sparse, hole, 0, bytes.len() as u64).unwrap();
        fcntl_add_seals(&sparse, SEALS).unwrap();
        let cases: Vec<(OwnedFd, u64, &str)> = vec![
            (memory(&bytes, SealFlags::empty()), PLACE, "not sealed"),
            (memory(&bytes, SealFlags::GROW | SealFlags::SEAL), PLACE, "not sealed"),
            (memory(&bytes[..2048], SEALS), PLACE, "shorter than it says"),
            (memory(&[], SEALS), PLACE, "shorter than it says"),
            (sparse.into(), PLACE, "shorter than it says"),
            (memory(&vec![0; bytes.len()], SEALS), PLACE, "none of this version"),
            (with(0, u64::from_le_bytes(*b"procreg2")), PLACE, "none of this version"),
            (with(8, 1 << 30), PLACE, "not as it says"),
            (with(16, 4), PLACE, "not as it says"),
            (File::open("/proc/self/exe").unwrap().into(), PLACE, "no memory"),
            (std::io::pipe().unwrap().0.into(), PLACE, "no memory"),
            (UnixStream::pair().unwrap().0.into(), PLACE, "no memory"),
            // Where nothing stands, or something else.
            (memory(&bytes, SEALS), 0, "no such object"),
            (memory(&bytes, SEALS), PLACE + 1, "no such object"),
            (memory(&bytes, SEALS), PLACE + 64, "no such object"),
            (memory(&bytes, SEALS), u64::MAX, "no such object"),
            (memory(&bytes, SEALS), 4096, "no such object"),
            (with(OBJECTS, 32 << 8 | 200), PLACE, "no such object"),
            (with(OBJECTS, u64::MAX << 8 | 1), PLACE, "no such object"),
            (with(OBJECTS, 8 << 8 | 1), PLACE, "of another size"),
        ];
        for (n, (memory, place, why)) in cases.iter().enumerate() {
            let handles = [memory.as_fd(), bells[0].as_fd(), bells[1].as_fd()];
            let error = comes_of(&handles, *place).await.unwrap_err();
            let error = format!("{error:?}");
            assert!(error.starts_with("Decode") && error.contains(why), "case {n}, {why}: {error}");
        }
        drop(cases);
        eventually_async(20 * SECOND, || (open_fds().len(), &shared_mappings()) == (fds, &mappings)).await;
    }

    /// 30: bells that are none, are too few, or too many.
    #[once]
    async fn rr30_bells_that_are_none() {
        let Parts { memory: bytes, bells } = parts();
        let (fds, mappings) = (open_fds().len(), shared_mappings());
        let memory = memory(&bytes, SEALS);
        let (one, other) = (bells[0].as_fd(), bells[1].as_fd());
        let file = File::open("/dev/null").unwrap();
        let datagrams = std::os::unix::net::UnixDatagram::pair().unwrap();
        let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let cases: [&[BorrowedFd<'_>]; 8] = [
            &[],
            &[one],
            &[one, other, one],
            &[one, other, one, other],
            &[memory.as_fd(), memory.as_fd()],
            &[file.as_fd(), file.as_fd()],
            &[datagrams.0.as_fd(), datagrams.1.as_fd()],
            &[one, network.as_fd()],
        ];
        for (n, bells) in cases.iter().enumerate() {
            let handles: Vec<_> = [&[memory.as_fd()], *bells].concat();
            let error = comes_of(&handles, PLACE).await.unwrap_err();
            assert!(matches!(error, RecvError::Decode { .. }), "case {n}: {error:?}");
        }
        let many: Vec<_> = [memory.as_fd()].into_iter().chain([one; 34]).collect();
        comes_of(&many, PLACE).await.unwrap_err();
        drop((memory, file, datagrams, network));
        eventually_async(20 * SECOND, || (open_fds().len(), &shared_mappings()) == (fds, &mappings)).await;
    }

    /// 30: what a peer can do to the memory afterwards: nothing that makes it shorter, and holes are zeros.
    async fn rr30_memory_that_is_changed_later() {
        let lock = Mutex::new(5_u64).unwrap();
        let memory = memory_of_region();
        assert!(ftruncate(&memory, 0).is_err() && ftruncate(&memory, 1 << 20).is_err());
        assert!(fcntl_add_seals(&memory, SealFlags::FUTURE_WRITE).is_err());
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&memory, hole, 0, memory.metadata().unwrap().len()).unwrap();
        assert_eq!(*in_time(lock.lock()).await.unwrap(), 0);
        // It has no header any more: nobody else gets it.
        assert!(in_time(adds(lock.clone(), 1)).await.is_err());
    }

    /// As many processes as a region has slots for, and one more: it is told why. Slots of the dead are taken.
    async fn all_slots_are_taken() {
        let lock = Mutex::new(5_u64).unwrap();
        let memory = memory_of_region();
        let mut mine = [0; 8];
        memory.read_exact_at(&mut mine, MEMBERS as u64).unwrap();
        // All of them are this process.
        for slot in 0..SLOTS {
            memory.write_all_at(&mine, (MEMBERS + 8 * slot) as u64).unwrap();
        }
        let error = in_time(adds(lock.clone(), 1)).await.unwrap_err();
        assert!(format!("{error:?}").contains("a region has 254 processes, and no room for more"), "{error:?}");
        // One of them is a process that has died: one of the same number that was started in another tick.
        let word = u64::from_le_bytes(mine);
        let dead = word & !(((1 << 24) - 1) << 22) | 1 << 22;
        memory.write_all_at(&dead.to_le_bytes(), (MEMBERS + 8 * 200) as u64).unwrap();
        in_time(adds(lock.clone(), 1)).await.unwrap().unwrap();
        assert_eq!(*in_time(lock.lock()).await.unwrap(), 6);
        let region = Region::with_capacity(0).unwrap();
        assert_eq!(region.members(), [std::process::id()]);
    }

    /// 29: one writes whatever it likes, wherever it likes. The others wait as long as they want to, and live.
    #[limit(120)]
    async fn rr29_scribbled_over() {
        let lock = Mutex::new(5_u64).unwrap();
        let until = Duration::from_secs(1);
        let mut set = ProcessSet::new();
        for _ in 0..4 {
            let (begins, mut begun) = simplex().unwrap();
            set.spawn(tries(lock.clone(), 2 * until, begins)).await.unwrap();
            in_time(begun.recv()).await.unwrap().unwrap();
        }
        let mut hostile = scribbles(lock.clone(), until).spawn().await.unwrap();
        while let Some(ended) = in_time(set.join_next()).await {
            assert!(ended.unwrap() > 0);
        }
        in_time(hostile.join()).await.unwrap();
        drop(timeout(Duration::from_millis(10), lock.lock()).await);
    }
}
