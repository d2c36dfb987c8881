//! What crosses from process to process: messages, their encoding, and the limits of both.

mod connection;
mod decode;
mod encode;
pub(crate) mod frame;
pub(crate) mod handles;
mod limits;
mod message;
mod reason;
#[cfg(test)]
mod tests;

pub(crate) use connection::Connection;
pub use decode::{DecodeError, Decoder, decode};
pub use encode::{EncodeError, Encoder, encode};
pub use limits::Limits;
pub use message::Message;
