//! Where the fields of a struct stand.

use super::{Cells, Plain};

/// What some fields take, one after another, as `repr(C)` has it: each stands at a multiple of its alignment.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    end: usize,
    align: usize,
}

impl Shape {
    /// That of no fields.
    pub const EMPTY: Self = Self { end: 0, align: 1 };

    /// With one more field.
    #[must_use]
    pub const fn with<F: Plain>(self) -> Self {
        let align = if F::ALIGN > self.align { F::ALIGN } else { self.align };
        Self { end: self.place_of::<F>() + F::SIZE, align }
    }

    const fn place_of<F: Plain>(self) -> usize {
        self.end.next_multiple_of(F::ALIGN)
    }

    /// The bytes of a struct that has these fields.
    #[must_use]
    pub const fn size(self) -> usize {
        self.end.next_multiple_of(self.align)
    }

    /// The largest alignment of a field.
    #[must_use]
    pub const fn align(self) -> usize {
        self.align
    }
}

/// The fields of a struct in shared memory, in their order.
#[derive(Debug)]
pub struct Fields<'a> {
    cells: Cells<'a>,
    before: Shape,
}

impl<'a> Fields<'a> {
    /// From the first one on.
    #[inline]
    #[must_use]
    pub const fn of(cells: Cells<'a>) -> Self {
        Self { cells, before: Shape::EMPTY }
    }

    /// Reads the next one.
    #[inline]
    #[must_use]
    pub fn load<F: Plain>(&mut self) -> F {
        F::load(self.next::<F>())
    }

    /// Writes the next one.
    #[inline]
    pub fn store<F: Plain>(&mut self, value: F) {
        value.store(self.next::<F>());
    }

    #[inline]
    const fn next<F: Plain>(&mut self) -> Cells<'a> {
        let next = self.cells.behind(self.before.place_of::<F>());
        self.before = self.before.with::<F>();
        next
    }
}
