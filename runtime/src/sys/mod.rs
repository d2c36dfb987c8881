//! The only unsafe code: what the kernel, the linker and the C library offer no safe face for.
#![expect(unsafe_code, reason = "this module is where it is allowed; each block says why it is sound")]

mod bell;
mod blob;
#[cfg(all(feature = "before-main", target_env = "gnu"))]
mod constructor;
mod fork;
mod forks;
mod guard;
mod image;
mod inherited;
mod lent;
mod memory;
mod overflow;
mod shared;
mod spawn;

pub(crate) use bell::{check_bell, new_bell, ring};
pub(crate) use blob::{SEALS, SealedBytes};
pub(crate) use fork::{
    Fork, any_ended_child, end_of_reaped, flush_c_streams, fork, keep_ends_of_children, replace_environment,
    replace_lifeline,
};
pub(crate) use forks::{Forks, forks};
pub(crate) use guard::{MARKER, arm, armed};
pub(crate) use image::{LoadedImage, distance, entry_at, loaded_image};
pub(crate) use inherited::{
    arm_lifeline, at_exit, close_strangers, exit_now, ignore_broken_pipes, inherited_socket, is_readable,
    kill_group, lifeline_is_cut, secure_mode, watch, watch_for, write_once,
};
pub(crate) use lent::Lent;
pub(crate) use memory::{Mapping, prefer_large_pages};
pub(crate) use overflow::{catch_overflows, guard_thread};
pub(crate) use shared::{Overlay, Place, Places, Shared};
pub(crate) use spawn::{LIFELINE_FD, LINK_FD, spawn};
