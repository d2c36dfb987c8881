//! What lies within an array.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};

/// An array has no such elements: nothing was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfBounds {
    /// The first of them.
    pub start: usize,
    /// The one behind the last of them.
    pub end: usize,
    /// How many elements the array has.
    pub len: usize,
}

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, len } = self;
        if start.checked_add(1) == Some(*end) {
            write!(f, "element {start} is not within an array of {len} elements")
        } else {
            write!(f, "{start}..{end} is not within an array of {len} elements")
        }
    }
}

impl std::error::Error for OutOfBounds {}

/// The elements that a range means.
///
/// # Errors
/// If the array has not all of them, or the range ends before it starts.
pub(super) fn within(range: impl RangeBounds<usize>, len: usize) -> Result<Range<usize>, OutOfBounds> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => len,
    };
    if start <= end && end <= len { Ok(start..end) } else { Err(OutOfBounds { start, end, len }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_five() {
        assert_eq!(within(.., 5).unwrap(), 0..5);
        assert_eq!(within(5.., 5).unwrap(), 5..5);
        assert_eq!(within(..=4, 5).unwrap(), 0..5);
        assert_eq!(within((Bound::Excluded(1), Bound::Excluded(3)), 5).unwrap(), 2..3);
        assert!(within(..=usize::MAX, 5).is_err());
        assert!(within((Bound::Excluded(usize::MAX), Bound::Unbounded), 5).is_err());
        assert!(within(6.., 5).is_err());
        assert!(within(Range { start: 3, end: 2 }, 5).is_err());
    }
}
