//! Process functions of a library.

use std::fmt::Display;

use procession::{Message, process};

/// A generic function: each instance has a descriptor of its own.
#[process]
pub async fn describe<T: Message + Display>(value: T) -> String {
    format!("{}: {value}", std::any::type_name::<T>())
}
