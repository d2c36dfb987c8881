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
use procession::shared::{
    Array, Atomic, Barrier, Condvar, Event, Mutex, ReentrantMutex, Region, RwLock, Semaphore,
};
use procession::{Failure, Limits, ProcessSet, process, simplex};
use procession_tests::{eventually_async, in_time, isolated, open_fds, patience, shared_mappings};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

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
    Parts { memory, bells: vec![bell(), bell()] }
}

fn bell() -> OwnedFd {
    timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap()
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

/// One of each kind, in one region.
#[derive(Clone, Serialize, Deserialize)]
struct Everything {
    region: Region,
    mutex: Mutex<u64>,
    reentrant: ReentrantMutex<u64>,
    rwlock: RwLock<[u64; 2]>,
    semaphore: Semaphore,
    event: Event,
    barrier: Barrier,
    condvar: Condvar,
    atomic: Atomic<u32>,
    array: Array<u16>,
}

impl Everything {
    fn new() -> Self {
        let region = Region::with_capacity(32 << 10).unwrap();
        Self {
            mutex: Mutex::new_in(&region, 0).unwrap(),
            reentrant: ReentrantMutex::new_in(&region, 0).unwrap(),
            rwlock: RwLock::new_in(&region, [0; 2]).unwrap(),
            semaphore: Semaphore::new_in(&region, 3).unwrap(),
            event: Event::new_in(&region).unwrap(),
            barrier: Barrier::new_in(&region, 2).unwrap(),
            condvar: Condvar::new_in(&region).unwrap(),
            atomic: Atomic::new_in(&region, 0).unwrap(),
            array: Array::zeroed_in(&region, 100).unwrap(),
            region,
        }
    }

    /// All that can be done without waiting.
    fn use_at_once(&self) {
        drop((
            self.mutex.try_lock(),
            self.reentrant.try_lock(),
            self.rwlock.try_read(),
            self.rwlock.try_write(),
        ));
        drop((self.mutex.owner(), self.reentrant.owner(), self.rwlock.writer(), self.rwlock.reading()));
        drop((self.semaphore.try_acquire(), self.semaphore.try_acquire_many(2)));
        _ = (self.semaphore.available_permits(), self.semaphore.add_permits(1));
        _ = (self.barrier.is_broken(), self.barrier.waiting(), self.event.is_set());
        self.barrier.reset();
        self.condvar.notify_n(2);
        self.condvar.notify_all();
        _ = (self.atomic.fetch_add(1), self.atomic.update(|n| n ^ 1), self.atomic.fetch_max(7));
        _ = (self.atomic.compare_exchange(0, 1), self.atomic.swap(2));
        assert_eq!((self.array.len(), self.array.to_vec().len(), self.array.iter().count()), (100, 100, 100));
        assert!(self.array.get(100).is_err() && self.array.write(99, &[1, 2]).is_err());
        _ = (self.array.set(7, 7), self.array.fetch_add(99, 1), self.array.write(3, &[1; 50]));
        drop((self.array.try_lock(), self.region.members(), self.all_shown()));
        drop((Event::new_in(&self.region), Array::<u64>::zeroed_in(&self.region, 10)));
    }

    fn all_shown(&self) -> String {
        let Self { region, mutex, reentrant, rwlock, semaphore, event, barrier, condvar, atomic, array } =
            self;
        let one = format!("{region:?} {mutex:?} {reentrant:?} {rwlock:?} {semaphore:?}");
        format!("{one} {event:?} {barrier:?} {condvar:?} {atomic:?} {array:?}")
    }

    /// All that one can wait for, each with a limit; and the same with somebody else of this process, who may have what it waits for.
    async fn use_patiently(&self) {
        gives_up(async { *self.mutex.lock().await.unwrap_or_else(|died| died.recover()) = 1 }).await;
        gives_up(async {
            match self.reentrant.lock().await {
                Ok(guard) => guard.reenter().set(1),
                Err(died) => died.recover().reenter().set(1),
            }
        })
        .await;
        gives_up(async { drop(self.rwlock.read().await) }).await;
        gives_up(async { drop(self.rwlock.read().await.map_err(|died| died.recover())) }).await;
        gives_up(async { self.rwlock.write().await.unwrap_or_else(|died| died.recover())[1] = 1 }).await;
        gives_up(async { drop((self.semaphore.acquire().await, self.semaphore.acquire_many(2).await)) })
            .await;
        self.event.clear();
        gives_up(async { tokio::join!(self.event.wait(), async { self.event.set() }) }).await;
        gives_up(async { tokio::join!(self.barrier.wait(), self.barrier.wait_with(|| ())) }).await;
        gives_up(async {
            self.barrier.wait().await.is_err_and(|_| {
                self.barrier.abort();
                true
            })
        })
        .await;
        gives_up(async { drop(self.array.lock().await.map_err(|died| died.recover())) }).await;
        let waits = async {
            let guard = self.mutex.lock().await.unwrap_or_else(|died| died.recover());
            drop(self.condvar.wait(guard).await.map_err(|died| died.recover()));
        };
        let notifies = async {
            tokio::task::yield_now().await;
            self.condvar.notify_one();
        };
        gives_up(async { tokio::join!(waits, notifies) }).await;
    }
}

/// Waits for a moment. It is a defect if that cannot be given up: then no poll of it returns.
async fn gives_up(future: impl Future) {
    let began = Instant::now();
    drop(timeout(Duration::from_millis(10), future).await);
    assert!(began.elapsed() < patience(10 * SECOND), "a wait could not be given up");
}

/// Uses all of it for so long, and says when it begins. How often it was done.
#[process]
async fn uses(all: Everything, until: Duration, mut begins: Sender<()>) -> u64 {
    begins.send(()).await.unwrap();
    let began = Instant::now();
    let mut times = 0;
    while began.elapsed() < until {
        all.use_patiently().await;
        let tried = Instant::now();
        all.use_at_once();
        assert!(tried.elapsed() < patience(10 * SECOND), "one step took for ever");
        times += 1;
    }
    times
}

/// Comes when all is scribbled over, and uses it if it can be had at all.
#[process]
async fn comes_later(all: Everything) {
    all.use_patiently().await;
    all.use_at_once();
}

/// What a hostile process writes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Hand {
    /// Whatever comes.
    Random,
    /// Only ones, and now and then what was there before.
    Ones,
    /// Only zeros, and now and then what was there before.
    Zeros,
    /// What the others write: in another place, with another bit, or with other members' names.
    Plausible,
}

/// Writes over all that is shared, again and again.
#[process]
fn writes_over(all: Everything, hand: Hand, until: Duration) {
    let memory = memory_of_region();
    let mut before = vec![0; memory.metadata().unwrap().len() as usize];
    memory.read_exact_at(&mut before, 0).unwrap();
    let (mut random, began) = (Random(0x9E37_79B9_7F4A_7C15), Instant::now());
    let mut bytes = before.clone();
    while began.elapsed() < until {
        match hand {
            Hand::Random => {
                bytes.as_chunks_mut().0.iter_mut().for_each(|word| *word = random.small().to_ne_bytes())
            }
            Hand::Ones => bytes.fill(0xFF),
            Hand::Zeros => bytes.fill(0),
            Hand::Plausible => {
                plausible(&memory, &mut random, &mut bytes);
                continue;
            }
        }
        memory.write_all_at(&bytes, 0).unwrap();
        if random.below(4) == 0 {
            memory.write_all_at(&before, 0).unwrap();
        }
    }
    drop(all);
}

/// Puts some words in place of others, one by one.
fn plausible(memory: &File, random: &mut Random, bytes: &mut [u8]) {
    memory.read_exact_at(bytes, 0).unwrap();
    let (words, _) = bytes.as_chunks();
    for _ in 0..64 {
        let (from, to) = (random.below(words.len()), random.below(words.len()));
        let word = u64::from_ne_bytes(words[from]);
        // A slot and a generation, as they stand in a lock, and in a ledger.
        let (slot, generation) = (random.below(SLOTS + 2) as u64, random.below(4) as u64);
        let word = match random.below(6) {
            0 => word,
            1 => word ^ 1 << random.below(64),
            2 => word.wrapping_add(1),
            3 => (slot | generation << 8) << 8 | random.below(8) as u64,
            4 => generation << 46 | random.below(4) as u64 | (random.below(4) as u64) << 23,
            // Permits that are on their way, from or to a slot.
            _ => {
                (random.below(4) as u64) << 62
                    | slot << 32
                    | (random.below(4) as u64) << 16
                    | random.below(4) as u64
            }
        };
        memory.write_all_at(&word.to_ne_bytes(), 8 * to as u64).unwrap();
    }
}

/// Numbers without a pattern, the same ones each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Small numbers are more often something than large ones.
    fn small(&mut self) -> u64 {
        let number = self.next();
        number >> (number % 64)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }
}

/// What the others have to go through while one writes over everything, and after that.
async fn written_over(hand: Hand) {
    let (all, until) = (Everything::new(), Duration::from_millis(700));
    let mut set = ProcessSet::new();
    for _ in 0..2 {
        let (begins, mut begun) = simplex().unwrap();
        set.spawn(uses(all.clone(), 2 * until, begins)).await.unwrap();
        in_time(begun.recv()).await.unwrap().unwrap();
    }
    let mut hostile = writes_over(all.clone(), hand, until).spawn().await.unwrap();
    // As a rule it is told that this is no region; it may find that it is one.
    for _ in 0..5 {
        if let Err(error) = in_time(comes_later(all.clone())).await {
            assert!(!format!("{error}").contains("panicked"), "{error}");
        }
    }
    while let Some(ended) = in_time(set.join_next()).await {
        assert!(ended.unwrap() > 0);
    }
    in_time(hostile.join()).await.unwrap();
    in_time(all.use_patiently()).await;
    all.use_at_once();
    drop(all);
    works().await;
}

/// That another region is as it should be.
async fn works() {
    let all = Everything::new();
    let mutex = all.mutex.clone();
    in_time(adds(mutex.clone(), 10)).await.unwrap().unwrap();
    assert_eq!(*in_time(mutex.lock()).await.unwrap(), 10);
    let until = Duration::from_millis(1);
    let (begins, mut begun) = simplex().unwrap();
    let mut child = uses(all.clone(), until, begins).spawn().await.unwrap();
    in_time(begun.recv()).await.unwrap().unwrap();
    assert!(in_time(child.join()).await.unwrap() > 0);
    // What that one has put there.
    assert_eq!(*in_time(mutex.lock()).await.unwrap(), 1);
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
            (with(0, u64::from_le_bytes(*b"procreg9")), PLACE, "none of this version"),
            (with(8, 1 << 30), PLACE, "not as it says"),
            (with(16, 4), PLACE, "not as it says"),
            (with(40, 1), PLACE, "another pid namespace"),
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
        let counter = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let sockets = UnixStream::pair().unwrap();
        let cases: [&[BorrowedFd<'_>]; 9] = [
            &[],
            &[one],
            &[one, other, one],
            &[one, other, one, other],
            &[memory.as_fd(), memory.as_fd()],
            &[file.as_fd(), file.as_fd()],
            &[counter.as_fd(), counter.as_fd()],
            &[sockets.0.as_fd(), sockets.1.as_fd()],
            &[one, file.as_fd()],
        ];
        for (n, bells) in cases.iter().enumerate() {
            let handles: Vec<_> = [&[memory.as_fd()], *bells].concat();
            let error = comes_of(&handles, PLACE).await.unwrap_err();
            assert!(matches!(error, RecvError::Decode { .. }), "case {n}: {error:?}");
        }
        let many: Vec<_> = [memory.as_fd()].into_iter().chain([one; 34]).collect();
        comes_of(&many, PLACE).await.unwrap_err();
        drop((memory, file, counter, sockets));
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
    /// 29: the same of everything that can stand in a region, with whatever comes.
    #[limit(120)]
    async fn rr29_written_over_at_random() {
        written_over(Hand::Random).await;
    }

    /// 29: with ones only.
    #[limit(120)]
    async fn rr29_written_over_with_ones() {
        written_over(Hand::Ones).await;
    }

    /// 29: with zeros only: as if nobody took part.
    #[limit(120)]
    async fn rr29_written_over_with_zeros() {
        written_over(Hand::Zeros).await;
    }

    /// 29: with what the others could have written themselves.
    #[limit(120)]
    async fn rr29_written_over_plausibly() {
        written_over(Hand::Plausible).await;
    }
}
