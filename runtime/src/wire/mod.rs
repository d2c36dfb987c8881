//! What crosses from process to process: messages, their encoding, and the limits of both.

mod arguments;
mod aside;
pub(crate) mod beside;
mod connection;
mod decode;
mod encode;
pub(crate) mod frame;
pub(crate) mod handles;
mod limits;
pub(crate) mod memory;
mod message;
mod packet;
mod reason;
mod slab;
#[cfg(test)]
mod tests;

pub(crate) use arguments::Arguments;
pub(crate) use aside::{ASIDE, Aside, MOST, Parcel, Part};
pub(crate) use connection::{Came, Connection};
pub use decode::{DecodeError, Decoder, decode};
pub(crate) use decode::{unpack, unpack_alone, unpack_whole};
pub use encode::{EncodeError, Encoder, encode};
pub(crate) use encode::{pack, pack_into};
pub use limits::Limits;
pub use message::Message;
pub(crate) use packet::Packet;
pub(crate) use slab::{Known, Named, Slabs, behind, forget, give_back, read_slab};
