//! A number in shared memory.

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{self, SeqCst};

use super::{Bits, Number, Scalar};

/// The bytes of a word.
pub(super) const WORD: usize = size_of::<u64>();

/// A scalar in shared memory: a word, or a part of one. The byte that is so many bytes behind the word's beginning is that many
/// bytes above the lowest of its number.
///
/// The loops here go on until no other process was faster. None can keep them going by being stopped or killed in the middle
/// of something: there is no middle.
#[derive(Debug)]
pub(super) struct Piece<'a, T> {
    word: &'a AtomicU64,
    shift: usize,
    is: PhantomData<fn(T) -> T>,
}

impl<'a, T: Scalar> Piece<'a, T> {
    const IS_WHOLE: bool = T::SIZE == WORD;
    const MASK: u64 = u64::MAX >> (8 * (WORD - T::SIZE));

    /// `None` where it is not wholly within the memory, or not aligned.
    #[inline]
    pub(super) fn new(words: &'a [AtomicU64], at: usize) -> Option<Self> {
        let inside = at % WORD;
        let word = words.get(at / WORD)?;
        at.is_multiple_of(T::ALIGN).then_some(Self { word, shift: 8 * inside, is: PhantomData })
    }

    #[inline]
    fn of(&self, word: u64) -> T {
        T::from_word(word >> self.shift)
    }

    #[inline]
    fn put(&self, value: T, word: u64) -> u64 {
        word & !(Self::MASK << self.shift) | value.into_word() << self.shift
    }

    #[inline]
    pub(super) fn load(&self, order: Ordering) -> T {
        self.of(self.word.load(order))
    }

    #[inline]
    pub(super) fn store(&self, value: T, order: Ordering) {
        if Self::IS_WHOLE {
            self.word.store(value.into_word(), order);
        } else {
            self.update_by(order, |_| value);
        }
    }

    #[inline]
    pub(super) fn swap(&self, value: T) -> T {
        if Self::IS_WHOLE {
            self.of(self.word.swap(value.into_word(), SeqCst))
        } else {
            self.update(|_| value)
        }
    }

    /// Compares values, and not what a hostile process may have written for one.
    #[inline]
    pub(super) fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        let mut word = self.word.load(SeqCst);
        loop {
            let found = self.of(word);
            if found.into_word() != current.into_word() {
                return Err(found);
            }
            match self.word.compare_exchange_weak(word, self.put(new, word), SeqCst, SeqCst) {
                Ok(_) => return Ok(found),
                Err(other) => word = other,
            }
        }
    }

    #[inline]
    pub(super) fn update(&self, new: impl FnMut(T) -> T) -> T {
        self.update_by(SeqCst, new)
    }

    #[inline]
    fn update_by(&self, order: Ordering, mut new: impl FnMut(T) -> T) -> T {
        let mut word = self.word.load(order);
        loop {
            let before = self.of(word);
            let after = self.put(new(before), word);
            match self.word.compare_exchange_weak(word, after, order, order) {
                Ok(_) => return before,
                Err(other) => word = other,
            }
        }
    }
}

impl<T: Number> Piece<'_, T> {
    #[inline]
    pub(super) fn fetch_add(&self, value: T) -> T {
        if T::IS_WORD {
            self.of(self.word.fetch_add(value.into_word(), SeqCst))
        } else {
            self.update(|before| before.plus(value))
        }
    }

    #[inline]
    pub(super) fn fetch_sub(&self, value: T) -> T {
        if T::IS_WORD {
            self.of(self.word.fetch_sub(value.into_word(), SeqCst))
        } else {
            self.update(|before| before.minus(value))
        }
    }

    pub(super) fn fetch_min(&self, value: T) -> T {
        self.update(|before| before.lesser(value))
    }

    pub(super) fn fetch_max(&self, value: T) -> T {
        self.update(|before| before.greater(value))
    }
}

/// The bits beside it are left as they are.
impl<T: Bits> Piece<'_, T> {
    pub(super) fn fetch_and(&self, value: T) -> T {
        self.of(self.word.fetch_and(self.put(value, u64::MAX), SeqCst))
    }

    pub(super) fn fetch_or(&self, value: T) -> T {
        self.of(self.word.fetch_or(self.put(value, 0), SeqCst))
    }

    pub(super) fn fetch_xor(&self, value: T) -> T {
        self.of(self.word.fetch_xor(self.put(value, 0), SeqCst))
    }
}
