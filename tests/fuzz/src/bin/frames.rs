//! Arbitrary bytes and handles, written by hand into the socket of a receiver: no panic, no descriptor that stays, and no
//! memory beyond what was sent and the limits.
//!
//! An input is a list of steps, of which the first byte says what is done: bytes are written as they are, or as the beginning of
//! a frame that is nearly right; with handles beside them; the receiver takes what there is, as a message or as bytes.

#![no_main]

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::{Corpus, fuzz_target};
use procession::pipe::{Receiver, RecvError, TryRecvError, simplex_with};
use procession::{Limits, Passed, Pipe};
use procession_fuzz::Meter;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[global_allocator]
static METER: Meter = Meter::new();

const MAX_MESSAGE: u64 = 300 << 10;
const MAX_HEAP: u64 = 1 << 20;

/// Whatever can stand in a message, and holds handles.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Text(String),
    Bytes(Vec<ByteBuf>),
    Handle(Passed<OwnedFd>),
    Files(Vec<Passed<File>>),
    Streams(Vec<Passed<UnixStream>>, Option<Passed<TcpStream>>),
    End(Box<Receiver<Self>>),
    Ends(Box<Pipe<Self, u64>>),
    Tree(Vec<Self>),
}

/// What is sent beside bytes: a file, memory, sockets, an end of a pipe of the system.
struct Handles([OwnedFd; 5]);

static HANDLES: LazyLock<Handles> = LazyLock::new(|| {
    let mut memory = File::from(
        memfd_create(c"by hand", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory"),
    );
    memory.write_all(&[7; 64 << 10]).expect("memory");
    fcntl_add_seals(&memory, SealFlags::SHRINK).expect("a seal");
    let (socket, other) = UnixStream::pair().expect("sockets");
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    Handles([
        File::open("/dev/null").expect("a file").into(),
        memory.into(),
        socket.into(),
        reader.into(),
        other.into(),
    ])
});

/// Steps, as an input tells of them.
struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// The beginning of a frame: mostly one that has what it announces.
fn frame(steps: &mut Steps<'_>, handles: u8) -> Option<Vec<u8>> {
    let (kind, aside, length) = (steps.byte()?, steps.byte()?, steps.byte()?);
    let body = steps.bytes(usize::from(length));
    let announced = if kind & 4 == 0 { handles } else { kind >> 3 };
    let strings = aside % 4;
    // Where the body stands aside there is none here.
    let is_aside = kind & 2 != 0 && strings > 0;
    let body = if is_aside { &[][..] } else { body };
    let mut frame = u32::try_from(body.len()).ok()?.to_le_bytes().to_vec();
    frame.extend([announced, 0, (1 + kind % 2) | u8::from(is_aside) << 7, strings]);
    if strings > 0 {
        let is_new = if aside & 8 == 0 { 0 } else { 0x80 };
        frame.extend([(aside >> 4) % 4, 0, 0, 0, 0, 0, 0, is_new]);
        for n in 0..strings {
            let in_slab = if aside >> (6 - n) & 1 == 0 { 0 } else { 0x80 };
            frame.extend([length.wrapping_mul(n + 1), aside % 3, 0, 0, 0, 0, 0, in_slab]);
        }
    }
    frame.extend(body);
    Some(frame)
}

/// Bytes, and handles beside the first of them. What the socket does not take is not written.
fn write_beside(socket: &UnixStream, bytes: &[u8], handles: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(handles.is_empty() || beside.push(SendAncillaryMessage::ScmRights(handles)), "they fit");
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    // Where it is full, or closed, nothing comes of it.
    let _ = sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, flags);
}

/// Receives until there is nothing more; whether nothing comes any more.
fn receive(receiver: &mut Receiver<Message>, as_bytes: bool) -> bool {
    loop {
        match receiver.try_recv() {
            Ok(message) => drop(message),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Closed) => return true,
            Err(TryRecvError::Failed(RecvError::NotAMessage)) => {
                let mut bytes = std::pin::pin!(receiver.recv_bytes());
                let polled = bytes.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(polled, Poll::Ready(Ok(Some(_)) | Err(_))), "it has come whole: {polled:?}");
            }
            Err(TryRecvError::Failed(error)) if error.ends_the_pipe() => {
                assert!(matches!(receiver.try_recv(), Err(TryRecvError::Closed)), "{error:?}");
                return true;
            }
            Err(TryRecvError::Failed(_one_message)) => {}
            Err(other) => panic!("{other:?}"),
        }
        if as_bytes {
            return false;
        }
    }
}

/// Every number that a descriptor has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn run(input: &[u8]) {
    let limits = Limits::DEFAULT.max_message(MAX_MESSAGE).max_heap(MAX_HEAP).max_handles(8);
    let (sender, mut receiver) = simplex_with::<Message>(limits).expect("descriptors");
    let socket = UnixStream::from(sender.as_fd().try_clone_to_owned().expect("a descriptor"));
    drop(sender);
    let mut steps = Steps(input);
    while let Some(step) = steps.byte() {
        let count = step >> 5;
        let which = |n: u8| HANDLES.0[usize::from((step >> 3).wrapping_add(n) % 5)].as_fd();
        let handles: Vec<_> = (0..count).map(which).collect();
        match step % 4 {
            0 => {
                let count = steps.byte().map_or(0, usize::from);
                write_beside(&socket, steps.bytes(count), &handles);
            }
            1 | 2 => {
                let Some(frame) = frame(&mut steps, count) else { break };
                let (first, rest) = frame.split_at(if step % 4 == 1 { frame.len() } else { frame.len() / 2 });
                write_beside(&socket, first, &handles);
                if !rest.is_empty() {
                    receive(&mut receiver, false);
                    write_beside(&socket, rest, &[]);
                }
            }
            _ => {
                if receive(&mut receiver, step & 4 != 0) {
                    return;
                }
            }
        }
    }
    drop(socket);
    while !receive(&mut receiver, false) {}
}

fuzz_target!(|input: &[u8]| -> Corpus {
    LazyLock::force(&HANDLES);
    let before = descriptors();
    let ((), peak) = METER.peak_of(|| run(input));
    assert_eq!(descriptors(), before, "descriptors stay open");
    // What one message may cost, what serde's collections reserve ahead, and the room of the receiver and of a slab that is read.
    let most = 16 * MAX_HEAP + 4 * MAX_MESSAGE + (2 << 20);
    assert!(peak as u64 <= most, "{peak} bytes of memory");
    Corpus::Keep
});
