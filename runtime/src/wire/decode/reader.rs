//! The bytes of a message as they are read, and what reading them may still cost.

use super::fault::{Fault, Malformed, Reason};
use crate::wire::Limits;

/// The unread rest of a message.
#[derive(Debug)]
pub(super) struct Reader<'de> {
    rest: &'de [u8],
    /// Containers that may still be opened inside the present one.
    depth: u32,
    /// Bytes of memory that may still be taken.
    heap: u64,
    max_depth: u32,
    max_heap: u64,
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8], limits: &Limits) -> Self {
        let (max_depth, max_heap) = (limits.max_depth, limits.heap_for(bytes.len()));
        Self { rest: bytes, depth: max_depth, heap: max_heap, max_depth, max_heap }
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.rest.len()).into()) }
    }

    /// The bytes that are left.
    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed::End)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Malformed::End)?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'de [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::End)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind their length, charged.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'de [u8], Fault> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        self.charge(length, 1)?;
        Ok(bytes)
    }

    /// A string behind its length, charged.
    #[inline]
    pub(super) fn str(&mut self) -> Result<&'de str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_utf8_error| Malformed::Utf8.into())
    }

    /// A character, written as a string; like postcard, the first one of several.
    #[inline]
    pub(super) fn char(&mut self) -> Result<char, Fault> {
        let length = self.length()?;
        if length > 4 {
            return Err(Malformed::Char.into());
        }
        let text = std::str::from_utf8(self.take(length)?).ok();
        text.and_then(|text| text.chars().next()).ok_or_else(|| Malformed::Char.into())
    }

    #[inline]
    pub(super) fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.varint_u64()?).map_err(|_too_large| Malformed::Varint.into())
    }

    /// Takes the memory of `count` things of `size` bytes out of the budget.
    #[inline]
    pub(super) fn charge(&mut self, count: usize, size: usize) -> Result<(), Fault> {
        let cost = (count as u64).saturating_mul(size as u64);
        self.heap = self.heap.checked_sub(cost).ok_or(Reason::Heap(self.max_heap))?;
        Ok(())
    }

    /// Reads a container, one level deeper.
    #[inline]
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth = self.depth.checked_sub(1).ok_or(Reason::Depth(self.max_depth))?;
        let value = read(self);
        self.depth += 1;
        value
    }
}

/// Integers in groups of seven bits, least significant first; all but the last group have the high bit set.
macro_rules! varint {
    ($($method:ident $long:ident $type:ty;)*) => {
        impl Reader<'_> {$(
            #[inline]
            pub(super) fn $method(&mut self) -> Result<$type, Fault> {
                match self.rest.split_first() {
                    Some((&byte, rest)) if byte < 0x80 => {
                        self.rest = rest;
                        Ok(byte.into())
                    }
                    _ => self.$long(),
                }
            }

            fn $long(&mut self) -> Result<$type, Fault> {
                let (mut value, mut shift, mut rest) = (0, 0, self.rest);
                while shift < <$type>::BITS {
                    let (&byte, after) = rest.split_first().ok_or(Malformed::End)?;
                    let group = <$type>::from(byte & 0x7f);
                    value |= group << shift;
                    rest = after;
                    if byte < 0x80 {
                        self.rest = rest;
                        // The last possible group has room for the remaining bits only.
                        let fits = group << shift >> shift == group;
                        return if fits { Ok(value) } else { Err(Malformed::Varint.into()) };
                    }
                    shift += 7;
                }
                Err(Malformed::Varint.into())
            }
        )*}
    };
}

varint! {
    varint_u16 long_u16 u16;
    varint_u32 long_u32 u32;
    varint_u64 long_u64 u64;
    varint_u128 long_u128 u128;
}
