//! Bytes of a region that hold a value.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::Scalar;
use super::piece::{Piece, WORD};
use crate::sys::Shared;

/// A place in shared memory, for a value of plain data: see [`Plain`](super::Plain). Others may write it at any time, so that it is
/// read and written atomically, number by number.
///
/// What is smaller than a word is read and written as a part of its word: no byte is ever accessed by atomics of two sizes, for
/// which no memory model says what happens.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    words: &'a [AtomicU64],
    /// In bytes from the beginning of the first word.
    at: usize,
}

impl<'a> Cells<'a> {
    #[inline]
    pub(super) fn new(shared: &'a Shared, at: usize) -> Self {
        Self::within(shared.words(), at)
    }

    /// So many bytes behind the beginning of some words.
    #[inline]
    pub(super) const fn within(words: &'a [AtomicU64], at: usize) -> Self {
        Self { words, at }
    }

    /// The place so many bytes behind this one.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub const fn behind(self, bytes: usize) -> Self {
        Self { words: self.words, at: self.at.saturating_add(bytes) }
    }

    /// What stands here; `None` where that is not wholly within the region, or not aligned.
    #[inline]
    pub(super) fn piece<T: Scalar>(self) -> Option<Piece<'a, T>> {
        Piece::new(self.words, self.at)
    }

    /// What is not within the region is zero.
    #[inline]
    pub(super) fn load<T: Scalar>(self) -> T {
        self.piece().map_or_else(|| T::from_word(0), |piece| piece.load(Relaxed))
    }

    #[inline]
    pub(super) fn store<T: Scalar>(self, value: T) {
        if let Some(piece) = self.piece() {
            piece.store(value, Relaxed);
        }
    }

    /// Reads one after another, whole words at once.
    pub(super) fn load_all<T: Scalar>(self, to: &mut [T]) {
        let (head, words) = self.whole_words::<T>(to.len());
        let (head, rest) = to.split_at_mut(head);
        let (whole, tail) = rest.split_at_mut(words.len() * per_word::<T>());
        self.load_each(head);
        for (to, word) in whole.chunks_exact_mut(per_word::<T>()).zip(words) {
            let word = word.load(Relaxed);
            for (n, to) in to.iter_mut().enumerate() {
                *to = T::from_word(word >> (8 * T::SIZE * n));
            }
        }
        self.behind((head.len() + whole.len()) * T::SIZE).load_each(tail);
    }

    /// Writes one after another, whole words at once.
    pub(super) fn store_all<T: Scalar>(self, values: &[T]) {
        let (head, words) = self.whole_words::<T>(values.len());
        let (head, rest) = values.split_at(head);
        let (whole, tail) = rest.split_at(words.len() * per_word::<T>());
        self.store_each(head);
        for (values, word) in whole.chunks_exact(per_word::<T>()).zip(words) {
            let part = |(n, value): (usize, &T)| value.into_word() << (8 * T::SIZE * n);
            word.store(values.iter().enumerate().map(part).fold(0, |word, part| word | part), Relaxed);
        }
        self.behind((head.len() + whole.len()) * T::SIZE).store_each(tail);
    }

    /// How many stand here before the first whole word, and the words that so many of them fill.
    fn whole_words<T: Scalar>(self, count: usize) -> (usize, &'a [AtomicU64]) {
        let to_word = self.at.wrapping_neg() % WORD;
        let head = (to_word / T::SIZE).min(count);
        let words = (count - head) / per_word::<T>();
        let first = self.behind(to_word).at / WORD;
        let words = first.checked_add(words).and_then(|end| self.words.get(first..end));
        (head, words.unwrap_or_default())
    }

    fn load_each<T: Scalar>(self, to: &mut [T]) {
        for (n, to) in to.iter_mut().enumerate() {
            *to = self.behind(n * T::SIZE).load();
        }
    }

    fn store_each<T: Scalar>(self, values: &[T]) {
        for (n, value) in values.iter().enumerate() {
            self.behind(n * T::SIZE).store(*value);
        }
    }
}

const fn per_word<T: Scalar>() -> usize {
    WORD / T::SIZE
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    fn memory() -> Shared {
        let memory = memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 4096).unwrap();
        Shared::map(&memory, 4096).unwrap()
    }

    fn ranges_go_in_and_out<T: Scalar + PartialEq + std::fmt::Debug>(value: impl Fn(u8) -> T) {
        let shared = memory();
        let all = Cells::new(&shared, 8);
        let zero = T::from_word(0);
        for start in 0..=20_usize {
            for count in 0..=20 {
                all.store_all(&[zero; 50]);
                let values: Vec<T> = (1..=count).map(&value).collect();
                all.behind(start * T::SIZE).store_all(&values);
                let mut read = vec![zero; count.into()];
                all.behind(start * T::SIZE).load_all(&mut read);
                assert_eq!(read, values);
                // The neighbours were left alone, and each is where it is alone.
                for n in 0..50_usize {
                    let expected = n.checked_sub(start).and_then(|n| values.get(n)).copied().unwrap_or(zero);
                    assert_eq!(all.behind(n * T::SIZE).load::<T>(), expected);
                }
            }
        }
    }

    #[test]
    fn ranges_of_each_size() {
        ranges_go_in_and_out::<u8>(|n| 0xFF - n);
        ranges_go_in_and_out::<i16>(|n| -i16::from(n));
        ranges_go_in_and_out::<f32>(|n| -f32::from(n));
        ranges_go_in_and_out::<char>(|n| n.into());
        ranges_go_in_and_out::<f64>(|n| -f64::from(n));
    }

    #[test]
    fn nothing_beyond_the_end() {
        let shared = memory();
        for at in [4096, usize::MAX - 7, usize::MAX] {
            let beyond = Cells::new(&shared, at);
            beyond.store(7_u8);
            beyond.store_all(&[7_u64; 3]);
            let mut read = [1_u64; 3];
            beyond.load_all(&mut read);
            assert_eq!((beyond.load::<u8>(), beyond.load::<u64>()), (0, 0));
        }
        // Not aligned.
        Cells::new(&shared, 3).store(7_u32);
        assert_eq!(Cells::new(&shared, 0).load::<u64>(), 0);
    }
}
