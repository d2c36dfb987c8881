//! Small messages of several sizes.

use std::os::unix::net::UnixStream;

use procession::{Call, Failure, Message, Passed, Pipe, process};
use procession_bench::limit::take_frames;
use serde_bytes::ByteArray;

use super::ours::take;

/// A message that tells whether it is a last one, and the functions of children that take such messages.
pub(super) trait Sample: Message + Clone {
    const NAME: &str;

    fn new(is_last: bool) -> Self;

    fn take(pipe: Pipe<u64, Self>, core: usize) -> Call<Result<(), Failure>>;

    fn take_framed(socket: Passed<UnixStream>, core: usize) -> Call<Result<(), Failure>>;
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
    ($($name:literal: $type:ty, $new:path, $is_last:path, $take:ident, $take_framed:ident;)*) => {$(
        #[process]
        async fn $take(pipe: Pipe<u64, $type>, core: usize) -> Result<(), Failure> {
            take(pipe, core, $is_last).await
        }

        #[process]
        async fn $take_framed(socket: Passed<UnixStream>, core: usize) -> Result<(), Failure> {
            take_frames::<$type>(socket, core, $is_last).await
        }

        impl Sample for $type {
            const NAME: &str = $name;

            fn new(is_last: bool) -> Self {
                $new(is_last)
            }

            fn take(pipe: Pipe<u64, Self>, core: usize) -> Call<Result<(), Failure>> {
                $take(pipe, core)
            }

            fn take_framed(socket: Passed<UnixStream>, core: usize) -> Call<Result<(), Failure>> {
                $take_framed(socket, core)
            }
        }
    )*};
}

samples! {
    "8 bytes": ByteArray<8>, bytes, is_last, take_8, take_8_framed;
    "64 bytes": ByteArray<64>, bytes, is_last, take_64, take_64_framed;
    "8 numbers, 64 bytes": [u64; 8], numbers, are_last, take_numbers, take_numbers_framed;
    "1024 bytes": ByteArray<1024>, bytes, is_last, take_1024, take_1024_framed;
}
