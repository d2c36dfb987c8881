//! A reference, or a value of its own in its place.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// A reference, or a value of its own in its place, which lives until [`end`](Self::end): where nobody calls that, it is leaked.
///
/// That nothing is done when it is dropped is what it is for. A guard in which there is something to drop goes through memory, and is
/// dropped by a call, which takes longer than to lock and unlock.
#[derive(Debug)]
pub(crate) struct Lent<'a, T> {
    /// To what was borrowed for `'a`, or to a box that was leaked.
    pointer: NonNull<T>,
    is_own: bool,
    is: PhantomData<&'a T>,
}

// SAFETY: it is a reference, or a value that goes with it.
unsafe impl<T: Send + Sync> Send for Lent<'_, T> {}
// SAFETY: it gives nothing but references.
unsafe impl<T: Sync> Sync for Lent<'_, T> {}

impl<'a, T> Lent<'a, T> {
    #[inline]
    pub(crate) fn borrowed(value: &'a T) -> Self {
        Self { pointer: value.into(), is_own: false, is: PhantomData }
    }

    pub(crate) fn own(value: T) -> Self {
        Self { pointer: NonNull::from(Box::leak(Box::new(value))), is_own: true, is: PhantomData }
    }

    /// What was borrowed.
    pub(crate) fn as_borrowed(&self) -> Option<&'a T> {
        if self.is_own {
            return None;
        }
        // SAFETY: it was made of a reference that lasts for `'a`.
        Some(unsafe { self.pointer.as_ref() })
    }

    /// Drops what is its own.
    pub(crate) fn end(self) {
        if self.is_own {
            // SAFETY: it was made of a box by `own`; no other has the pointer, since this is no `Copy`; and references that
            // it gave have ended, since they borrow it.
            drop(unsafe { Box::from_raw(self.pointer.as_ptr()) });
        }
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: what was borrowed is there for `'a`, and what is its own until this is moved into `end`.
        unsafe { self.pointer.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_is_its_own_is_dropped_at_its_end() {
        let value = Arc::new(5);
        let own = Lent::own(Arc::clone(&value));
        assert_eq!((**own, Arc::strong_count(&value)), (5, 2));
        own.end();
        let borrowed = Lent::borrowed(&value);
        assert_eq!(Arc::strong_count(&borrowed), 1);
        borrowed.end();
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
