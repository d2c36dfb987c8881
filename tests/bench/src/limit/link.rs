//! The link between a parent and the child of a limit: frames with a length, and a number in each.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

pub(super) type Link = Framed<UnixStream, LengthDelimitedCodec>;

/// After how many answers a child ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answers {
    /// One: it does not wait for its link to be closed.
    One,
    /// Any number, until its link is closed.
    Many,
}

/// Needs a runtime.
pub(super) fn framed(stream: StdUnixStream) -> io::Result<Link> {
    Ok(Framed::new(of_tokio(stream)?, LengthDelimitedCodec::new()))
}

/// Needs a runtime, too.
pub(super) fn of_tokio(stream: StdUnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// The parent's part.
pub(super) async fn ask(link: &mut Link, n: u64) -> io::Result<u64> {
    send(link, n).await?;
    receive(link).await
}

/// The child's part.
pub(super) async fn answer(link: &mut Link, answers: Answers) -> io::Result<()> {
    while let Some(question) = link.next().await {
        let n: u64 = postcard::from_bytes(&question?).map_err(io::Error::other)?;
        send(link, n * n).await?;
        if answers == Answers::One {
            break;
        }
    }
    Ok(())
}

pub(super) async fn send(link: &mut Link, n: u64) -> io::Result<()> {
    let body = postcard::to_stdvec(&n).map_err(io::Error::other)?;
    link.send(Bytes::from(body)).await
}

pub(super) async fn receive(link: &mut Link) -> io::Result<u64> {
    let frame = link.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
    postcard::from_bytes(&frame).map_err(io::Error::other)
}
