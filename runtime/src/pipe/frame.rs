//! How messages stand on the stream of a pipe.
//!
//! ```text
//! 0        4         6      7       8
//! | length | handles | kind | aside | what stands aside | body: `length` bytes | strings on the stream
//!
//! what stands aside, if anything does:
//! | slab: 8 bytes | for each string, 8 bytes: its length, and above it whether the slab has it |
//! ```
//!
//! A long body stands aside itself, as the last of the strings.
//!
//! All numbers are little-endian. `handles` counts the descriptors that travel beside the first bytes of the frame; that of a
//! new slab comes first.

use crate::wire::Limits;

/// Bytes before everything else.
pub(super) const HEADER: usize = 8;

/// Bytes of the slab, and of each string, in what stands aside.
pub(super) const ENTRY: usize = 8;

/// What the body of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A value, encoded.
    Message = 1,
    /// Bytes, as they are.
    Bytes = 2,
}

/// Above a kind, where the body is the last of the strings aside.
const BODY_ASIDE: u8 = 0x80;

/// The first bytes of a frame, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) handles: u16,
    pub(super) kind: Kind,
    pub(super) aside: u8,
    /// Whether the body is the last of them.
    pub(super) body_aside: bool,
}

impl Header {
    pub(super) const fn to_bytes(self) -> [u8; HEADER] {
        let [a, b, c, d] = self.length.to_le_bytes();
        let [e, f] = self.handles.to_le_bytes();
        let kind = self.kind as u8 | if self.body_aside { BODY_ASIDE } else { 0 };
        [a, b, c, d, e, f, kind, self.aside]
    }

    /// `None` if a peer of ours would not write this.
    pub(super) fn from_bytes(bytes: [u8; HEADER]) -> Option<Self> {
        let [a, b, c, d, e, f, kind, aside] = bytes;
        let body_aside = kind & BODY_ASIDE != 0;
        let kind = match kind & !BODY_ASIDE {
            1 => Kind::Message,
            2 => Kind::Bytes,
            _ => return None,
        };
        let (length, handles) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
        let is_one = !body_aside || aside > 0 && length == 0;
        is_one.then_some(Self { length, handles, kind, aside, body_aside })
    }

    /// How long the part is that says what stands aside.
    pub(super) fn length_of_table(&self) -> usize {
        match self.aside {
            0 => 0,
            strings => ENTRY + ENTRY * usize::from(strings),
        }
    }
}

/// A slab, as a frame names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlabEntry {
    pub(super) number: u64,
    /// Whether its descriptor comes with this frame.
    pub(super) is_new: bool,
}

/// A string that stands aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StringEntry {
    pub(super) length: u64,
    pub(super) in_slab: bool,
}

/// A flag above a number. No number comes near it.
const FLAG: u64 = 1 << 63;

fn with_flag(number: u64, flag: bool) -> [u8; ENTRY] {
    (number | if flag { FLAG } else { 0 }).to_le_bytes()
}

impl SlabEntry {
    /// No slab is number zero.
    pub(super) fn to_bytes(entry: Option<Self>) -> [u8; ENTRY] {
        entry.map_or([0; ENTRY], |entry| with_flag(entry.number, entry.is_new))
    }

    pub(super) fn from_bytes(bytes: [u8; ENTRY]) -> Option<Self> {
        let word = u64::from_le_bytes(bytes);
        (word != 0).then_some(Self { number: word & !FLAG, is_new: word & FLAG != 0 })
    }
}

impl StringEntry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY] {
        with_flag(self.length, self.in_slab)
    }

    pub(super) fn from_bytes(bytes: [u8; ENTRY]) -> Self {
        let word = u64::from_le_bytes(bytes);
        Self { length: word & !FLAG, in_slab: word & FLAG != 0 }
    }
}

/// The whole size of a message, if it is within the limit.
///
/// # Errors
/// The size, if it is not.
pub(super) fn size(header: &Header, strings: &[StringEntry], limits: &Limits) -> Result<u64, u64> {
    let sizes = strings.iter().map(|string| string.length);
    let size = sizes.fold(u64::from(header.length), u64::saturating_add);
    if size > limits.max_message { Err(size) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let (length, handles, kind) = (0x0102_0304, 0x0506, Kind::Bytes);
        let header = Header { length, handles, kind, aside: 7, body_aside: false };
        assert_eq!(header.to_bytes(), [4, 3, 2, 1, 6, 5, 2, 7]);
        assert_eq!(Header::from_bytes(header.to_bytes()), Some(header));
        assert_eq!(header.length_of_table(), 64);
        let long = Header { length: 0, body_aside: true, ..header };
        assert_eq!(long.to_bytes(), [0, 0, 0, 0, 6, 5, 0x82, 7]);
        assert_eq!(Header::from_bytes(long.to_bytes()), Some(long));
        assert_eq!(Header::from_bytes([0, 0, 0, 0, 6, 5, 0x82, 0]), None, "no string is the body");
        assert_eq!(Header::from_bytes([1, 0, 0, 0, 6, 5, 0x82, 7]), None, "two bodies");
        for kind in [0, 3, 0x80, 255] {
            assert_eq!(Header::from_bytes([4, 3, 2, 1, 6, 5, kind, 7]), None);
        }
    }

    #[test]
    fn entries() {
        for is_new in [false, true] {
            let slab = SlabEntry { number: 5 << 32 | 9, is_new };
            assert_eq!(SlabEntry::from_bytes(SlabEntry::to_bytes(Some(slab))), Some(slab));
            let string = StringEntry { length: 1 << 40, in_slab: is_new };
            assert_eq!(StringEntry::from_bytes(string.to_bytes()), string);
        }
        assert_eq!(SlabEntry::from_bytes(SlabEntry::to_bytes(None)), None);
    }

    #[test]
    fn sizes() {
        let header = Header { length: 10, handles: 0, kind: Kind::Message, aside: 2, body_aside: false };
        let string = |length| StringEntry { length, in_slab: false };
        let limits = Limits::DEFAULT.max_message(30);
        assert_eq!(size(&header, &[string(15), string(5)], &limits), Ok(30));
        assert_eq!(size(&header, &[string(15), string(6)], &limits), Err(31));
        assert_eq!(size(&header, &[string(u64::MAX >> 1); 3], &limits), Err(u64::MAX));
    }
}
