//! What can be kept in shared memory.

use super::Cells;
use super::fields::{Fields, Shape};

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
    /// How far one stands behind another.
    #[doc(hidden)]
    const STRIDE: usize = Self::SIZE.next_multiple_of(Self::ALIGN);
    #[doc(hidden)]
    fn load(from: Cells<'_>) -> Self;
    #[doc(hidden)]
    fn store(self, to: Cells<'_>);

    /// Reads one after another.
    #[doc(hidden)]
    fn load_all(from: Cells<'_>, to: &mut [Self]) {
        for (n, to) in to.iter_mut().enumerate() {
            *to = Self::load(from.behind(n * Self::STRIDE));
        }
    }

    /// Writes one after another.
    #[doc(hidden)]
    fn store_all(values: &[Self], to: Cells<'_>) {
        for (n, value) in values.iter().enumerate() {
            value.store(to.behind(n * Self::STRIDE));
        }
    }
}

macro_rules! scalars {
    ($($scalar:ty)*) => {$(
        impl Plain for $scalar {
            const SIZE: usize = size_of::<Self>();
            const ALIGN: usize = size_of::<Self>();

            #[inline]
            fn load(from: Cells<'_>) -> Self {
                from.load()
            }

            #[inline]
            fn store(self, to: Cells<'_>) {
                to.store(self);
            }

            fn load_all(from: Cells<'_>, to: &mut [Self]) {
                from.load_all(to);
            }

            fn store_all(values: &[Self], to: Cells<'_>) {
                to.store_all(values);
            }
        }
    )*};
}

scalars! { u8 i8 u16 i16 u32 i32 u64 i64 usize isize f32 f64 bool char }

impl Plain for () {
    const SIZE: usize = 0;
    const ALIGN: usize = 1;

    #[inline]
    fn load(_from: Cells<'_>) {}

    #[inline]
    fn store(self, _to: Cells<'_>) {}
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    const SIZE: usize = T::STRIDE * N;
    const ALIGN: usize = T::ALIGN;

    #[inline]
    fn load(from: Cells<'_>) -> Self {
        let mut values = [T::load(from); N];
        T::load_all(from, &mut values);
        values
    }

    #[inline]
    fn store(self, to: Cells<'_>) {
        T::store_all(&self, to);
    }
}

/// As the fields of a struct.
macro_rules! tuples {
    ($($($name:ident)*;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($name: Plain),*> Plain for ($($name,)*) {
            const SIZE: usize = Shape::EMPTY$(.with::<$name>())*.size();
            const ALIGN: usize = Shape::EMPTY$(.with::<$name>())*.align();

            #[inline]
            fn load(from: Cells<'_>) -> Self {
                let mut fields = Fields::of(from);
                ($(fields.load::<$name>(),)*)
            }

            #[expect(non_snake_case, reason = "each field is called as its type is")]
            #[inline]
            fn store(self, to: Cells<'_>) {
                let ($($name,)*) = self;
                let mut fields = Fields::of(to);
                $(fields.store($name);)*
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}
