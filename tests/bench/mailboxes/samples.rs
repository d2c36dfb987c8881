//! Small messages of several sizes.

use std::os::unix::net::UnixStream;

use procession::mailbox::{Receiver, Sender};
use procession::{Call, Failure, Message, Passed, Pipe, process};
use procession_bench::limit::take_frames;
use serde_bytes::ByteArray;

use super::ours;

type Part = Call<Result<(), Failure>>;

/// A message that tells whether it is a last one, and the functions of children that send and receive such messages.
pub(super) trait Sample: Message + Clone {
    const NAME: &str;

    fn new(is_last: bool) -> Self;

    fn send(pipe: Pipe<u64, u64>, sender: Sender<Self>, core: usize) -> Part;

    fn receive(pipe: Pipe<u64, u64>, receiver: Receiver<Self>, core: usize) -> Part;

    fn receive_many(pipe: Pipe<u64, u64>, receiver: Receiver<Self>, core: usize) -> Part;

    fn take_framed(socket: Passed<UnixStream>, core: usize) -> Part;
}

/// A number that takes eight bytes on the wire, and one more.
const NUMBER: u64 = 1 << 55;

fn is_last<const N: usize>(bytes: &ByteArray<N>) -> bool {
    bytes[0] == 1
}

fn bytes<const N: usize>(is_last: bool) -> ByteArray<N> {
    let mut bytes = [0; N];
    bytes[0] = is_last.into();
    ByteArray::new(bytes)
}

fn are_last(numbers: &[u64; 8]) -> bool {
    numbers[0] == NUMBER + 1
}

fn numbers(is_last: bool) -> [u64; 8] {
    [NUMBER + u64::from(is_last), NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER]
}

macro_rules! samples {
    ($($name:literal: $module:ident, $type:ty, $new:path, $is_last:path;)*) => {$(
        mod $module {
            use super::*;

            #[process]
            pub(super) async fn send(
                pipe: Pipe<u64, u64>,
                sender: Sender<$type>,
                core: usize,
            ) -> Result<(), Failure> {
                ours::send(pipe, sender, $new(false), core).await
            }

            #[process]
            pub(super) async fn receive(
                pipe: Pipe<u64, u64>,
                receiver: Receiver<$type>,
                core: usize,
            ) -> Result<(), Failure> {
                ours::receive(pipe, receiver, core).await
            }

            #[process]
            pub(super) async fn receive_many(
                pipe: Pipe<u64, u64>,
                receiver: Receiver<$type>,
                core: usize,
            ) -> Result<(), Failure> {
                ours::receive_many(pipe, receiver, core).await
            }

            #[process]
            pub(super) async fn take_framed(socket: Passed<UnixStream>, core: usize) -> Result<(), Failure> {
                take_frames::<$type>(socket, core, $is_last).await
            }
        }

        impl Sample for $type {
            const NAME: &str = $name;

            fn new(is_last: bool) -> Self {
                $new(is_last)
            }

            fn send(pipe: Pipe<u64, u64>, sender: Sender<Self>, core: usize) -> Part {
                $module::send(pipe, sender, core)
            }

            fn receive(pipe: Pipe<u64, u64>, receiver: Receiver<Self>, core: usize) -> Part {
                $module::receive(pipe, receiver, core)
            }

            fn receive_many(pipe: Pipe<u64, u64>, receiver: Receiver<Self>, core: usize) -> Part {
                $module::receive_many(pipe, receiver, core)
            }

            fn take_framed(socket: Passed<UnixStream>, core: usize) -> Part {
                $module::take_framed(socket, core)
            }
        }
    )*};
}

samples! {
    "8 bytes": bytes_8, ByteArray<8>, bytes, is_last;
    "64 bytes": bytes_64, ByteArray<64>, bytes, is_last;
    "8 numbers, 64 bytes": numbers_8, [u64; 8], numbers, are_last;
    "1024 bytes": bytes_1024, ByteArray<1024>, bytes, is_last;
}
