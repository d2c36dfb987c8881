//! Frames: how messages stand on the stream between a parent and its child.
//!
//! ```text
//! 0        8      9         10        12      16
//! | length | kind | version | handles | zeros | body: `length` bytes
//! ```
//!
//! All numbers are little-endian. `handles` counts the descriptors that travel beside the frame.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::handles;

/// The version of everything that parent and child say to one another.
pub(crate) const VERSION: u8 = 1;

/// Bytes before a body.
pub(crate) const HEADER: usize = 16;

/// The most that a frame other than arguments and results may have: it bounds a panic's message and backtrace.
pub(crate) const MAX_REPORT: u64 = 1 << 20;

/// The most that a child is told about itself, or a fork server tells; an environment may be a part of it.
pub(crate) const MAX_START: u64 = 16 << 20;

/// How much a reader's buffer grows ahead of the bytes that have come.
const READ_AHEAD: usize = 64 << 10;

/// What a frame is for. Parents send the first four, children the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// What to run and how.
    Start = 1,
    /// The encoded arguments.
    Arguments = 2,
    /// The function should come to its end.
    Stop = 3,
    /// What a fork server is to be. Beside it comes a socket for requests.
    Serve = 4,
    /// The child was taken over. Beside that of a forked child comes its pidfd.
    Hello = 16,
    /// The arguments are decoded; the function starts now. Of a fork server: it serves, and this is what it has.
    Started = 17,
    /// The encoded result.
    Returned = 18,
    /// Why there is no result.
    Failed = 19,
    /// A thread has overflowed its stack; death by a signal follows.
    Overflowed = 20,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        const KINDS: [Kind; 9] = [
            Kind::Start,
            Kind::Arguments,
            Kind::Stop,
            Kind::Serve,
            Kind::Hello,
            Kind::Started,
            Kind::Returned,
            Kind::Failed,
            Kind::Overflowed,
        ];
        KINDS.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame that has come, and how many descriptors it says came beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) body: Bytes,
    pub(crate) handles: u16,
}

/// A frame that has come to a child, and the descriptors beside it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    pub(crate) beside: Vec<OwnedFd>,
}

/// The header of a frame with a body of `length` bytes.
pub(crate) const fn header(kind: Kind, length: u64) -> [u8; HEADER] {
    header_with(kind, length, 0)
}

/// The header of a frame with a body of `length` bytes, and descriptors beside it.
pub(crate) const fn header_with(kind: Kind, length: u64, handles: u16) -> [u8; HEADER] {
    let [a, b, c, d, e, f, g, h] = length.to_le_bytes();
    let [i, j] = handles.to_le_bytes();
    [a, b, c, d, e, f, g, h, kind as u8, VERSION, i, j, 0, 0, 0, 0]
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame header that is not of this protocol: {0:02x?}")]
    Header([u8; HEADER]),
    #[error("a frame of {length} bytes where the limit is {limit}")]
    TooLong { length: u64, limit: u64 },
    #[error("{came} descriptors came beside a frame that announces {announced}")]
    Handles { came: usize, announced: u16 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Kind, length of the body, and number of descriptors beside it.
fn parse(bytes: &[u8; HEADER], max_message: u64) -> Result<(Kind, u64, u16), FrameError> {
    let &[a, b, c, d, e, f, g, h, kind, version, i, j, zeros @ ..] = bytes;
    let kind = Kind::from_byte(kind).filter(|_| version == VERSION);
    let (Some(kind), [0, 0, 0, 0]) = (kind, zeros) else { return Err(FrameError::Header(*bytes)) };
    let length = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let limit = match kind {
        Kind::Arguments | Kind::Returned => max_message,
        Kind::Start | Kind::Started => MAX_START,
        _ => MAX_REPORT,
    };
    let handles = u16::from_le_bytes([i, j]);
    if length > limit { Err(FrameError::TooLong { length, limit }) } else { Ok((kind, length, handles)) }
}

/// Kind and length of a frame that nothing comes beside.
fn parse_alone(bytes: &[u8; HEADER], max_message: u64) -> Result<(Kind, u64), FrameError> {
    match parse(bytes, max_message)? {
        (kind, length, 0) => Ok((kind, length)),
        _ => Err(FrameError::Header(*bytes)),
    }
}

/// Reads frames out of a stream of bytes that may come in any pieces.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) max_message: u64,
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(header) = bytes.first_chunk() else { return Ok(None) };
        let (kind, length, handles) = parse(header, self.max_message)?;
        if handles > 0 && kind != Kind::Returned {
            return Err(FrameError::Header(*header));
        }
        let whole = usize::try_from(length).map_or(usize::MAX, |length| length.saturating_add(HEADER));
        if bytes.len() < whole {
            // The buffer grows with what has come, not with what a header promises.
            bytes.reserve((whole - bytes.len()).min(bytes.len().max(READ_AHEAD)));
            return Ok(None);
        }
        bytes.advance(HEADER);
        Ok(Some(Frame { kind, body: bytes.split_to(whole - HEADER).freeze(), handles }))
    }
}

/// Reads one frame, blocking; `None` at the end of the stream.
pub(crate) fn read_frame(
    stream: &mut impl Read,
    max_message: u64,
) -> Result<Option<(Kind, Vec<u8>)>, FrameError> {
    let mut header = [0; HEADER];
    match stream.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (kind, length) = parse_alone(&header, max_message)?;
    Ok(read_body(stream, length)?.map(|body| (kind, body)))
}

/// Reads one frame and what comes beside it, blocking; `None` at the end of the stream.
pub(crate) fn read_frame_with(mut stream: &UnixStream, max_message: u64) -> Result<Option<Told>, FrameError> {
    let (mut header, mut read, mut beside) = ([0; HEADER], 0, Vec::new());
    // Many descriptors come a part with each byte.
    while read < HEADER {
        let (count, handles) = retry_on_intr(|| handles::receive(stream, &mut header[read..]))?;
        if count == 0 {
            return Ok(None);
        }
        read += count;
        beside.extend(handles);
    }
    let (kind, length, handles) = parse(&header, max_message)?;
    if beside.len() != usize::from(handles) {
        return Err(FrameError::Handles { came: beside.len(), announced: handles });
    }
    Ok(read_body(&mut stream, length)?.map(|body| Told { kind, body, beside }))
}

fn retry_on_intr<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// `None` where the stream ends before it.
fn read_body(stream: &mut impl Read, length: u64) -> io::Result<Option<Vec<u8>>> {
    // Room for what is short is made at once, so that one read takes it in; what is long grows as it comes.
    let room = usize::try_from(length).map_or(READ_AHEAD, |length| length.min(READ_AHEAD));
    let mut body = Vec::with_capacity(room);
    stream.take(length).read_to_end(&mut body)?;
    Ok((body.len() as u64 == length).then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1000;

    fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
        [&header(kind, body.len() as u64)[..], body].concat()
    }

    #[test]
    fn split_at_every_offset() {
        let bytes =
            [frame(Kind::Hello, b""), frame(Kind::Returned, b"seven"), frame(Kind::Failed, b"x")].concat();
        for split in 0..=bytes.len() {
            let (mut frames, mut buffer, mut seen) = (Frames { max_message: MAX }, BytesMut::new(), vec![]);
            for part in [&bytes[..split], &bytes[split..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = frames.decode(&mut buffer).unwrap() {
                    seen.push((frame.kind, frame.body.to_vec()));
                }
            }
            let expected =
                [(Kind::Hello, vec![]), (Kind::Returned, b"seven".to_vec()), (Kind::Failed, b"x".to_vec())];
            assert_eq!(seen, expected, "split at {split}");
        }
    }

    #[test]
    fn a_promise_of_bytes_takes_no_memory() {
        let mut buffer = BytesMut::from(&header(Kind::Returned, u64::MAX)[..]);
        assert!(Frames { max_message: u64::MAX }.decode(&mut buffer).unwrap().is_none());
        assert!(buffer.capacity() <= 2 * READ_AHEAD);
    }

    #[test]
    fn what_is_not_a_frame() {
        let bad = |index: usize, byte| {
            let mut bytes = header(Kind::Returned, 0);
            bytes[index] = byte;
            Frames { max_message: MAX }.decode(&mut BytesMut::from(&bytes[..]))
        };
        assert!(bad(8, Kind::Started as u8).is_ok());
        for (index, byte) in [(8, 0), (8, 255), (9, 0), (9, VERSION + 1), (12, 1), (15, 1)] {
            assert!(matches!(bad(index, byte), Err(FrameError::Header(_))), "byte {index} = {byte}");
        }
    }

    #[test]
    fn limits_by_kind() {
        let length =
            |kind, length| Frames { max_message: MAX }.decode(&mut BytesMut::from(&header(kind, length)[..]));
        assert!(length(Kind::Returned, MAX).is_ok());
        assert!(matches!(
            length(Kind::Returned, MAX + 1),
            Err(FrameError::TooLong { length: 1001, limit: MAX })
        ));
        assert!(length(Kind::Failed, MAX_REPORT).is_ok());
        assert!(length(Kind::Failed, MAX_REPORT + 1).is_err());
    }

    #[test]
    fn blocking_reader_agrees() {
        let bytes = frame(Kind::Arguments, b"abc");
        for cut in 0..bytes.len() {
            assert!(read_frame(&mut &bytes[..cut], MAX).unwrap().is_none(), "cut at {cut}");
        }
        assert_eq!(read_frame(&mut &bytes[..], MAX).unwrap(), Some((Kind::Arguments, b"abc".to_vec())));
    }
}
