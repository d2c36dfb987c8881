//! What has come through a pipe and was not taken yet.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::net::{RecvFlags, recv};

use serde::{Deserialize, Serialize};

use super::error::RecvError;
use super::frame::{ENTRY, HEADER, Header, Kind, SlabEntry, StringEntry, size};
use super::travel::Held;
use super::watch::Done;
use crate::sys::Mapping;
use crate::wire::handles::receive_now;
use crate::wire::{Known, Limits, behind, forget, give_back, read_slab};

/// The room for what has come: at first, and as long as frames fit into it.
const ROOM: usize = 8 << 10;
const MOST_ROOM: usize = 68 << 10;

/// How much of a long string is read at a time.
const PIECE: usize = 256 << 10;

/// What an end that moves to another process takes along.
#[derive(Serialize, Deserialize)]
pub(super) struct Luggage {
    /// The stream from the start of a frame on.
    bytes: Bytes,
    /// How far behind that start each batch came, and whether it is cut.
    batches: Vec<(u64, bool, Vec<Held>)>,
    slabs: Vec<(u64, Held)>,
}

/// The bytes that have come, and the descriptors beside them.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Room, in use from `start` to `end`.
    room: Vec<u8>,
    start: usize,
    end: usize,
    /// The strings on the stream of the frame at the start, as far as they have come.
    strings: Vec<Vec<u8>>,
    /// How much of the last one is still to come, if nothing else can come before it.
    wanted: usize,
    /// Where `end` is on the stream.
    position: u64,
    batches: VecDeque<Batch>,
    slabs: Known,
}

/// Descriptors that came with one read.
#[derive(Debug)]
struct Batch {
    /// Where the stream was after that: they are beside a frame that began before it.
    until: u64,
    handles: VecDeque<Arc<OwnedFd>>,
    /// Whether the kernel has dropped some: this process could have no more.
    is_cut: bool,
}

/// A frame that has come.
#[derive(Debug)]
pub(super) struct Frame {
    body: Body,
    pub(super) strings: VecDeque<Vec<u8>>,
    pub(super) handles: VecDeque<Arc<OwnedFd>>,
}

#[derive(Debug)]
enum Body {
    /// In the room, until more is read.
    InRoom(Range<usize>),
    Aside(Vec<u8>),
}

/// The frame at the start, as far as its first bytes tell.
#[derive(Debug)]
struct Outline {
    header: Header,
    slab: Option<SlabEntry>,
    strings: Vec<StringEntry>,
}

impl Outline {
    /// Where its body begins.
    fn body(&self) -> usize {
        HEADER + self.header.length_of_table()
    }

    /// Where its body ends.
    fn end(&self) -> usize {
        self.body() + self.header.length as usize
    }

    /// Its slab will not be read. One whose descriptor is lost is known to nobody.
    fn give_slab_back(&self, socket: &OwnedFd) {
        match self.slab {
            Some(SlabEntry { number, is_new: false }) => give_back(socket, number),
            Some(SlabEntry { number, is_new: true }) => forget(socket, number),
            None => {}
        }
    }
}

impl Ahead {
    fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    /// Whether the sender is in the middle of a frame.
    pub(super) fn is_partial(&self) -> bool {
        self.start < self.end
    }

    /// What the frame at the start is, if it has come whole.
    ///
    /// # Errors
    /// If it is none, or exceeds a limit: there is no telling where the next one begins.
    pub(super) fn whole(&mut self, limits: &Limits) -> Result<Option<Kind>, RecvError> {
        if let Some((kind, body)) = self.plain()
            && body.len() as u64 <= limits.max_message
        {
            return Ok(Some(kind));
        }
        let Some(outline) = self.outline(limits)? else { return Ok(None) };
        Ok((self.bytes().len() >= outline.end() && self.gather(&outline)).then_some(outline.header.kind))
    }

    /// The frame at the start, if it has come whole, and has nothing beside or aside: most are so.
    fn plain(&self) -> Option<(Kind, Range<usize>)> {
        let (first, rest) = self.bytes().split_first_chunk()?;
        let Header { length, handles: 0, kind, aside: 0, .. } = Header::from_bytes(*first)? else {
            return None;
        };
        let body = self.start + HEADER..self.start + HEADER + length as usize;
        (length as usize <= rest.len() && self.batches.is_empty()).then_some((kind, body))
    }

    /// Takes the frame at the start, which has come whole, if it has nothing beside or aside.
    pub(super) fn take_plain(&mut self) -> Option<&[u8]> {
        let (_, body) = self.plain()?;
        self.start = body.end;
        Some(&self.room[body])
    }

    /// The first bytes of the frame at the start, if they have come.
    fn outline(&self, limits: &Limits) -> Result<Option<Outline>, RecvError> {
        let Some((first, rest)) = self.bytes().split_first_chunk() else { return Ok(None) };
        let broken = || RecvError::BadMessage { reason: format!("a frame begins with {first:02x?}") };
        let header = Header::from_bytes(*first).ok_or_else(broken)?;
        let Some(table) = rest.get(..header.length_of_table()) else { return Ok(None) };
        let (table, _none) = table.as_chunks::<ENTRY>();
        let (slab, strings) = match table.split_first() {
            None => (None, Vec::new()),
            Some((slab, strings)) => {
                let strings: Vec<_> = strings.iter().map(|entry| StringEntry::from_bytes(*entry)).collect();
                (SlabEntry::from_bytes(*slab), strings)
            }
        };
        size(&header, &strings, limits)
            .map_err(|size| RecvError::TooLarge { size, limit: limits.max_message })?;
        let for_slab = u16::from(slab.is_some_and(|slab| slab.is_new));
        if header.handles > limits.max_handles.saturating_add(for_slab) {
            let reason = format!("{} handles where the limit is {}", header.handles, limits.max_handles);
            return Err(RecvError::BadMessage { reason });
        }
        Ok(Some(Outline { header, slab, strings }))
    }

    /// Moves what has come of the long strings to where they belong; whether they are whole.
    fn gather(&mut self, outline: &Outline) -> bool {
        let behind = self.start + outline.end();
        let mut from = behind;
        self.wanted = 0;
        for (index, string) in outline.strings.iter().filter(|string| !string.in_slab).enumerate() {
            if index == self.strings.len() {
                self.strings.push(Vec::new());
            }
            let bytes = &mut self.strings[index];
            let missing = string.length as usize - bytes.len();
            let came = missing.min(self.end - from);
            bytes.extend_from_slice(&self.room[from..from + came]);
            from += came;
            self.wanted = missing - came;
            if self.wanted > 0 {
                break;
            }
        }
        self.room.copy_within(from..self.end, behind);
        self.end -= from - behind;
        self.wanted == 0
    }

    /// Takes the frame at the start, which has come whole. It is taken also where it cannot be given.
    ///
    /// # Errors
    /// If other descriptors came than it announces, or its slab cannot be read.
    pub(super) fn take(&mut self, socket: &OwnedFd, limits: &Limits) -> Result<Frame, RecvError> {
        let outline = self.outline(limits)?.ok_or(RecvError::CutOff)?;
        let body = Body::InRoom(self.start + outline.body()..self.start + outline.end());
        self.start += outline.end();
        let on_stream = std::mem::take(&mut self.strings);
        let (mut strings, mut handles) = (VecDeque::new(), VecDeque::new());
        if outline.header.handles > 0 || !self.batches.is_empty() {
            handles =
                self.handles(outline.header.handles).inspect_err(|_lost| outline.give_slab_back(socket))?;
        }
        if outline.header.aside > 0 {
            let came = self.strings(&outline, &mut handles, on_stream);
            strings = came.inspect_err(|_lost| outline.give_slab_back(socket))?;
            if let Some(SlabEntry { number, .. }) = outline.slab {
                give_back(socket, number);
            }
        }
        let aside = if outline.header.body_aside { strings.pop_back() } else { None };
        Ok(Frame { body: aside.map_or(body, Body::Aside), strings, handles })
    }

    /// Takes the frame at the start, whose body is bytes, and has nothing else.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn take_bytes(&mut self, socket: &OwnedFd, limits: &Limits) -> Result<Frame, RecvError> {
        let frame = self.take(socket, limits)?;
        if !frame.strings.is_empty() {
            return Err(RecvError::BadMessage { reason: "strings stand aside from bytes".into() });
        }
        Ok(frame)
    }

    /// Takes the frame at the start, whose body is bytes, into a buffer.
    ///
    /// # Errors
    /// As [`take`](Self::take); if the bytes are more.
    pub(super) fn take_into(
        &mut self,
        buffer: &mut [u8],
        socket: &OwnedFd,
        limits: &Limits,
    ) -> Result<usize, RecvError> {
        let outline = self.outline(limits)?.ok_or(RecvError::CutOff)?;
        if let ([StringEntry { length, in_slab: true }], Some(entry)) = (&outline.strings[..], outline.slab)
            && outline.header.body_aside
            && let Some(buffer) = buffer.get_mut(..*length as usize)
        {
            self.start += outline.end();
            let handles = self.handles(outline.header.handles);
            let copied = handles.and_then(|mut handles| Ok(self.slab(entry, &mut handles)?.copy_to(buffer)));
            if !copied.inspect_err(|_lost| outline.give_slab_back(socket))? {
                outline.give_slab_back(socket);
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            give_back(socket, entry.number);
            return Ok(buffer.len());
        }
        let frame = self.take_bytes(socket, limits)?;
        let bytes = self.body(&frame);
        match buffer.get_mut(..bytes.len()) {
            Some(buffer) => buffer.copy_from_slice(bytes),
            None => return Err(RecvError::BufferTooShort(self.own_body(frame))),
        }
        Ok(bytes.len())
    }

    /// The body of a frame that was just taken.
    pub(super) fn body<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        match &frame.body {
            Body::InRoom(range) => &self.room[range.clone()],
            Body::Aside(bytes) => bytes,
        }
    }

    /// The same, to keep.
    pub(super) fn own_body(&self, frame: Frame) -> Bytes {
        match frame.body {
            Body::InRoom(range) => Bytes::copy_from_slice(&self.room[range]),
            Body::Aside(bytes) => bytes.into(),
        }
    }

    /// The descriptors of the frame that was just passed. Those that are left over go: none of a frame behind it has come with
    /// a read that ended before it.
    fn handles(&mut self, announced: u16) -> Result<VecDeque<Arc<OwnedFd>>, RecvError> {
        let announced = usize::from(announced);
        let end = self.position - (self.end - self.start) as u64;
        let (mut handles, mut is_cut) = (VecDeque::new(), false);
        while handles.len() < announced
            && !is_cut
            && let Some(batch) = self.batches.front_mut()
        {
            let missing = (announced - handles.len()).min(batch.handles.len());
            handles.extend(batch.handles.drain(..missing));
            is_cut = batch.is_cut;
            if batch.handles.is_empty() {
                self.batches.pop_front();
            }
        }
        let mut came = handles.len();
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.until <= end) {
            came += batch.handles.len();
            is_cut |= batch.is_cut;
        }
        match (is_cut, came == announced) {
            (true, _) => Err(RecvError::NoDescriptors),
            (false, false) => Err(RecvError::Handles { announced, came }),
            (false, true) => Ok(handles),
        }
    }

    /// The long strings of a frame, in order.
    fn strings(
        &mut self,
        outline: &Outline,
        handles: &mut VecDeque<Arc<OwnedFd>>,
        on_stream: Vec<Vec<u8>>,
    ) -> Result<VecDeque<Vec<u8>>, RecvError> {
        let (mut strings, mut on_stream) = (VecDeque::new(), on_stream.into_iter());
        let slab = outline.slab.map(|entry| self.slab(entry, handles)).transpose()?;
        let mut at = 0;
        for string in &outline.strings {
            let lost = || RecvError::BadMessage { reason: "a string stands in no slab".into() };
            let length = usize::try_from(string.length).map_err(io::Error::other)?;
            strings.push_back(if string.in_slab {
                let bytes = read_slab(slab.ok_or_else(lost)?, at, length)?;
                at = behind(at, length);
                bytes
            } else {
                on_stream.next().ok_or_else(lost)?
            });
        }
        Ok(strings)
    }

    /// The slab that a frame names; a new one is its first handle.
    fn slab(
        &mut self,
        entry: SlabEntry,
        handles: &mut VecDeque<Arc<OwnedFd>>,
    ) -> Result<&Mapping, RecvError> {
        if entry.is_new {
            let lost = || RecvError::BadMessage { reason: "a slab came without its descriptor".into() };
            let memory = handles.pop_front().ok_or_else(lost)?;
            self.slabs.add(entry.number, memory).map_err(RecvError::of_reading)?;
        }
        self.slabs.slab(entry.number).map_err(RecvError::of_reading)
    }

    /// No frame comes any more that could name one.
    pub(super) fn forget_slabs(&mut self) {
        self.slabs = Known::default();
    }

    /// Reads what there is, without waiting; nothing at the end of the stream.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`; if more descriptors have come than a frame may have.
    pub(super) fn fill(&mut self, socket: &OwnedFd, limits: &Limits) -> io::Result<Done<usize>> {
        // One that the kernel has dropped counts, too.
        let held: usize = self.batches.iter().map(|batch| batch.handles.len().max(1)).sum();
        if held > usize::from(limits.max_handles) + 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "more handles came than a message may have",
            ));
        }
        let (count, asked) =
            if self.wanted > 0 { self.fill_string(socket)? } else { self.fill_room(socket)? };
        self.position += count as u64;
        // Where descriptors came the kernel has stopped, though there may be more.
        let is_all =
            count > 0 && count < asked && self.batches.back().is_none_or(|last| last.until < self.position);
        Ok(if is_all { Done::All(count) } else { Done::Some(count) })
    }

    /// Reads within a string: no descriptors belong there, and this call drops what comes.
    fn fill_string(&mut self, socket: &OwnedFd) -> io::Result<(usize, usize)> {
        let Some(bytes) = self.strings.last_mut() else { return Ok((0, 0)) };
        let (have, piece) = (bytes.len(), self.wanted.min(PIECE));
        bytes.resize(have + piece, 0);
        let received = recv(socket, &mut bytes[have..], RecvFlags::DONTWAIT);
        let count = received.map_or(0, |(_, count)| count);
        bytes.truncate(have + count);
        self.wanted -= count;
        received.map_err(io::Error::from)?;
        Ok((count, piece))
    }

    fn fill_room(&mut self, socket: &OwnedFd) -> io::Result<(usize, usize)> {
        self.make_room();
        let (count, handles) = receive_now(socket, &mut self.room[self.end..])?;
        let asked = self.room.len() - self.end;
        self.end += count;
        let is_cut = handles.is_none();
        let handles: VecDeque<_> = handles.unwrap_or_default().into_iter().map(Arc::new).collect();
        if is_cut || !handles.is_empty() {
            self.batches.push_back(Batch { until: self.position + count as u64, handles, is_cut });
        }
        Ok((count, asked))
    }

    /// Makes room behind what has come, more of it the more has come.
    fn make_room(&mut self) {
        if self.start == self.end {
            let was_filled = self.end == self.room.len();
            (self.start, self.end) = (0, 0);
            if self.room.len() > MOST_ROOM {
                self.room = Vec::new();
            } else if was_filled && self.room.len() < MOST_ROOM {
                self.room.resize(MOST_ROOM, 0);
            }
        } else if self.start > 0 && self.end == self.room.len() {
            self.room.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.room.len() {
            self.room.resize((2 * self.room.len()).max(ROOM), 0);
        }
    }

    /// A copy of all that is needed to go on from here.
    ///
    /// # Errors
    /// If what has come is no frame.
    pub(super) fn luggage(&self, limits: &Limits) -> Result<Luggage, RecvError> {
        let (before, behind) = match self.outline(limits)? {
            Some(outline) => self.bytes().split_at(outline.end().min(self.bytes().len())),
            None => (self.bytes(), &[][..]),
        };
        let mut bytes = before.to_vec();
        self.strings.iter().for_each(|string| bytes.extend_from_slice(string));
        bytes.extend_from_slice(behind);
        let start = self.position - bytes.len() as u64;
        let held = |handle: &Arc<OwnedFd>| Held(Arc::clone(handle));
        let batches = self
            .batches
            .iter()
            .map(|batch| (batch.until - start, batch.is_cut, batch.handles.iter().map(held).collect()));
        let slabs = self.slabs.iter().map(|(number, memory)| (number, held(memory)));
        Ok(Luggage { batches: batches.collect(), slabs: slabs.collect(), bytes: bytes.into() })
    }

    /// Goes on from there.
    ///
    /// # Errors
    /// If what was to be a slab is none, or cannot be mapped.
    pub(super) fn unpacked(luggage: Luggage) -> io::Result<Self> {
        let Luggage { bytes, batches, slabs } = luggage;
        let mut known = Known::default();
        slabs.into_iter().try_for_each(|(number, Held(memory))| known.add(number, memory))?;
        let batches = batches.into_iter().map(|(until, is_cut, handles)| Batch {
            until,
            is_cut,
            handles: handles.into_iter().map(|Held(handle)| handle).collect(),
        });
        Ok(Self {
            end: bytes.len(),
            position: bytes.len() as u64,
            room: bytes.into(),
            batches: batches.collect(),
            slabs: known,
            ..Self::default()
        })
    }
}
