//! Mailboxes of peers that are hostile: requirements 29 and 30 (handles that lie, memory that is cut short).
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use procession::mailbox::{Builder, Receiver, Sender, TryRecvError, TrySendError, WeakSender};
use procession::pipe::{self, RecvError, simplex_with};
use procession::{Limits, Message, ProcessSet, mailbox, process, simplex};
use procession_tests::{eventually_async, in_time, isolated, open_fds, patience, shared_mappings};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, fallocate, ftruncate, memfd_create, open};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// The memory of this name, to be written to.
fn memory(name: &str) -> File {
    let fds = open_fds();
    let (number, _) = fds.iter().find(|(_, target)| target.contains(name)).unwrap();
    File::options().read(true).write(true).open(format!("/proc/self/fd/{number}")).unwrap()
}

/// The pipes of the system that this process has, to be written to: but for those that it has from its beginning, its standard streams
/// and the one that kills it when its parent has ended.
fn pipes() -> Vec<File> {
    let fds = open_fds();
    let is_from_the_beginning =
        |target: &String| fds.iter().any(|(number, other)| *number < 5 && other == target);
    let found =
        fds.iter().filter(|(_, target)| target.starts_with("pipe:") && !is_from_the_beginning(target));
    let opened = found.filter_map(|(number, _)| {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        open(format!("/proc/self/fd/{number}"), flags, Mode::empty()).ok()
    });
    opened.map(File::from).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Writes random numbers over all that a mailbox has, for so long.
#[process]
fn scribbles(outbox: Sender<Vec<u8>>, inbox: Receiver<Vec<u8>>, until: Duration) {
    use std::io::Write;
    let (region, large, mut pipes) = (memory("procession-region"), memory("procession-mailbox"), pipes());
    assert!(pipes.len() >= 2, "it has lives");
    let (words, began) = (region.metadata().unwrap().len() / 8, Instant::now());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut before, mut whole) = ([0; 8], vec![0; 8 * words.min(300) as usize]);
    region.read_exact_at(&mut whole, 0).unwrap();
    while began.elapsed() < until {
        let number = random.next();
        // The words of the protocol more often than the bodies; and what is near to what is there.
        let end = if number.is_multiple_of(4) { words } else { words.min(300) };
        let at = random.next() % end * 8;
        region.read_exact_at(&mut before, at).unwrap();
        let value = match number % 3 {
            0 => u64::from_le_bytes(before) ^ 1 << (random.next() % 64),
            1 => u64::from_le_bytes(before).wrapping_add(random.next() % 5).wrapping_sub(2),
            _ => random.next() >> (random.next() % 64),
        };
        region.write_all_at(&value.to_le_bytes(), at).unwrap();
        // Else it is soon one that is closed, and stays so.
        if number.is_multiple_of(64) {
            region.write_all_at(&whole, 0).unwrap();
        }
        if number.is_multiple_of(16) {
            let _full = large.write_all_at(&value.to_le_bytes(), (random.next() % 20) << 12);
            let _cut = ftruncate(&large, random.next() % (1 << 20));
            let _full = pipes.iter_mut().map(|pipe| pipe.write(&[7; 100])).count();
        }
    }
    drop((outbox, inbox));
}

/// Sends by all ways for so long, or until it is closed; whatever comes of it comes in time. Gives how often it tried.
#[process]
async fn tries_to_send(outbox: Sender<Vec<u8>>, until: Duration, mut begins: pipe::Sender<()>) -> u64 {
    begins.send(()).await.unwrap();
    let (began, limit) = (Instant::now(), Duration::from_millis(10));
    let mut times = 0;
    while began.elapsed() < until {
        let tried = Instant::now();
        let message = vec![7; if times % 8 == 0 { 5000 } else { 9 }];
        match times % 5 {
            0 => drop(timeout(limit, outbox.send(message)).await),
            1 => drop(outbox.try_send(message)),
            2 => drop(outbox.try_reserve()),
            3 => drop(timeout(limit, outbox.drained()).await),
            _ => drop(timeout(limit, outbox.closed()).await),
        }
        drop((outbox.len(), outbox.is_full(), outbox.is_closed(), format!("{outbox:?}")));
        assert!(tried.elapsed() < patience(10 * SECOND), "a wait could not be given up");
        times += 1;
    }
    times
}

#[process]
async fn tries_to_receive(inbox: Receiver<Vec<u8>>, until: Duration, mut begins: pipe::Sender<()>) -> u64 {
    begins.send(()).await.unwrap();
    let (began, limit) = (Instant::now(), Duration::from_millis(10));
    let mut times = 0;
    while began.elapsed() < until {
        let tried = Instant::now();
        match times % 5 {
            0 => drop(timeout(limit, inbox.recv()).await),
            1 => drop(inbox.try_recv()),
            2 => {
                let delivery = timeout(limit, inbox.recv_ack()).await.ok().flatten();
                drop(delivery.map(|delivery| if times % 2 == 0 { delivery.ack() } else { Vec::new() }));
            }
            3 => drop(timeout(limit, inbox.poisoned()).await),
            _ => drop(timeout(limit, inbox.recv_many(&mut Vec::new(), 5)).await),
        }
        drop((inbox.len(), inbox.is_full(), inbox.unreadable(), format!("{inbox:?}")));
        assert!(tried.elapsed() < patience(10 * SECOND), "a wait could not be given up");
        times += 1;
    }
    times
}

/// Sends one, and keeps its end.
#[process]
async fn greets(outbox: Sender<u64>) {
    outbox.send(5).await.unwrap();
    std::future::pending().await
}

/// What stands in a frame, as numbers, and what came beside it.
#[derive(Debug)]
struct Parts {
    numbers: Vec<u64>,
    handles: Vec<OwnedFd>,
}

/// Reads what was sent: all of it are numbers.
fn parts(socket: impl AsFd) -> Parts {
    let (mut bytes, mut space) = ([0; 512], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))]);
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let count = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)
        .unwrap()
        .bytes;
    let rights = |message| {
        if let RecvAncillaryMessage::ScmRights(rights) = message { rights.collect() } else { Vec::new() }
    };
    let handles = beside.drain().flat_map(rights).collect();
    let mut numbers = Vec::new();
    let (mut number, mut shift) = (0, 0);
    for byte in &bytes[8..count] {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    Parts { numbers, handles }
}

fn frame(numbers: &[u64], handles: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for mut number in numbers.iter().copied() {
        while number >= 0x80 {
            body.push(number as u8 | 0x80);
            number >>= 7;
        }
        body.push(number as u8);
    }
    [&(body.len() as u32).to_le_bytes()[..], &(handles as u16).to_le_bytes(), &[1, 0], &body].concat()
}

fn write_beside(socket: impl AsFd, bytes: &[u8], handles: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(handles.is_empty() || beside.push(SendAncillaryMessage::ScmRights(handles)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL).unwrap();
}

/// What a message consists of on its way.
async fn parts_of<T: Message>(message: T) -> Parts {
    let (mut sender, receiver) = simplex_with::<T>(Limits::DEFAULT).unwrap();
    sender.send(message).await.unwrap();
    parts(&receiver)
}

/// What comes of these.
async fn comes_of<T: Message>(numbers: &[u64], handles: &[BorrowedFd<'_>]) -> Result<T, RecvError> {
    let (sender, mut receiver) = simplex_with::<T>(Limits::DEFAULT).unwrap();
    write_beside(&sender, &frame(numbers, handles.len()), handles);
    in_time(receiver.recv()).await.map(|came| came.expect("it is no end"))
}

/// Uses one that may be anything.
fn use_it(outbox: &Sender<u64>) {
    drop((outbox.try_send(7), outbox.try_reserve(), outbox.len(), outbox.is_full(), outbox.is_closed()));
    drop((outbox.capacity(), format!("{outbox:?}"), outbox.clone(), outbox.downgrade().upgrade()));
}

/// Which number says what, in the order in which they are written.
const TYPE: usize = 0;
const ROLE: usize = 1;
const CAPACITY: usize = 2;
const SLOT: usize = 3;
const LARGEST: usize = 4;

isolated! {
    /// The control: what the others are made of is a mailbox.
    #[once]
    async fn one_made_by_hand() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        let Parts { numbers, handles } = parts_of(outbox).await;
        assert_eq!((numbers[CAPACITY], numbers[SLOT], numbers[LARGEST]), (4, 1072, 16 << 20));
        let beside: Vec<_> = handles.iter().map(AsFd::as_fd).collect();
        let outbox: Sender<u64> = comes_of(&numbers, &beside).await.unwrap();
        outbox.try_send(7).unwrap();
        assert_eq!(inbox.try_recv().unwrap(), 7);
    }

    /// 29, 30: each number of a handle is another one: it is refused, or what can be done with it ends.
    #[limit(120)]
    #[once]
    async fn handles_that_lie() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        let Parts { numbers, handles } = parts_of(outbox.clone()).await;
        let beside: Vec<_> = handles.iter().map(AsFd::as_fd).collect();
        let (fds, mappings) = (open_fds().len(), shared_mappings());
        for (at, was) in numbers.iter().copied().enumerate() {
            let others = [0, 1, 2, was + 1, was.wrapping_sub(1), was.wrapping_mul(2), 1 << 15, 1 << 31, u64::from(u32::MAX), 1 << 62, u64::MAX];
            for number in others.into_iter().filter(|number| *number != was) {
                let mut numbers = numbers.clone();
                numbers[at] = number;
                let came = comes_of::<Sender<u64>>(&numbers, &beside).await;
                let is_refused = came.is_err();
                // One byte less in a slot is the same size.
                let may_be = ![TYPE, ROLE, CAPACITY].contains(&at) && at != numbers.len() - 1;
                assert!(is_refused || may_be && (at != SLOT || number == was - 1), "{at}: {number}");
                assert!(is_refused || at != LARGEST || number < 1 << 61, "the largest is {number}");
                came.iter().for_each(use_it);
            }
        }
        // An end is none of another kind.
        comes_of::<Receiver<u64>>(&numbers, &beside).await.unwrap_err();
        comes_of::<WeakSender<u64>>(&numbers, &beside).await.unwrap_err();
        comes_of::<Sender<u32>>(&numbers, &beside).await.unwrap_err();
        eventually_async(20 * SECOND, || (open_fds().len(), &shared_mappings()) == (fds, &mappings)).await;
        drop((outbox, inbox));
    }

    /// What came beside a handle is something else, or not all of it came.
    #[once]
    async fn descriptors_that_are_none() {
        let (outbox, inbox) = mailbox::<u64>(4).unwrap();
        let Parts { numbers, handles } = parts_of(outbox.clone()).await;
        let before = (open_fds().len(), shared_mappings());
        // In which places each may be: three are lives, the fourth is the memory for long messages, the region's own comes behind it,
        // and then its bells.
        assert_eq!(handles.len(), 7);
        let others: [(OwnedFd, Range<usize>); 8] = [
            (File::open("/dev/null").unwrap().into(), 0..0),
            (File::open("/proc/self/exe").unwrap().into(), 0..0),
            (File::open("/").unwrap().into(), 0..0),
            (UnixStream::pair().unwrap().0.into(), 0..0),
            (eventfd(0, EventfdFlags::CLOEXEC).unwrap(), 0..0),
            (std::io::pipe().unwrap().0.into(), 0..3),
            (memfd_create(c"by hand", MemfdFlags::CLOEXEC).unwrap(), 3..4),
            (timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap(), 5..7),
        ];
        for at in 0..handles.len() {
            for (n, (other, places)) in others.iter().enumerate() {
                let mut beside: Vec<_> = handles.iter().map(AsFd::as_fd).collect();
                beside[at] = other.as_fd();
                let came = comes_of::<Sender<u64>>(&numbers, &beside).await;
                assert_eq!(came.is_ok(), places.contains(&at), "{n} in the place of {at}: {came:?}");
                came.iter().for_each(use_it);
            }
            let beside: Vec<_> = handles.iter().take(at).map(AsFd::as_fd).collect();
            comes_of::<Sender<u64>>(&numbers, &beside).await.unwrap_err();
        }
        drop(others);
        eventually_async(20 * SECOND, || (open_fds().len(), shared_mappings()) == before).await;
        drop((outbox, inbox));
    }

    /// 29: one writes whatever it likes, wherever it can. The others wait as long as they want to, and live.
    #[limit(180)]
    async fn rr29_scribbled_over() {
        let (outbox, inbox) = mailbox::<Vec<u8>>(6).unwrap();
        let until = Duration::from_secs(1);
        let mut set = ProcessSet::new();
        for _ in 0..2 {
            let (begins, mut begun) = simplex().unwrap();
            set.spawn(tries_to_send(outbox.clone(), 2 * until, begins)).await.unwrap();
            in_time(begun.recv()).await.unwrap().unwrap();
            let (begins, mut begun) = simplex().unwrap();
            set.spawn(tries_to_receive(inbox.clone(), 2 * until, begins)).await.unwrap();
            in_time(begun.recv()).await.unwrap().unwrap();
        }
        let mut hostile = scribbles(outbox.clone(), inbox.clone(), until).spawn().await.unwrap();
        while let Some(ended) = timeout(patience(60 * SECOND), set.join_next()).await.expect("in time") {
            assert!(ended.unwrap() > 0);
        }
        in_time(hostile.join()).await.unwrap();
        drop((timeout(Duration::from_millis(10), inbox.recv()).await, inbox.close_now()));
    }

    /// 29: one has put more messages where the kernel keeps them than there is room for: who closes the mailbox takes no more than that.
    async fn more_than_there_is_room_for() {
        let (outbox, inbox) = Builder::new(3).build_with_handles::<u64>().unwrap();
        let Parts { handles, .. } = parts_of(outbox.clone()).await;
        // A ticket for the first slot, a length of zero, and the message; the socket comes behind the lives.
        let packet = [&[0; 24][..], &[7]].concat();
        for _ in 0..20 {
            write_beside(&handles[3], &packet, &[]);
        }
        assert_eq!(inbox.close_now(), [7; 3]);
        drop(outbox);
    }

    /// What cannot be read is counted, and takes up no room; what is behind it comes.
    async fn what_cannot_be_read_is_counted() {
        let (outbox, inbox) = mailbox::<String>(3).unwrap();
        let region = memory("procession-region");
        let mut bytes = vec![0; region.metadata().unwrap().len() as usize];
        for (text, lost) in [("first-of-them", 1), ("next-of-them", 2)] {
            outbox.try_send(text.to_owned()).unwrap();
            outbox.try_send("behind it".to_owned()).unwrap();
            region.read_exact_at(&mut bytes, 0).unwrap();
            let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
            region.write_all_at(&vec![0xff; text.len()], at as u64).unwrap();
            if lost == 1 {
                assert!(matches!(inbox.try_recv(), Err(TryRecvError::Failed(_))));
            }
            let came = if lost == 1 { in_time(inbox.recv()).await } else { in_time(inbox.recv_ack()).await.map(|it| it.ack()) };
            assert_eq!((came.as_deref(), inbox.unreadable()), (Some("behind it"), lost));
        }
        (0..3).for_each(|_| outbox.try_send("another".to_owned()).unwrap());
        assert!(matches!(outbox.try_send(String::new()), Err(TrySendError::Full(_))));
    }

    /// A memory for long messages that is cut short, or that cannot be written: an error, and nothing worse.
    async fn memory_that_is_changed_later() {
        let (outbox, inbox) = mailbox::<Vec<u8>>(2).unwrap();
        let large = memory("procession-mailbox");
        outbox.try_send(vec![7; 50_000]).unwrap();
        ftruncate(&large, 4096).unwrap();
        assert!(matches!(inbox.try_recv(), Err(TryRecvError::Failed(_))));
        outbox.try_send(vec![7; 50_000]).unwrap();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&large, hole, 0, large.metadata().unwrap().len()).unwrap();
        // Zeros, of which a message of that length does not consist.
        assert!(matches!(inbox.try_recv(), Err(TryRecvError::Failed(_))));
        outbox.try_send(vec![7; 50_000]).unwrap();
        assert_eq!(inbox.try_recv().unwrap(), vec![7; 50_000]);
    }

    /// Somebody keeps the lives of both ends full: the last one gone is heard all the same.
    async fn lives_that_are_written_to() {
        use std::io::Write;
        let (outbox, inbox) = mailbox::<u64>(2).unwrap();
        let mut child = greets(outbox).spawn().await.unwrap();
        assert_eq!(in_time(inbox.recv()).await, Some(5));
        assert!(timeout(SECOND / 50, inbox.recv()).await.is_err());
        for mut pipe in pipes() {
            while pipe.write(&[7; 4096]).is_ok() {}
        }
        child.kill().await.unwrap();
        assert_eq!(in_time(inbox.recv()).await, None);
    }
}
