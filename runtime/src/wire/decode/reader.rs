//! The bytes of a message as they are read, and what reading them may still cost.

use std::collections::VecDeque;

use super::fault::{Fault, Malformed, Reason};
use crate::wire::Limits;
use crate::wire::aside::{ASIDE, MOST};
use crate::wire::beside::{self, Incoming};

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
    /// Whether it may have handles.
    is_ours: bool,
    /// Apart, because most have nothing beside them, and all are moved.
    beside: Option<Box<Beside>>,
}

/// What came with a message.
#[derive(Debug)]
struct Beside {
    /// The handles, but while one of them is read.
    handles: Option<Incoming>,
    /// The long strings that stand aside, if they do.
    aside: Option<VecDeque<Vec<u8>>>,
    /// How many of them were read.
    taken_aside: usize,
}

/// A string of bytes: a part of the message, or one that stood aside.
pub(super) enum Bytes<'de> {
    Within(&'de [u8]),
    Aside(Vec<u8>),
}

/// The same, of text.
pub(super) enum Text<'de> {
    Within(&'de str),
    Aside(String),
}

impl<'de> Reader<'de> {
    /// Of bytes that are no message of ours: nothing goes with them.
    #[inline]
    pub(super) fn new(bytes: &'de [u8], limits: &Limits) -> Self {
        let (max_depth, max_heap) = (limits.max_depth, limits.heap_for(bytes.len() as u64));
        Self {
            rest: bytes,
            depth: max_depth,
            heap: max_heap,
            max_depth,
            max_heap,
            is_ours: false,
            beside: None,
        }
    }

    /// Of a message of ours, that has come with nothing.
    #[inline]
    pub(super) fn of_a_message(bytes: &'de [u8], limits: &Limits) -> Self {
        Self { is_ours: true, ..Self::new(bytes, limits) }
    }

    /// Of a message of ours, with what has come with it.
    #[cold]
    pub(super) fn with(
        bytes: &'de [u8],
        handles: Incoming,
        aside: Option<VecDeque<Vec<u8>>>,
        limits: &Limits,
    ) -> Self {
        let length_aside: usize = aside.iter().flatten().map(Vec::len).sum();
        let max_heap = limits.heap_for((bytes.len() + length_aside) as u64);
        let beside = Some(Box::new(Beside { handles: Some(handles), aside, taken_aside: 0 }));
        Self { heap: max_heap, max_heap, beside, ..Self::of_a_message(bytes, limits) }
    }

    /// Checks that nothing is left.
    #[inline]
    pub(super) fn end(&self) -> Result<(), Fault> {
        match &self.beside {
            _ if !self.rest.is_empty() => Err(Malformed::Trailing(self.rest.len()).into()),
            None => Ok(()),
            Some(beside) => beside.end(),
        }
    }

    /// Reads what a handle has said, with the table open for it.
    #[cold]
    pub(super) fn handle<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let none = || Incoming::new(VecDeque::new(), None);
        let mut handles = match &mut self.beside {
            Some(beside) => beside.handles.take(),
            None => self.is_ours.then(none),
        };
        let value = beside::while_reading(&mut handles, || read(&mut *self));
        if let Some(beside) = &mut self.beside {
            beside.handles = handles;
        }
        value
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
    pub(super) fn bytes(&mut self) -> Result<Bytes<'de>, Fault> {
        let length = self.length()?;
        if length >= ASIDE && self.beside.as_ref().is_some_and(|beside| beside.is_aside_next()) {
            return self.bytes_aside(length);
        }
        let bytes = self.take(length)?;
        self.charge(length, 1)?;
        Ok(Bytes::Within(bytes))
    }

    #[cold]
    fn bytes_aside(&mut self, length: usize) -> Result<Bytes<'de>, Fault> {
        self.charge(length, 1)?;
        let bytes = self.beside.as_mut().and_then(|beside| beside.take_aside());
        bytes.filter(|bytes| bytes.len() == length).map(Bytes::Aside).ok_or_else(|| Malformed::Aside.into())
    }

    /// A string behind its length, charged.
    #[inline]
    pub(super) fn text(&mut self) -> Result<Text<'de>, Fault> {
        let text = match self.bytes()? {
            Bytes::Within(bytes) => std::str::from_utf8(bytes).ok().map(Text::Within),
            Bytes::Aside(bytes) => String::from_utf8(bytes).ok().map(Text::Aside),
        };
        text.ok_or_else(|| Malformed::Utf8.into())
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

impl Beside {
    fn end(&self) -> Result<(), Fault> {
        let handles = self.handles.as_ref().map_or(0, |incoming| incoming.handles.len());
        if handles > 0 {
            Err(Malformed::Handles(handles).into())
        } else if self.aside.as_ref().is_some_and(|aside| !aside.is_empty()) {
            Err(Malformed::Aside.into())
        } else {
            Ok(())
        }
    }

    const fn is_aside_next(&self) -> bool {
        self.aside.is_some() && self.taken_aside < MOST
    }

    fn take_aside(&mut self) -> Option<Vec<u8>> {
        self.taken_aside += 1;
        self.aside.as_mut()?.pop_front()
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
