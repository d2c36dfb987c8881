//! One number.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::cells::Cells;
use super::layout::{Kind, room_for};
use super::piece::{Piece, WORD};
use super::region::{Object, Region};
use super::{Bits, Number, Scalar};

/// A number, a `bool` or a `char` that processes share: each operation is one step, which no other process sees half done.
///
/// It has what the atomics of [`std::sync::atomic`] have, for floats and `char` too. There is no way to change it in two steps by
/// mistake, as Python's `value.value += 1` does: what depends on the old value is one of the operations that begin with `fetch_`,
/// or [`update`](Self::update).
///
/// # Ordering
/// All operations are sequentially consistent ([`SeqCst`](std::sync::atomic::Ordering::SeqCst)): all processes see those of all
/// `Atomic`s in one and the same order, and who sees what another one has stored sees also whatever that one has written before.
///
/// # Examples
/// ```
/// use procession::process;
/// use procession::shared::Atomic;
///
/// #[process]
/// fn counts(seen: Atomic<u64>, warmest: Atomic<f64>) {
///     seen.fetch_add(1);
///     warmest.fetch_max(21.5);
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let (seen, warmest) = (Atomic::new(0)?, Atomic::new(f64::MIN)?);
/// counts(seen.clone(), warmest.clone()).await?;
/// assert_eq!((seen.load(), warmest.load()), (1, 21.5));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Value")]
pub struct Atomic<T> {
    object: Object,
    is: PhantomData<fn(T) -> T>,
}

impl<T: Scalar> Atomic<T> {
    /// Makes one, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it.
    pub fn new(value: T) -> io::Result<Self> {
        Self::new_in(&Region::for_one(WORD)?, value)
    }

    /// Makes one in a region.
    ///
    /// # Errors
    /// If the region has no room left.
    pub fn new_in(region: &Region, value: T) -> io::Result<Self> {
        let new = Self { object: Object::new(region, Kind::Atomic, WORD)?, is: PhantomData };
        new.store(value);
        Ok(new)
    }

    /// How many bytes of a region one takes.
    #[must_use]
    pub const fn size_in_region() -> usize {
        room_for(WORD)
    }

    /// The value.
    #[must_use]
    pub fn load(&self) -> T {
        self.piece().load(SeqCst)
    }

    /// Puts another value in its place.
    pub fn store(&self, value: T) {
        self.piece().store(value, SeqCst);
    }

    /// Puts another value in its place; gives the one before.
    pub fn swap(&self, value: T) -> T {
        self.piece().swap(value)
    }

    /// Puts `new` in its place if it is `current`; gives the value that it found.
    ///
    /// Floats are compared bit by bit: a NaN is the same NaN, and 0.0 is not -0.0.
    ///
    /// # Errors
    /// The value that it found, which is another than `current` and has stayed.
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        self.piece().compare_exchange(current, new)
    }

    /// Puts in its place what a function makes of it; gives the value before.
    ///
    /// Where another process was faster, the function is called again, with what that one has left.
    pub fn update(&self, new: impl FnMut(T) -> T) -> T {
        self.piece().update(new)
    }

    fn piece(&self) -> Piece<'_, T> {
        let cells = Cells::new(self.object.attachment.shared(), self.object.at);
        cells.piece().expect("the place of a handle lies within its region")
    }
}

impl<T: Number> Atomic<T> {
    /// Adds to it; gives the value before. Integers wrap around where they overflow.
    pub fn fetch_add(&self, value: T) -> T {
        self.piece().fetch_add(value)
    }

    /// Subtracts from it; gives the value before. Integers wrap around where they overflow.
    pub fn fetch_sub(&self, value: T) -> T {
        self.piece().fetch_sub(value)
    }

    /// Leaves the smaller of the two; gives the value before. A NaN is ignored, as by [`f64::min`].
    pub fn fetch_min(&self, value: T) -> T {
        self.piece().fetch_min(value)
    }

    /// Leaves the larger of the two; gives the value before. A NaN is ignored, as by [`f64::max`].
    pub fn fetch_max(&self, value: T) -> T {
        self.piece().fetch_max(value)
    }
}

impl<T: Bits> Atomic<T> {
    /// Leaves the bits that both have; gives the value before.
    pub fn fetch_and(&self, value: T) -> T {
        self.piece().fetch_and(value)
    }

    /// Leaves the bits that one of the two has; gives the value before.
    pub fn fetch_or(&self, value: T) -> T {
        self.piece().fetch_or(value)
    }

    /// Leaves the bits that exactly one of the two has; gives the value before.
    pub fn fetch_xor(&self, value: T) -> T {
        self.piece().fetch_xor(value)
    }
}

/// Another handle of the same one.
impl<T> Clone for Atomic<T> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), is: PhantomData }
    }
}

impl<T: Scalar + fmt::Debug> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Atomic").field(&self.load()).finish()
    }
}

impl<T> Serialize for Atomic<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Atomic<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(deserializer, Kind::Atomic, |size| size == WORD)?;
        Ok(Self { object, is: PhantomData })
    }
}
