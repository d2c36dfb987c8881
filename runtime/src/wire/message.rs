//! What may cross from process to process.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that can travel to another process: anything that serde can write and read back.
///
/// Implemented for every `T: Serialize + DeserializeOwned + 'static`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel to another process",
    label = "this type must implement `Serialize` and `Deserialize`, and borrow nothing",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to `{Self}`, or send what it is made from",
    note = "an error type of another crate travels as `procession::Failure`, an open file or a socket as `procession::Passed`",
    note = "in place of a channel, send an end of a `procession::pipe` or `procession::simplex`"
)]
pub trait Message: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Message for T {}
