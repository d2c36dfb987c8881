#![doc = include_str!("../../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "Procession runs on 64-bit Linux alone: it stands on pidfds, memfds and /proc/self/exe. \
     Build this crate only where `cfg(target_os = \"linux\")` holds."
);

mod block_on;
mod boot;
mod call;
mod child;
mod control;
mod current;
mod end;
mod entry;
mod error;
mod exit;
mod failure;
mod family;
mod fork_server;
mod image;
mod leaving;
mod life;
mod link;
pub mod mailbox;
mod output;
mod panic;
mod passed;
pub mod pipe;
mod plan;
pub mod pool;
mod process;
mod set;
pub mod shared;
mod signaler;
mod start;
mod status;
mod stdio;
mod stopping;
mod surroundings;
mod sys;
mod wire;

pub use boot::init;
pub use call::{Call, Local};
pub use current::{Current, Parent, current, parent};
pub use error::{Cause, ProcessError, Stage};
pub use exit::on_exit;
pub use failure::Failure;
pub use family::{ChildInfo, children, join_children};
pub use fork_server::{on_fork, preload, warm};
pub use mailbox::mailbox;
pub use passed::{Passable, Passed};
pub use pipe::{Pipe, pipe, simplex};
pub use plan::StartMethod;
pub use pool::Pool;
pub use process::{Join, Process, Spawn};
pub use procession_macros::{main, process};
pub use set::ProcessSet;
pub use signaler::Signaler;
pub use status::ExitStatus;
pub use stdio::{ChildInput, ChildOutput, Stdio};
pub use stopping::Stopping;
pub use surroundings::Resource;
pub use wire::{DecodeError, EncodeError, Limits, Message};

/// What the macros' output is made of. Not part of the public interface: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::boot::{block_on_main, run_main};
    pub use crate::call::Call;
    pub use crate::entry::{
        AsyncFunction, Function, Place, PlainFunction, argument, async_call, plain_call, result,
    };
    pub use crate::shared::fields::{Fields, Shape};
    pub use crate::wire::{DecodeError, Decoder, Encoder, Limits, decode, encode};
}
