//! What a hostile process says of a mailbox, and what it writes to one: no panic, no descriptor that stays, nothing that takes long,
//! and no memory beyond the limits.
//!
//! An input is a list of steps, of which the first byte says what is done: a handle is received whose numbers are others than they
//! were, and is used; a word of the region becomes another one; the mailbox is used, in all ways that do not wait.

#![no_main]

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use procession::Limits;
use procession::mailbox::{Builder, Delivery, Receiver, Sender};
use procession::pipe::simplex_with;
use procession_fuzz::Meter;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_bytes::ByteBuf;

#[global_allocator]
static METER: Meter = Meter::new();

const LIMITS: Limits = Limits::DEFAULT.max_message(64 << 10).max_heap(1 << 20);
const CAPACITY: usize = 3;
const SLOT: usize = 64;

type Ends = (Sender<ByteBuf>, Receiver<ByteBuf>);

/// A mailbox; what its sender is on its way: numbers, and what comes beside them; and its region.
struct Scene {
    ends: Ends,
    numbers: Vec<u64>,
    beside: Vec<OwnedFd>,
    region: File,
}

impl Scene {
    fn new() -> Self {
        let ends = Builder::new(CAPACITY).slot(SLOT).limits(LIMITS).build().expect("a mailbox");
        let (mut sender, receiver) = simplex_with::<Sender<ByteBuf>>(LIMITS).expect("a pipe");
        sender.try_send(ends.0.clone()).expect("it fits");
        let (numbers, beside) = read(&receiver);
        // Those of its region come last: the memory, and then its bells.
        let region = beside.iter().map(|fd| File::from(fd.try_clone().expect("a descriptor")));
        let is_region = |file: &File| is_named(file, "procession-region");
        let region = region.into_iter().find(is_region).expect("it has a region");
        Self { ends, numbers, beside, region }
    }

    /// A sender as another says that it is.
    fn received(&self, numbers: &[u64], beside: &[BorrowedFd<'_>]) -> Option<Sender<ByteBuf>> {
        let (sender, mut receiver) = simplex_with(LIMITS).expect("a pipe");
        write(&sender, &frame(numbers, beside.len()), beside);
        receiver.try_recv().ok()
    }
}

fn is_named(file: &File, name: &str) -> bool {
    use std::os::fd::AsRawFd;
    let target = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    target.is_ok_and(|target| target.to_string_lossy().contains(name))
}

/// What was sent, of which all are numbers.
fn read(socket: impl AsFd) -> (Vec<u64>, Vec<OwnedFd>) {
    let (mut bytes, mut space) = ([0; 512], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))]);
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let count =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags).expect("a frame").bytes;
    let mut handles = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            handles.extend(rights);
        }
    }
    let (mut numbers, mut number, mut shift) = (Vec::new(), 0, 0);
    for byte in &bytes[8..count] {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    (numbers, handles)
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

fn write(socket: impl AsFd, bytes: &[u8], handles: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(handles.is_empty() || beside.push(SendAncillaryMessage::ScmRights(handles)), "they fit");
    sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL).expect("there is room");
}

/// Steps, as an input tells of them.
struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number, of which all are likely that stand near to what was, or to a power of two.
    fn number(&mut self, was: u64) -> Option<u64> {
        let (how, value) = (self.byte()?, u64::from(self.byte()?));
        Some(match how % 6 {
            0 => value,
            1 => was.wrapping_add(value).wrapping_sub(128),
            2 => was ^ 1 << (value % 64),
            3 => 1 << (value % 64),
            4 => u64::MAX << (value % 64),
            _ => value << (how / 6),
        })
    }
}

/// Uses both ends in a way that does not wait.
fn use_it(outbox: &Sender<ByteBuf>, inbox: &Receiver<ByteBuf>, how: u8, held: &mut Vec<Delivery<ByteBuf>>) {
    let length = if how & 8 == 0 { 9 } else { 3000 };
    match how % 8 {
        0 | 1 => drop(outbox.try_send(ByteBuf::from(vec![how; length]))),
        2 => drop(outbox.try_reserve().map(|permit| drop(permit.send(ByteBuf::from(vec![how; length]))))),
        3 | 4 => drop(inbox.try_recv()),
        5 => held.extend(inbox.try_recv_ack().ok()),
        6 => drop(held.pop().map(|delivery| if how & 16 == 0 { delivery.ack() } else { ByteBuf::new() })),
        _ if how == 255 => drop(inbox.close_now()),
        _ => drop((outbox.try_reserve(), outbox.downgrade().upgrade())),
    }
    drop((outbox.len(), outbox.is_full(), outbox.is_closed(), inbox.unreadable(), format!("{inbox:?}")));
}

fn run(input: &[u8]) -> Option<()> {
    let scene = Scene::new();
    let (outbox, inbox) = &scene.ends;
    let words = scene.region.metadata().expect("a file").len() / 8;
    let (mut steps, mut held) = (Steps(input), Vec::new());
    loop {
        let step = steps.byte()?;
        match step % 4 {
            0 | 1 => use_it(outbox, inbox, step >> 2, &mut held),
            2 => {
                // Where its words are, which are the last ones, more often than elsewhere.
                let at =
                    u64::from(steps.byte()?) + if step & 4 == 0 { 264 } else { 256 * u64::from(step >> 3) };
                let (at, mut before) = (at % words * 8, [0; 8]);
                scene.region.read_exact_at(&mut before, at).expect("it is there");
                let number = steps.number(u64::from_le_bytes(before))?;
                scene.region.write_all_at(&number.to_le_bytes(), at).expect("it is there");
            }
            _ => {
                let (mut numbers, at) = (scene.numbers.clone(), usize::from(step >> 2) % scene.numbers.len());
                numbers[at] = steps.number(numbers[at])?;
                let mut beside: Vec<_> = scene.beside.iter().map(AsFd::as_fd).collect();
                let swap = usize::from(steps.byte()?);
                if swap & 1 == 1 {
                    let count = beside.len();
                    beside.swap((swap >> 1) % count, (swap >> 4) % count);
                }
                if let Some(outbox) = scene.received(&numbers, &beside) {
                    (0..4).for_each(|how| use_it(&outbox, inbox, how, &mut held));
                }
            }
        }
    }
}

/// Every number that a descriptor has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// What stays for ever is made first.
static BEGUN: LazyLock<()> = LazyLock::new(|| _ = run(&[0, 4, 12, 255]));

fuzz_target!(|input: &[u8]| -> Corpus {
    LazyLock::force(&BEGUN);
    let before = descriptors();
    let (_, peak) = METER.peak_of(|| run(input));
    assert_eq!(descriptors(), before, "descriptors stay open");
    // What a few messages may cost, with those that are held, and the room that a thread keeps.
    assert!(peak <= 16 << 20, "{peak} bytes of memory");
    Corpus::Keep
});
