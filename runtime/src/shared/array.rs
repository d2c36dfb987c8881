//! Many values of one type.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::atomic::Ordering::SeqCst;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::bounds::within;
use super::cells::Cells;
use super::layout::{Kind, room_for};
use super::piece::Piece;
use super::region::{Object, Region};
use super::words::Lock;
use super::{Locked, Mutex, MutexGuard, Number, OutOfBounds, Plain, Scalar, TryLockError};

/// Values of one type that processes share, of a fixed number.
///
/// | what for | by |
/// |---|---|
/// | one element, of any plain data | [`get`](Self::get), [`set`](Self::set) |
/// | one number, in one step | [`load`](Self::load), [`store`](Self::store), [`swap`](Self::swap), [`compare_exchange`](Self::compare_exchange), [`update`](Self::update), [`fetch_add`](Self::fetch_add), [`fetch_sub`](Self::fetch_sub) |
/// | many, by copies | [`read`](Self::read), [`read_into`](Self::read_into), [`write`](Self::write), [`to_vec`](Self::to_vec), [`iter`](Self::iter) |
/// | several steps that nobody may come between | [`lock`](Self::lock), around any of these |
///
/// What lies outside is an error everywhere, and never a panic; nothing is written then.
///
/// # What others see meanwhile
/// Each number, `bool` or `char` is read and written whole. A struct, and a range, is read and written number by number: who
/// reads it while another process writes it may see some numbers of before and some of after. Where that matters all
/// take the [`lock`](Self::lock), which is an agreement: the other operations do not look at it.
///
/// The operations in one step are sequentially consistent, as those of an [`Atomic`](super::Atomic). The others are in no order of
/// their own: a process sees what another one has written when it has learned of that by a lock, a message, or one of the operations in
/// one step.
///
/// # Examples
/// ```
/// use procession::shared::{Array, OutOfBounds};
/// use procession::{Failure, process};
///
/// /// Leaves in each element the sum of all up to it.
/// #[process]
/// fn sums(cells: Array<i32>) -> Result<(), Failure> {
///     let mut sum = 0;
///     let sums: Vec<_> = cells.iter().map(|n| { sum += n; sum }).collect();
///     cells.write(0, &sums)?;
///     Ok(())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let cells = Array::from_iter(0..6)?;
/// sums(cells.clone()).await??;
/// assert_eq!(cells.to_vec(), [0, 1, 3, 6, 10, 15]);
/// assert_eq!(cells.read(2..4)?, [3, 6]);
/// assert_eq!(cells.fetch_add(5, 100)?, 15);
/// assert!(matches!(cells.write(4, &[1, 2, 3]), Err(OutOfBounds { len: 6, .. })));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RawArray")]
#[doc(alias = "ShareableList")]
pub struct Array<T> {
    /// At the same place, as it begins with the words of a lock.
    lock: Mutex<()>,
    object: Object,
    len: usize,
    is: PhantomData<fn(T) -> T>,
}

/// Where the data begins: behind the words.
const DATA: usize = size_of::<Lock>();

impl<T: Plain> Array<T> {
    /// How far one element stands behind another: not at the same place, so that there are never more than a region has bytes.
    const STRIDE: usize = if T::STRIDE == 0 { 1 } else { T::STRIDE };

    /// Makes one of the values of an iterator, in memory of its own.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it.
    #[expect(clippy::should_implement_trait, reason = "that trait has no room for an error")]
    pub fn from_iter(values: impl IntoIterator<Item = T>) -> io::Result<Self> {
        Self::of(None, &values.into_iter().collect::<Vec<_>>())
    }

    /// Makes one of the values of an iterator, in a region.
    ///
    /// # Errors
    /// If the region has no room left.
    pub fn from_iter_in(region: &Region, values: impl IntoIterator<Item = T>) -> io::Result<Self> {
        Self::of(Some(region), &values.into_iter().collect::<Vec<_>>())
    }

    /// Makes one of so many elements in memory of its own, each of bytes that are zero.
    ///
    /// # Errors
    /// If the system has no memory or no descriptors for it.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        Self::make(None, len)
    }

    /// Makes one of so many elements in a region, each of bytes that are zero.
    ///
    /// # Errors
    /// If the region has no room left.
    pub fn zeroed_in(region: &Region, len: usize) -> io::Result<Self> {
        Self::make(Some(region), len)
    }

    /// How many bytes of a region one of so many elements takes.
    #[must_use]
    pub const fn size_in_region(len: usize) -> usize {
        room_for(Self::size(len))
    }

    const fn size(len: usize) -> usize {
        len.saturating_mul(Self::STRIDE).saturating_add(DATA)
    }

    fn of(region: Option<&Region>, values: &[T]) -> io::Result<Self> {
        let new = Self::make(region, values.len())?;
        T::store_all(values, new.cells(0));
        Ok(new)
    }

    fn make(region: Option<&Region>, len: usize) -> io::Result<Self> {
        let size = Self::size(len);
        let object = match region {
            Some(region) => Object::new(region, Kind::Array, size),
            None => Object::new(&Region::for_one(size)?, Kind::Array, size),
        };
        Self::over(object?, len)
    }

    fn over(object: Object, len: usize) -> io::Result<Self> {
        Ok(Self { lock: Mutex::of(object.clone())?, object, len, is: PhantomData })
    }

    /// How many elements one of so many bytes has; `None` where that is no whole number.
    fn len_of(size: usize) -> Option<usize> {
        let data = size.checked_sub(DATA)?;
        data.is_multiple_of(Self::STRIDE).then_some(data / Self::STRIDE)
    }

    /// How many elements it has: always the same.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no elements.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One element.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn get(&self, index: usize) -> Result<T, OutOfBounds> {
        Ok(T::load(self.element(index)?))
    }

    /// Puts another value in the place of an element.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn set(&self, index: usize, value: T) -> Result<(), OutOfBounds> {
        value.store(self.element(index)?);
        Ok(())
    }

    /// A copy of a range: `read(2..5)`, `read(..)`.
    ///
    /// # Errors
    /// If the range is not within the array.
    pub fn read(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>, OutOfBounds> {
        let range = within(range, self.len)?;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let from = self.cells(range.start);
        let mut values = vec![T::load(from); range.len()];
        T::load_all(from, &mut values);
        Ok(values)
    }

    /// Copies elements from `start` on into all of a slice.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn read_into(&self, start: usize, values: &mut [T]) -> Result<(), OutOfBounds> {
        let range = within(start..start.saturating_add(values.len()), self.len)?;
        T::load_all(self.cells(range.start), values);
        Ok(())
    }

    /// Puts values in the place of the elements from `start` on.
    ///
    /// # Errors
    /// If there are not so many: nothing is written then.
    pub fn write(&self, start: usize, values: &[T]) -> Result<(), OutOfBounds> {
        let range = within(start..start.saturating_add(values.len()), self.len)?;
        T::store_all(values, self.cells(range.start));
        Ok(())
    }

    /// A copy of all elements.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.read(..).unwrap_or_default()
    }

    /// The elements one after another, each as it is when the iterator comes to it.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + DoubleEndedIterator {
        (0..self.len).map(|index| T::load(self.cells(index)))
    }

    /// Waits until its lock is free, and locks it: nobody else has it until the guard is dropped.
    ///
    /// What was written is not taken back when a process dies that has the lock: unlike a [`Mutex`], the array may then be
    /// in the middle of something.
    ///
    /// # Errors
    /// [`OwnerDied`](super::OwnerDied), which has the guard: a process has died while it had the lock.
    ///
    /// # Cancel safety
    /// Safe: who is dropped while it waits gives its turn to the next.
    ///
    /// # Examples
    /// ```
    /// use procession::shared::Array;
    ///
    /// # async fn swap(cells: &Array<u64>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let guard = cells.lock().await?;
    /// let (first, last) = (cells.get(0)?, cells.get(9)?);
    /// cells.set(0, last)?;
    /// cells.set(9, first)?;
    /// drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "get_lock")]
    pub async fn lock(&self) -> Locked<'_, ()> {
        self.lock.lock().await
    }

    /// Locks it, blocking this thread until its lock is free: for code that is not async.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn blocking_lock(&self) -> Locked<'_, ()> {
        self.lock.blocking_lock()
    }

    /// Locks it if its lock is free.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if it is not, or [`TryLockError::OwnerDied`], which has the guard.
    pub fn try_lock(&self) -> Result<MutexGuard<'_, ()>, TryLockError<MutexGuard<'static, ()>>> {
        self.lock.try_lock()
    }

    /// The process that has it locked: for diagnosis, as it may have changed by the time that this returns.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        self.lock.owner()
    }

    fn element(&self, index: usize) -> Result<Cells<'_>, OutOfBounds> {
        let range = within(index..index.saturating_add(1), self.len)?;
        Ok(self.cells(range.start))
    }

    fn cells(&self, index: usize) -> Cells<'_> {
        Cells::new(self.object.attachment.shared(), self.object.at + DATA + index * Self::STRIDE)
    }
}

/// What [`Atomic`](super::Atomic) has, for one element.
impl<T: Scalar> Array<T> {
    /// One element, in one step.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn load(&self, index: usize) -> Result<T, OutOfBounds> {
        Ok(self.piece(index)?.load(SeqCst))
    }

    /// Puts another value in the place of an element, in one step.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn store(&self, index: usize, value: T) -> Result<(), OutOfBounds> {
        self.piece(index)?.store(value, SeqCst);
        Ok(())
    }

    /// Puts another value in the place of an element; gives the one before.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn swap(&self, index: usize, value: T) -> Result<T, OutOfBounds> {
        Ok(self.piece(index)?.swap(value))
    }

    /// Puts `new` in the place of an element if that is `current`; gives the value that it found, which is an `Err` if it is
    /// another and has stayed. Floats are compared bit by bit.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn compare_exchange(&self, index: usize, current: T, new: T) -> Result<Result<T, T>, OutOfBounds> {
        Ok(self.piece(index)?.compare_exchange(current, new))
    }

    /// Puts in the place of an element what a function makes of it; gives the value before. Where another process was faster, the
    /// function is called again.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn update(&self, index: usize, new: impl FnMut(T) -> T) -> Result<T, OutOfBounds> {
        Ok(self.piece(index)?.update(new))
    }

    /// Adds to an element; gives the value before. Integers wrap around where they overflow.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn fetch_add(&self, index: usize, value: T) -> Result<T, OutOfBounds>
    where
        T: Number,
    {
        Ok(self.piece(index)?.fetch_add(value))
    }

    /// Subtracts from an element; gives the value before. Integers wrap around where they overflow.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn fetch_sub(&self, index: usize, value: T) -> Result<T, OutOfBounds>
    where
        T: Number,
    {
        Ok(self.piece(index)?.fetch_sub(value))
    }

    fn piece(&self, index: usize) -> Result<Piece<'_, T>, OutOfBounds> {
        Ok(self.element(index)?.piece().expect("the elements of a handle lie within its region"))
    }
}

/// Another handle of the same one.
impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { lock: self.lock.clone(), object: self.object.clone(), len: self.len, is: PhantomData }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read once: a hostile process may write another length there later.
        let mut len = None;
        let is_whole = |size| {
            len = Self::len_of(size);
            len.is_some()
        };
        let object = Object::deserialize(deserializer, Kind::Array, is_whole)?;
        Self::over(object, len.unwrap_or_default()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::pipe::simplex;

    /// What becomes of one of ten elements that arrives when its header has been written over.
    fn arrives(size: usize, kind: Kind) -> Result<Array<u64>, String> {
        let array = Array::from_iter(0..10_u64).unwrap();
        let (mut sender, mut receiver) = simplex().unwrap();
        sender.blocking_send(array.clone()).unwrap();
        let header = array.object.attachment.shared().at::<AtomicU64>(array.object.at - 8).unwrap();
        header.store((size as u64) << 8 | kind as u64, Relaxed);
        receiver.blocking_recv().map(Option::unwrap).map_err(|error| error.to_string())
    }

    #[test]
    fn one_that_says_that_it_is_longer_than_its_region_is_refused() {
        assert_eq!(arrives(DATA + 80, Kind::Array).unwrap().len(), 10);
        // To the last byte of the page that it has, as the objects begin at 2112; and one beyond.
        let most = 4096 - 2120;
        assert_eq!(arrives(most, Kind::Array).unwrap().to_vec().len(), (most - DATA) / 8);
        for size in [most + 8, 1 << 40, usize::MAX >> 8] {
            assert!(arrives(size, Kind::Array).is_err(), "{size}");
        }
    }

    #[test]
    fn one_of_another_kind_or_of_a_broken_size_is_refused() {
        assert!(arrives(DATA + 80, Kind::Mutex).is_err());
        for size in [0, DATA - 1, DATA + 1, DATA + 79] {
            assert!(arrives(size, Kind::Array).is_err(), "{size}");
        }
    }

    #[test]
    fn its_length_is_read_once() {
        let array = Array::from_iter(0..10_u64).unwrap();
        let header = array.object.attachment.shared().at::<AtomicU64>(array.object.at - 8).unwrap();
        header.store(u64::MAX, Relaxed);
        assert_eq!(array.clone().to_vec().len(), 10);
        assert!(array.get(10).is_err());
    }

    #[test]
    fn more_than_there_can_be_is_an_error() {
        for len in [usize::MAX, usize::MAX / 8] {
            assert!(Array::<u64>::zeroed(len).is_err(), "{len}");
        }
        let region = Region::with_capacity(Array::<u8>::size_in_region(100)).unwrap();
        assert!(Array::<u64>::zeroed_in(&region, usize::MAX).is_err());
    }

    #[test]
    fn elements_without_bytes_are_counted() {
        let array = Array::from_iter([(); 5]).unwrap();
        assert_eq!((array.len(), array.to_vec().len()), (5, 5));
        assert!(array.set(5, ()).is_err());
        assert!(Array::<()>::zeroed(usize::MAX).is_err());
    }
}
