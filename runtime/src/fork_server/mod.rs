//! Starting children by `fork`, from a small process that has one thread: the fork server.
//!
//! ```text
//! parent                         server                         child
//!   | posix_spawn ----------------> |
//!   | <--------------------- Hello  |
//!   | Serve + requests -----------> |
//!   | preloads -------------------> |
//!   | <------------------- Started  |
//!   |
//!   | Fork{id} + link, lifeline --> | fork ----------------------> |
//!   | Start + streams ------------------------- link ------------> |
//!   | <---------------------------------------- link ------ Hello + pidfd
//!   | <---------------------------------------- link --- Started, Returned
//!   | <----------------- Ended{id}  | <---------------------- exit |
//! ```
//!
//! The link of the server is a stream like every child's; requests go by a socket of their own that keeps messages whole.
//! A child tells its parent by itself that it is there, and gives it its pidfd, before anything of the user's runs in it:
//! what the server does, or fails to do, after the fork loses nothing.

mod preload;
mod serve;
mod server;
mod servers;
mod spares;
mod station;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::image::Identity;
use crate::status::ExitStatus;
use crate::wire::handles;

pub(crate) use preload::run_hooks;
pub use preload::{on_fork, preload};
pub(crate) use serve::{Served, serve};
pub(crate) use server::{Forked, Requested, Server};
pub(crate) use servers::{Servers, cannot_look};
pub(crate) use spares::Spare;
pub use spares::warm;
pub(crate) use station::{Estate, Inherited, Lookout, Station, own_streams};

/// What a server is told first. Beside it comes the socket for requests.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) image: Identity,
    /// How many preloads follow.
    pub(crate) preloads: usize,
}

/// What a parent asks of its server.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Request {
    /// A child. Beside it come its link and its lifeline.
    Fork { id: u64, ahead: Ahead },
    /// The end of a child that has not said who it is.
    Kill { id: u64 },
}

/// What a child does while it waits to be told what to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ahead {
    /// Nothing: its function needs no runtime, or one of its own kind.
    Nothing,
    /// It makes the runtime that most functions run in.
    Runtime,
    /// It has time, and makes everything ready.
    Everything,
}

/// What a server tells its parent.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Word {
    NotForked { id: u64, errno: i32 },
    Ended { id: u64, status: ExitStatus },
}

/// Longer than any [`Request`] or [`Word`].
const ROOM: usize = 64;

fn send(socket: impl AsFd, message: &impl Serialize, beside: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut room = [0; ROOM];
    let bytes = postcard::to_slice(message, &mut room).map_err(io::Error::other)?;
    handles::send(socket, bytes, beside).map(drop)
}

/// A message, and what came beside it, unless this process can have no more descriptors.
type Received<T> = (T, Option<Vec<OwnedFd>>);

/// `None` if the other end is gone.
fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<Received<T>>> {
    let mut room = [0; ROOM];
    let (length, beside) = match handles::receive_all_or_none(socket, &mut room) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        other => other?,
    };
    if length == 0 {
        return Ok(None);
    }
    let message = postcard::from_bytes(&room[..length]).map_err(io::Error::other)?;
    Ok(Some((message, beside)))
}
