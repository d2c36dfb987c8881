//! Structs of every form are plain data, under the lints of a strict user.

#![forbid(unsafe_code)]
#![deny(warnings, unused, future_incompatible, nonstandard_style, rust_2018_idioms, keyword_idents)]
#![deny(
    missing_debug_implementations,
    missing_docs,
    non_local_definitions,
    private_bounds,
    private_interfaces,
    redundant_imports,
    redundant_lifetimes,
    single_use_lifetimes,
    trivial_bounds,
    unnameable_types,
    unreachable_pub,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences
)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery)]
#![deny(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::arithmetic_side_effects,
    clippy::multiple_inherent_impl,
    clippy::missing_trait_methods
)]

use procession::shared::{Mutex, Plain, Region};

/// Once more.
pub mod again {
    pub use procession as processes;
}

/// Of its own.
#[derive(Debug, Clone, Copy, Plain)]
pub struct Unit;

/// Without names.
#[derive(Debug, Clone, Copy, Plain)]
pub struct Pair(pub u8, f64);

/// Of a private type.
#[derive(Debug, Clone, Copy, Plain)]
pub struct Outer {
    /// Of this crate.
    pub unit: Unit,
    inner: Inner,
    r#type: [(bool, char); 3],
}

#[derive(Debug, Clone, Copy, Plain)]
struct Inner {
    a: i8,
    b: u64,
}

/// Over types.
#[derive(Debug, Clone, Copy, Plain)]
pub struct Generic<T, U = u8, const N: usize = 3>
where
    T: Default,
{
    /// One.
    pub first: T,
    others: [U; N],
}

/// By another path.
#[derive(Debug, Clone, Copy, again::processes::shared::Plain)]
#[plain(crate = again::processes)]
#[repr(C, packed)]
pub struct Packed {
    a: u8,
    b: u32,
}

macro_rules! declare {
    ($name:ident, $($field:ident: $ty:ty),*) => {
        /// In a macro.
        #[derive(Debug, Clone, Copy, Plain)]
        pub struct $name { $($field: $ty),* }
    };
}

declare!(Declared, from: u8, to: [u8; 2], fields: (u16,), load: i32);

const fn is_plain<T: Plain>() {}

fn main() {
    is_plain::<Unit>();
    is_plain::<Outer>();
    is_plain::<Generic<u8>>();
    is_plain::<Generic<Inner2, (Pair, Packed), 7>>();
    is_plain::<Declared>();
    let of_sizes = [(Mutex::<Unit>::size_in_region(), 64), (Mutex::<[u64; 4]>::size_in_region(), 128)];
    assert!(of_sizes.iter().all(|(is, expected)| is == expected), "{of_sizes:?}");
    drop(Region::with_capacity(1));
}

/// Has a default.
#[derive(Debug, Clone, Copy, Default, Plain)]
pub struct Inner2 {
    _a: u16,
}
