//! What can be kept in shared memory.

use super::Cells;

/// Plain data: what can be kept in shared memory, because any bytes are a value of it, and none points anywhere.
///
/// Numbers are, `bool` and `char`, arrays and tuples of what is, and structs of your own with `#[derive(Plain)]`. Whatever a hostile
/// process writes there is read as a value: a `bool` that is neither 0 nor 1 as `true`, a `char` that is none as U+FFFD.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept in shared memory",
    label = "not plain data",
    note = "numbers, `bool`, `char`, arrays and tuples of them are plain data; \
            for a struct of your own write `#[derive(Clone, Copy, procession::shared::Plain)]`",
    note = "what owns memory, like `String` or `Vec`, cannot be shared: send it through a pipe, or use an array of fixed size"
)]
pub trait Plain: Copy + Send + Sync + 'static {
    /// How many bytes it takes.
    #[doc(hidden)]
    const SIZE: usize;
    /// What the number of its first byte is a multiple of.
    #[doc(hidden)]
    const ALIGN: usize;
    #[doc(hidden)]
    fn load(from: Cells<'_>) -> Self;
    #[doc(hidden)]
    fn store(self, to: Cells<'_>);
}

macro_rules! numbers {
    ($($number:ty: $load:ident, $store:ident, $bits:ty;)*) => {$(
        impl Plain for $number {
            const SIZE: usize = size_of::<$bits>();
            const ALIGN: usize = size_of::<$bits>();

            #[inline]
            fn load(from: Cells<'_>) -> Self {
                Self::from_ne_bytes(from.$load().to_ne_bytes())
            }

            #[inline]
            fn store(self, to: Cells<'_>) {
                to.$store(<$bits>::from_ne_bytes(self.to_ne_bytes()));
            }
        }
    )*};
}

numbers! {
    u8: load_u8, store_u8, u8;
    i8: load_u8, store_u8, u8;
    u16: load_u16, store_u16, u16;
    i16: load_u16, store_u16, u16;
    u32: load_u32, store_u32, u32;
    i32: load_u32, store_u32, u32;
    f32: load_u32, store_u32, u32;
    u64: load_u64, store_u64, u64;
    i64: load_u64, store_u64, u64;
    f64: load_u64, store_u64, u64;
    usize: load_u64, store_u64, u64;
    isize: load_u64, store_u64, u64;
}

impl Plain for () {
    const SIZE: usize = 0;
    const ALIGN: usize = 1;

    #[inline]
    fn load(_from: Cells<'_>) {}

    #[inline]
    fn store(self, _to: Cells<'_>) {}
}

impl Plain for bool {
    const SIZE: usize = 1;
    const ALIGN: usize = 1;

    #[inline]
    fn load(from: Cells<'_>) -> Self {
        from.load_u8() != 0
    }

    #[inline]
    fn store(self, to: Cells<'_>) {
        to.store_u8(self.into());
    }
}

impl Plain for char {
    const SIZE: usize = 4;
    const ALIGN: usize = 4;

    #[inline]
    fn load(from: Cells<'_>) -> Self {
        Self::from_u32(from.load_u32()).unwrap_or(Self::REPLACEMENT_CHARACTER)
    }

    #[inline]
    fn store(self, to: Cells<'_>) {
        to.store_u32(self.into());
    }
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    const SIZE: usize = T::SIZE.next_multiple_of(T::ALIGN) * N;
    const ALIGN: usize = T::ALIGN;

    #[inline]
    fn load(from: Cells<'_>) -> Self {
        std::array::from_fn(|n| T::load(from.behind(n * T::SIZE.next_multiple_of(T::ALIGN))))
    }

    #[inline]
    fn store(self, to: Cells<'_>) {
        for (n, value) in self.into_iter().enumerate() {
            value.store(to.behind(n * T::SIZE.next_multiple_of(T::ALIGN)));
        }
    }
}
