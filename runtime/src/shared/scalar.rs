//! What fits into one word.

use super::Plain;

/// A number, a `bool` or a `char`: what is read and written in one step, see [`Atomic`](super::Atomic).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read and written in one step",
    label = "neither a number, nor `bool`, nor `char`",
    note = "numbers of up to 64 bits, `bool` and `char` can; keep other plain data in a `procession::shared::Mutex`"
)]
pub trait Scalar: Plain + Sealed {
    /// Zeros above its own bits.
    #[doc(hidden)]
    fn into_word(self) -> u64;
    /// Whatever stands above its own bits.
    #[doc(hidden)]
    fn from_word(word: u64) -> Self;
}

/// What can be added: integers, and floats.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no number",
    label = "neither an integer nor a float",
    note = "`update` takes any function from the old value to the new one"
)]
pub trait Number: Scalar {
    /// Whether a word is added as it is.
    #[doc(hidden)]
    const IS_WORD: bool;
    #[doc(hidden)]
    #[must_use]
    fn plus(self, other: Self) -> Self;
    #[doc(hidden)]
    #[must_use]
    fn minus(self, other: Self) -> Self;
    #[doc(hidden)]
    #[must_use]
    fn lesser(self, other: Self) -> Self;
    #[doc(hidden)]
    #[must_use]
    fn greater(self, other: Self) -> Self;
}

/// What can be combined bit by bit: integers, and `bool`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be combined bit by bit",
    label = "neither an integer nor `bool`",
    note = "`update` takes any function from the old value to the new one"
)]
pub trait Bits: Scalar {}

mod sealed {
    /// Whoever implements a trait that has this one is of this crate.
    #[expect(unnameable_types, reason = "so that nobody else implements it")]
    pub trait Sealed {}
}

use sealed::Sealed;

macro_rules! integers {
    ($($integer:ty, $unsigned:ty;)*) => {$(
        impl Sealed for $integer {}

        impl Scalar for $integer {
            fn into_word(self) -> u64 {
                self as $unsigned as u64
            }

            fn from_word(word: u64) -> Self {
                word as Self
            }
        }

        impl Number for $integer {
            const IS_WORD: bool = size_of::<Self>() == size_of::<u64>();

            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            fn lesser(self, other: Self) -> Self {
                self.min(other)
            }

            fn greater(self, other: Self) -> Self {
                self.max(other)
            }
        }

        impl Bits for $integer {}
    )*};
}

integers! {
    u8, u8;
    i8, u8;
    u16, u16;
    i16, u16;
    u32, u32;
    i32, u32;
    u64, u64;
    i64, u64;
    usize, u64;
    isize, u64;
}

macro_rules! floats {
    ($($float:ty, $bits:ty;)*) => {$(
        impl Sealed for $float {}

        impl Scalar for $float {
            fn into_word(self) -> u64 {
                self.to_bits().into()
            }

            fn from_word(word: u64) -> Self {
                Self::from_bits(word as $bits)
            }
        }

        impl Number for $float {
            const IS_WORD: bool = false;

            fn plus(self, other: Self) -> Self {
                self + other
            }

            fn minus(self, other: Self) -> Self {
                self - other
            }

            fn lesser(self, other: Self) -> Self {
                self.min(other)
            }

            fn greater(self, other: Self) -> Self {
                self.max(other)
            }
        }
    )*};
}

floats! {
    f32, u32;
    f64, u64;
}

impl Sealed for bool {}

impl Scalar for bool {
    fn into_word(self) -> u64 {
        self.into()
    }

    fn from_word(word: u64) -> Self {
        word as u8 != 0
    }
}

impl Bits for bool {}

impl Sealed for char {}

impl Scalar for char {
    fn into_word(self) -> u64 {
        u32::from(self).into()
    }

    fn from_word(word: u64) -> Self {
        Self::from_u32(word as u32).unwrap_or(Self::REPLACEMENT_CHARACTER)
    }
}
