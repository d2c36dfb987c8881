//! Peers of a pipe, and children, that write by hand: requirements 31, 34, 35; CO20; R8.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use procession::pipe::{Receiver, RecvError, simplex_with};
use procession::{Cause, Limits, Passed, process, simplex};
use procession_tests::{in_time, isolated, open_fds, patience, shared_mappings};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

const MESSAGE: u8 = 1;
const BYTES: u8 = 2;
/// Bytes that stand aside.
const LONG: u8 = 0x82;
const FLAG: u64 = 1 << 63;

/// The first bytes of a frame.
fn header(length: u32, handles: u16, kind: u8, aside: u8) -> Vec<u8> {
    [&length.to_le_bytes()[..], &handles.to_le_bytes(), &[kind, aside]].concat()
}

fn frame(kind: u8, handles: u16, body: &[u8]) -> Vec<u8> {
    [header(body.len() as u32, handles, kind, 0), body.to_vec()].concat()
}

/// A frame of bytes in a slab.
fn in_slab(number: u64, handles: u16, lengths: &[u64]) -> Vec<u8> {
    let mut frame = header(0, handles, LONG, lengths.len() as u8);
    frame.extend(number.to_le_bytes());
    lengths.iter().for_each(|length| frame.extend((length | FLAG).to_le_bytes()));
    frame
}

/// Writes bytes, and handles beside the first of them; both may be cut short by the other end.
fn write_beside(socket: impl AsFd, bytes: &[u8], handles: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(handles.is_empty() || beside.push(SendAncillaryMessage::ScmRights(handles)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)
}

/// A pipe whose sender is a socket.
fn by_hand<T: procession::Message>(limits: Limits) -> (UnixStream, Receiver<T>) {
    let (sender, receiver) = simplex_with(limits).unwrap();
    (sender.as_fd().try_clone_to_owned().unwrap().into(), receiver)
}

/// What comes of these bytes, with handles beside the first of them.
async fn comes_of<T: procession::Message>(
    bytes: &[u8],
    handles: &[BorrowedFd<'_>],
) -> (Option<RecvError>, Option<T>) {
    let (socket, mut receiver) = by_hand::<T>(Limits::DEFAULT);
    write_beside(&socket, bytes, handles).unwrap();
    let came = in_time(receiver.recv()).await;
    // Whether the pipe goes on after it.
    write_beside(&socket, &frame(MESSAGE, 0, &[7]), &[]).unwrap();
    drop(socket);
    let error = came.map(|_| panic!("it was received")).unwrap_err();
    let next = in_time(receiver.recv()).await.unwrap();
    assert_eq!(error.ends_the_pipe(), next.is_none(), "{error:?}");
    (Some(error), next)
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

/// Memory that holds these bytes, and can be cut short.
fn loose_memory(bytes: &[u8]) -> File {
    let memory = memfd_create(c"by hand", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(memory);
    file.write_all(bytes).unwrap();
    file
}

/// Memory that holds these bytes, and stays as long as it is.
fn memory(bytes: &[u8]) -> File {
    let file = loose_memory(bytes);
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

/// The link of this process to its parent, which is at a known place.
fn link() -> UnixStream {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    UnixStream::from(pidfd_getfd(this, 3, PidfdGetfdFlags::empty()).unwrap())
}

/// The first bytes of a frame on the link.
fn link_header(kind: u8, length: u64, handles: u16) -> Vec<u8> {
    [&length.to_le_bytes()[..], &[kind, 1], &handles.to_le_bytes(), &[0; 4]].concat()
}

const HELLO: u8 = 16;
const RETURNED: u8 = 18;

/// Says this to the parent, with so many handles beside it.
#[process]
fn says(bytes: Vec<u8>, handles: usize) -> Passed<OwnedFd> {
    let null = null();
    let _hangs_up = write_beside(link(), &bytes, &vec![null.as_fd(); handles]);
    loop {
        std::thread::park();
    }
}

/// Says the beginning of a result, and then sends handles for ever.
#[process]
fn showers(announced: u16) -> Vec<Passed<OwnedFd>> {
    let (null, link) = (null(), link());
    let mut bytes = link_header(RETURNED, 10_000_000, announced);
    while write_beside(&link, &bytes, &[null.as_fd(); 20]).is_ok() {
        bytes = vec![0];
    }
    loop {
        std::thread::park();
    }
}

isolated! {
    /// 31, CO20: what no sender of ours would write ends the pipe, and says why; it takes no memory.
    #[once]
    async fn rr31_frames_that_are_none() {
        let bad: &[(Vec<u8>, &str)] = &[
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "BadMessage"),
            (vec![0xff; 100], "BadMessage"),
            (header(1, 0, 0, 0), "BadMessage"),
            (header(1, 0, 3, 0), "BadMessage"),
            (header(1, 65, MESSAGE, 0), "BadMessage"),
            (header(1, u16::MAX, BYTES, 0), "BadMessage"),
            (header((16 << 20) + 1, 0, MESSAGE, 0), "TooLarge"),
            (header(u32::MAX, 0, BYTES, 0), "TooLarge"),
            ([header(16 << 20, 0, MESSAGE, 1), vec![0; 8], 1_u64.to_le_bytes().to_vec()].concat(), "TooLarge"),
            ([header(0, 0, MESSAGE, 2), vec![0; 8], vec![0x7f; 16]].concat(), "TooLarge"),
            ([header(0, 0, LONG, 2), vec![0xff; 8], vec![0xff; 16]].concat(), "TooLarge"),
        ];
        for (bytes, kind) in bad {
            let (error, next) = comes_of::<u8>(bytes, &[]).await;
            let error = format!("{error:?}");
            assert!(error.contains(kind) && next.is_none(), "{bytes:02x?}: {error}");
        }
    }

    /// 34: byte by byte, and cut at each of them: the same messages, or the end in the middle of one.
    #[once]
    async fn rr34_split_at_every_byte() {
        let slab = memory(b"0123456789");
        let parts: [(Vec<u8>, usize); 5] = [
            (frame(MESSAGE, 0, &[3, b'a', b'b', b'c']), 0),
            ([header(1, 0, MESSAGE, 0), vec![0]].concat(), 0),
            (in_slab(5 | FLAG, 1, &[4]), 1),
            ([header(0, 0, LONG, 1), vec![0; 8], 5_u64.to_le_bytes().to_vec(), b"aside".to_vec()].concat(), 0),
            (in_slab(5, 0, &[10]), 0),
        ];
        let bytes: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let handles_at = parts[0].0.len() + parts[1].0.len();
        for cut in 0..=bytes.len() {
            let (socket, mut receiver) = by_hand::<String>(Limits::DEFAULT);
            let writes = async {
                for (at, byte) in bytes[..cut].iter().enumerate() {
                    let handles = if at == handles_at { &[slab.as_fd()][..] } else { &[] };
                    write_beside(&socket, &[*byte], handles).unwrap();
                    if at % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                drop(socket);
            };
            let reads = async {
                let mut seen = Vec::new();
                let end = loop {
                    let came = match seen.len() {
                        0 | 1 => receiver.recv().await.map(|came| came.map(Bytes::from)),
                        _ => receiver.recv_bytes().await,
                    };
                    match came {
                        Ok(Some(came)) => seen.push(came),
                        Ok(None) => break true,
                        Err(RecvError::CutOff) => break false,
                        Err(error) => panic!("cut at {cut}: {error:?}"),
                    }
                };
                (seen, end)
            };
            let ((seen, is_end), ()) = in_time(async { tokio::join!(reads, writes) }).await;
            let mut end = 0;
            let mut expected = Vec::new();
            for ((part, _), value) in parts.iter().zip(["abc", "", "0123", "aside", "0123456789"]) {
                end += part.len();
                if end <= cut {
                    expected.push(value.as_bytes());
                }
            }
            assert_eq!(seen, expected, "cut at {cut}");
            let ends: Vec<usize> = parts.iter().scan(0, |end, (part, _)| { *end += part.len(); Some(*end) }).collect();
            assert_eq!(is_end, cut == 0 || ends.contains(&cut), "cut at {cut}");
        }
    }

    /// 35: other handles than were announced, or of another kind: that message is lost, and closed; the next one comes.
    #[once]
    async fn rr35_other_handles_than_announced() {
        let file = null();
        let (one, two) = ([file.as_fd()], [file.as_fd(); 2]);
        let socket = UnixStream::pair().unwrap().0;
        let before = open_fds().len();
        // A message that is a list of files: its length, and the kind of each.
        let cases: [(u16, &[u8], &[BorrowedFd<'_>], &str); 8] = [
            (1, &[1, 2], &[], "Handles { announced: 1, came: 0 }"),
            (2, &[2, 2, 2], &one, "Handles { announced: 2, came: 1 }"),
            (0, &[0], &one, "Handles { announced: 0, came: 1 }"),
            (1, &[1, 2], &two, "Handles { announced: 1, came: 2 }"),
            (2, &[1, 2], &two, "Decode"),
            (1, &[2, 2, 2], &one, "Decode"),
            (1, &[1, 1], &one, "Decode"),
            (1, &[1, 2], &[socket.as_fd()], "Decode"),
        ];
        for (announced, body, handles, expected) in cases {
            let (raw, mut receiver) = by_hand::<Vec<Passed<File>>>(Limits::DEFAULT);
            for _ in 0..3 {
                write_beside(&raw, &frame(MESSAGE, announced, body), handles).unwrap();
                let error = in_time(receiver.recv()).await.unwrap_err();
                assert!(format!("{error:?}").starts_with(expected), "{announced} {body:?}: {error:?}");
                write_beside(&raw, &frame(MESSAGE, 1, &[1, 2]), &one).unwrap();
                assert_eq!(in_time(receiver.recv()).await.unwrap().unwrap().len(), 1);
            }
        }
        assert_eq!(open_fds().len(), before);
    }

    /// 35: as many at once as the kernel takes, and a hundred thousand messages with handles that nobody wants.
    #[once]
    async fn rr35_a_hundred_thousand_messages_with_handles() {
        let file = null();
        let before = open_fds().len();
        let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
        for n in 0..100_000_u32 {
            write_beside(&raw, &frame(MESSAGE, 0, &[n as u8]), &[file.as_fd(); 2]).unwrap();
            let error = in_time(receiver.recv()).await.unwrap_err();
            assert!(matches!(error, RecvError::Handles { announced: 0, came: 2 }), "{error:?}");
        }
        assert_eq!(open_fds().len(), before + 2);
        write_beside(&raw, &frame(MESSAGE, 0, &[7]), &[file.as_fd(); 253]).unwrap();
        let error = in_time(receiver.recv()).await.unwrap_err();
        assert!(matches!(error, RecvError::Handles { announced: 0, came: 253 }), "{error:?}");
        // Beside the bytes of one frame, without an end.
        write_beside(&raw, &header(10_000_000, 0, MESSAGE, 0), &[]).unwrap();
        let showers = async {
            while write_beside(&raw, &[0], &[file.as_fd(); 100]).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let (error, ()) = in_time(async {
            tokio::join!(async { let error = receiver.recv().await; drop(receiver); error }, showers)
        }).await;
        assert!(matches!(error, Err(RecvError::BadMessage { .. })), "{error:?}");
        drop(raw);
        assert_eq!(open_fds().len(), before);
    }

    /// Handles beside the bytes of a long string, where none belong, are closed.
    #[once]
    async fn handles_within_a_string() {
        let file = null();
        let before = open_fds().len();
        let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
        let head = [header(0, 0, LONG, 1), vec![0; 8], 100_000_u64.to_le_bytes().to_vec()].concat();
        write_beside(&raw, &head, &[]).unwrap();
        let writes = async {
            for _ in 0..100 {
                write_beside(&raw, &[5; 1000], &[file.as_fd(); 50]).unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (came, ()) = in_time(async { tokio::join!(receiver.recv_bytes(), writes) }).await;
        // All of the string, or an error for the handles that came with its head.
        assert!(came.is_err() || came.unwrap().unwrap() == vec![5; 100_000]);
        drop((raw, receiver));
        assert_eq!(open_fds().len(), before);
    }

    /// A slab that is none, is shorter than it says, or is cut while it is read: an error or a wrong message, at once.
    #[once]
    async fn slabs_that_are_none() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let regular = File::open("/proc/self/exe").unwrap();
        let (socket, _other) = UnixStream::pair().unwrap();
        let ours = memory(&[3; 1000]);
        let write_only = rustix::fs::open(
            format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ours)),
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ).unwrap();
        let (loose, empty) = (loose_memory(&[3; 1000]), memory(&[]));
        let cases: [(BorrowedFd<'_>, u64, &str); 8] = [
            (reader.as_fd(), 10, "BadMessage"),
            (socket.as_fd(), 10, "BadMessage"),
            (regular.as_fd(), 10, "BadMessage"),
            (ours.as_fd(), 1001, "System"),
            (ours.as_fd(), 16 << 20, "System"),
            (write_only.as_fd(), 10, "BadMessage"),
            (loose.as_fd(), 10, "BadMessage"),
            (empty.as_fd(), 10, "BadMessage"),
        ];
        for (slab, length, expected) in cases {
            let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
            write_beside(&raw, &in_slab(5 | FLAG, 1, &[length]), &[slab]).unwrap();
            let error = in_time(receiver.recv_bytes()).await.unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{error:?}");
            write_beside(&raw, &frame(BYTES, 0, b"next"), &[]).unwrap();
            let next = in_time(receiver.recv_bytes()).await.unwrap();
            assert_eq!(next.is_some(), !error.ends_the_pipe());
        }
        // One that was never sent, and a string that stands in none.
        for frame in [in_slab(5, 0, &[1]), in_slab(0, 0, &[1]), in_slab(5 | FLAG, 0, &[1])] {
            let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
            write_beside(&raw, &frame, &[]).unwrap();
            assert!(matches!(in_time(receiver.recv_bytes()).await, Err(RecvError::BadMessage { .. })));
        }
    }

    /// What was received stands in the receiver's own memory, and what happens to the slab meanwhile makes nobody fault.
    #[once]
    #[threads(2)]
    async fn a_slab_that_changes_while_it_is_read() {
        let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
        let slab = memory(&vec![9; 8 << 20]);
        let again = slab.try_clone().unwrap();
        let changes = std::thread::spawn(move || {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            for n in 0..300_u64 {
                rustix::io::pwrite(&again, &[n as u8; 100_000], (n % 80) * 100_000).unwrap();
                fallocate(&again, hole, (n % 7) << 20, 1 << 20).unwrap();
                assert!(ftruncate(&again, 100).is_err());
            }
        });
        let mut is_first = true;
        while !changes.is_finished() {
            let (number, handles): (u64, &[_]) = if is_first { (5 | FLAG, &[slab.as_fd()]) } else { (5, &[]) };
            write_beside(&raw, &in_slab(number, u16::from(is_first), &[8 << 20]), handles).unwrap();
            is_first = false;
            assert_eq!(in_time(receiver.recv_bytes()).await.unwrap().unwrap().len(), 8 << 20);
        }
        changes.join().unwrap();
    }

    /// A sender that brings a slab with each message: none of them stays for long.
    #[once]
    async fn slabs_without_end() {
        let (before, mapped) = (open_fds().len(), shared_mappings());
        let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
        let slab = memory(&[9; 1000]);
        for n in 0..1000 {
            write_beside(&raw, &in_slab((n + 1) | FLAG, 1, &[1000]), &[slab.as_fd()]).unwrap();
            assert_eq!(in_time(receiver.recv_bytes()).await.unwrap().unwrap(), vec![9; 1000]);
            assert!(open_fds().len() < before + 100);
        }
        drop((raw, receiver, slab));
        assert_eq!((open_fds().len(), shared_mappings()), (before, mapped));
    }

    /// A receiver that says that it has read slabs which it has not, or has never had, or says something else.
    #[once]
    async fn words_back_that_are_nonsense() {
        for nonsense in [vec![0xff; 8], vec![0; 4096], b"odd".to_vec(), vec![1; 32], vec![0xaa; 33]] {
            let (mut sender, mut receiver) = simplex::<Bytes>().unwrap();
            let back = UnixStream::from(receiver.as_fd().try_clone_to_owned().unwrap());
            let file = null();
            let sends = async {
                for n in 0..12_u8 {
                    write_beside(&back, &nonsense, &[file.as_fd(); 3]).unwrap();
                    sender.send(vec![n; 300 << 10].into()).await.unwrap();
                }
            };
            let receives = async {
                for n in 0..12_u8 {
                    assert!(receiver.recv().await.unwrap().unwrap() == vec![n; 300 << 10]);
                }
            };
            in_time(async { tokio::join!(sends, receives) }).await;
            drop((back, sender));
            // It had not read what was said to it.
            assert_eq!(in_time(receiver.recv()).await.unwrap(), None);
        }
    }

    /// A slab that is known is free again when its message cannot be received.
    #[once]
    async fn a_slab_beside_other_handles_than_announced() {
        let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
        let (slab, file) = (memory(&[3; 1000]), null());
        write_beside(&raw, &in_slab(5 | FLAG, 1, &[1000]), &[slab.as_fd()]).unwrap();
        assert_eq!(in_time(receiver.recv_bytes()).await.unwrap().unwrap(), vec![3; 1000]);
        write_beside(&raw, &in_slab(5, 0, &[1000]), &[file.as_fd()]).unwrap();
        let error = in_time(receiver.recv_bytes()).await.unwrap_err();
        assert!(matches!(error, RecvError::Handles { announced: 0, came: 1 }), "{error:?}");
        // Nor is it kept where it is too short.
        write_beside(&raw, &in_slab(5, 0, &[1001]), &[]).unwrap();
        let error = in_time(receiver.recv_bytes()).await.unwrap_err();
        assert!(matches!(error, RecvError::System(_)), "{error:?}");
        write_beside(&raw, &in_slab(5, 0, &[1001]), &[]).unwrap();
        let error = in_time(receiver.recv_bytes_into(&mut [0; 2000])).await.unwrap_err();
        assert!(matches!(error, RecvError::System(_)), "{error:?}");
        drop(receiver);
        let mut back = Vec::new();
        std::io::Read::read_to_end(&mut &raw, &mut back).unwrap();
        assert_eq!(back, [5_u64.to_le_bytes(); 4].concat());
    }

    /// A string that came with a message that cannot be received is none of the next one's.
    #[once]
    async fn a_string_beside_other_handles_than_announced() {
        let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
        let on_stream = |bytes: &[u8]| {
            let length = (bytes.len() as u64).to_le_bytes();
            [&header(0, 0, LONG, 1), &[0; 8][..], &length, bytes].concat()
        };
        write_beside(&raw, &on_stream(&[3; 1000]), &[null().as_fd()]).unwrap();
        let error = in_time(receiver.recv_bytes()).await.unwrap_err();
        assert!(matches!(error, RecvError::Handles { announced: 0, came: 1 }), "{error:?}");
        write_beside(&raw, &on_stream(&[4; 10]), &[]).unwrap();
        assert_eq!(in_time(receiver.recv_bytes()).await.unwrap().unwrap(), vec![4; 10]);
    }

    /// A receiver that cannot say that it has read a slab says nothing more: no sender waits for that.
    #[once]
    async fn a_way_back_that_is_full() {
        let (raw, mut receiver) = by_hand::<u8>(Limits::DEFAULT);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while rustix::net::send(&receiver, &[0; 8], flags).is_ok() {}
        write_beside(&raw, &in_slab(5 | FLAG, 1, &[1000]), &[memory(&[3; 1000]).as_fd()]).unwrap();
        assert_eq!(in_time(receiver.recv_bytes()).await.unwrap().unwrap(), vec![3; 1000]);
        raw.set_read_timeout(Some(patience(Duration::from_secs(20)))).unwrap();
        std::io::copy(&mut &raw, &mut std::io::sink()).unwrap();
        write_beside(&raw, &frame(BYTES, 0, b"next"), &[]).unwrap();
        assert_eq!(in_time(receiver.recv_bytes()).await.unwrap().unwrap(), b"next"[..]);
    }

    /// 35: handles that a child sends where none belong, or more than it announces: a bad message, and none is left.
    async fn rr35_a_child_that_sends_handles() {
        let before = open_fds().len();
        let cases = [
            ([link_header(RETURNED, 1, 0), vec![1]].concat(), 1),
            ([link_header(RETURNED, 1, 1), vec![1]].concat(), 2),
            ([link_header(RETURNED, 1, 2), vec![1]].concat(), 1),
            ([link_header(RETURNED, 1, 1), vec![1]].concat(), 65),
            ([link_header(RETURNED, 1, 65), vec![1]].concat(), 65),
            (link_header(HELLO, 0, 1), 1),
            (link_header(HELLO, 0, 0), 1),
            (vec![0xff; 16], 100),
            (vec![0], 253),
        ];
        for (bytes, handles) in cases {
            let shown = format!("{bytes:02x?} with {handles}");
            let error = in_time(says(bytes, handles)).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::BadMessage { .. }), "{shown}: {error:?}");
        }
        for announced in [0, 1, 64] {
            let error = in_time(showers(announced)).await.unwrap_err();
            assert!(matches!(error.cause(), Cause::BadMessage { .. }), "{announced}: {error:?}");
        }
        procession::join_children().await;
        assert_eq!(open_fds().len(), before);
    }
}
