//! Regions, and what stands in them.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::attachment::Attachment;
use super::bells::Bells;
use super::layout::{self, Kind};
use crate::sys::{Overlay, Place, Places};
use crate::wire::beside::{HandleKind, give_all, take_all};

/// Memory for many locks, values and arrays that the same processes share.
///
/// A lock that is made by its own `new` has a region to itself: three descriptors in each process that has a handle of it. Where
/// there are to be many, make one region, and the locks in it, by `new_in`: nine descriptors, however many they are.
///
/// Whoever has a handle of one thing in a region can write all that is in it, if it is hostile. So what goes to processes that
/// trust each other goes into one region, and what goes to others into another.
///
/// What is made in a region stays there until the last handle of anything in it is gone, in all processes.
///
/// # Examples
/// ```
/// use procession::shared::{Mutex, Region};
///
/// # fn main() -> std::io::Result<()> {
/// let region = Region::with_capacity(500 * Mutex::<u64>::size_in_region())?;
/// let locks = (0..500).map(|n| Mutex::new_in(&region, n)).collect::<std::io::Result<Vec<_>>>()?;
/// # assert_eq!(locks.len(), 500);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Region(Arc<Attachment>);

/// Bells of a region for one thing, and for many.
const BELLS: (usize, usize) = (2, 8);

impl Region {
    /// Makes a region with room for so many bytes of objects. How many one takes is said by its `size_in_region`.
    ///
    /// # Errors
    /// If the system has no memory for it, or no descriptors.
    pub fn with_capacity(bytes: usize) -> io::Result<Self> {
        Self::make(bytes, BELLS.1)
    }

    /// One for a single object.
    pub(crate) fn for_one(size: usize) -> io::Result<Self> {
        Self::make(layout::room_for(size), BELLS.0)
    }

    fn make(room: usize, bells: usize) -> io::Result<Self> {
        Ok(Self(Attachment::new(Arc::new(layout::make(room, bells)?), Bells::new(bells)?)?))
    }

    /// The process ids of those that take part in it: which have a handle of something in it, this one among them.
    #[must_use]
    pub fn members(&self) -> Vec<u32> {
        self.0.members().iter().map(|(_, who)| who.pid()).collect()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("members", &self.members()).finish_non_exhaustive()
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give_all(&self.0.handles().collect::<Vec<_>>(), HandleKind::Region, serializer)
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let attach = |handles: Vec<_>| {
            let mut handles = handles.into_iter();
            let memory = handles.next().ok_or(io::ErrorKind::InvalidData)?;
            Attachment::new(memory, Bells::from_handles(handles.as_slice())?)
        };
        take_all(HandleKind::Region, deserializer, attach).map(Self)
    }
}

/// Something that stands in a region.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) attachment: Arc<Attachment>,
    /// Where, in bytes from the region's beginning; its words and its data lie behind.
    pub(crate) at: usize,
}

impl Object {
    /// Makes one, of zeros.
    ///
    /// # Errors
    /// If the region has no room left.
    pub(crate) fn new(region: &Region, kind: Kind, size: usize) -> io::Result<Self> {
        let attachment = Arc::clone(&region.0);
        let at = layout::allocate(attachment.shared(), kind, size)?;
        Ok(Self { attachment, at })
    }

    /// What lies so many bytes behind its beginning.
    ///
    /// # Errors
    /// If it is not within the region: whoever has sent it may be hostile.
    pub(crate) fn words<W: Overlay>(&self, behind: usize) -> io::Result<Place<W>> {
        let place = self.at.checked_add(behind).and_then(|at| self.attachment.shared().place(at));
        place.ok_or_else(too_short)
    }

    /// So many of one kind, so many bytes behind its beginning.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn all_words<W: Overlay>(&self, behind: usize, count: usize) -> io::Result<Places<W>> {
        let shared = self.attachment.shared();
        let places = self.at.checked_add(behind).and_then(|at| shared.places(at, count));
        places.ok_or_else(too_short)
    }

    pub(crate) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.place().serialize(serializer)
    }

    /// Reads one of a kind, which is large enough.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: Kind,
        size: impl FnOnce(usize) -> bool,
    ) -> Result<Self, D::Error> {
        let (region, at) = Deserialize::deserialize(deserializer)?;
        Self::find(region, at, kind, size).map_err(D::Error::custom)
    }

    /// What stands at a place, if it is of a kind, and large enough.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn find(
        region: Region,
        at: u64,
        kind: Kind,
        size: impl FnOnce(usize) -> bool,
    ) -> io::Result<Self> {
        let (at, found) = layout::find(region.0.shared(), at, kind)?;
        if !size(found) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "what stands in a region is of another size",
            ));
        }
        Ok(Self { attachment: region.0, at })
    }

    /// Where it stands.
    pub(crate) fn place(&self) -> (Region, u64) {
        (Region(Arc::clone(&self.attachment)), self.at as u64)
    }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a region is shorter than it says")
}
