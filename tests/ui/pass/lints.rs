//! The output breaks no lint of a strict user.

#![forbid(unsafe_code)]
#![deny(warnings, unused, future_incompatible, nonstandard_style, rust_2018_idioms, keyword_idents)]
#![deny(
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    let_underscore_drop,
    meta_variable_misuse,
    missing_abi,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    non_ascii_idents,
    non_local_definitions,
    redundant_imports,
    redundant_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unit_bindings,
    unnameable_types,
    unreachable_pub,
    unused_extern_crates,
    unused_import_braces,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences
)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery, clippy::cargo)]
#![deny(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::default_numeric_fallback,
    clippy::exhaustive_structs,
    clippy::missing_docs_in_private_items,
    clippy::multiple_inherent_impl,
    clippy::question_mark_used,
    clippy::shadow_unrelated,
    clippy::unused_trait_names,
    clippy::unwrap_used
)]
#![expect(clippy::cargo_common_metadata, reason = "of the test's own crate")]

use procession::__private::{Call, Decoder, Encoder, Function, Place};
use procession::{Message, process};

/// Not used below.
pub type Unused = (Option<Call<u8>>, fn(Decoder<'_>, Encoder, Place), fn(&dyn Send) -> &dyn Send);

/// Keeps the import.
pub fn imported<F: Function>(_: F) {}

/// Reads only.
#[process]
pub async fn reads(text: String, list: Vec<u8>) -> usize {
    std::future::ready(()).await;
    text.len().max(list.len())
}

/// Reads only.
#[process]
pub fn plain(text: String, (a, _): (u8, u8)) -> usize {
    text.len().max(a.into())
}

/// Has a bound.
#[process(name = "sized", threads = 2)]
pub async fn generic<T: Message + Default, const N: usize>(_ignored: [T; 0]) -> T
where
    Vec<T>: Message,
{
    let _ = std::future::ready(N).await;
    T::default()
}

/// Can fail.
///
/// # Errors
/// Never.
#[process]
pub async fn fallible() -> Result<(), String> {
    std::future::ready(Ok(())).await
}

/// Has attributes.
#[process]
#[deprecated = "for the test"]
#[must_use = "for the test"]
#[inline]
#[doc(alias = "other")]
#[expect(clippy::too_many_arguments, unused_mut, reason = "for the test")]
pub fn attributes(mut aa: u8, bb: u8, cc: u8, dd: u8, ee: u8, ff: u8, gg: u8, hh: u8) -> u8 {
    #![expect(clippy::arithmetic_side_effects, reason = "for the test")]
    aa + bb + cc + dd + ee + ff + gg + hh
}

/// A bare attribute.
#[process]
#[must_use]
pub fn bare_must_use() -> u8 {
    1
}

/// Is dead.
#[process]
#[expect(dead_code, reason = "for the test")]
async fn never_called(n: u8) -> u8 {
    std::future::ready(n).await
}

fn main() {
    drop(reads(String::new(), Vec::new()));
    drop(plain(String::new(), (1, 2)));
    drop(generic::<u8, 3>([]));
    drop(fallible());
    drop(bare_must_use());
}
