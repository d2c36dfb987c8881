//! Handles of the operating system that travel in messages.

use std::fmt;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::net;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net as unix;
use std::sync::Arc;

use nix::sys::socket::{SockType, getsockopt, sockopt};
use rustix::net::AddressFamily;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::wire::beside::{HandleKind, Ownership, give, take};

/// A handle of the operating system, in a form that travels to another process: an open file, a socket.
///
/// It stands for a `T` of [these](Passable#foreign-impls) as an argument, a result, or in any field of a message, and is
/// turned into one, and back, on either side. What travels is the descriptor (`SCM_RIGHTS` in `unix(7)`): the receiver's is
/// another number for the same open file, with the same offset and the same flags: a socket that is tokio's on one side does
/// not block on the other either, whosever it is there. The sender's own closes when the message is on its way, and a message
/// that nobody receives closes it at its end.
///
/// # Examples
/// ```
/// use std::io::{Read, Seek, Write};
/// use std::fs::File;
/// use procession::{Failure, Passed, process};
///
/// #[process]
/// async fn write_into(file: Passed<File>) -> Result<(), Failure> {
///     file.into_inner()?.write_all(b"from the child")?;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("procession-doc-{}", std::process::id()));
/// # let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
/// # std::fs::remove_file(&path)?;
/// write_into(Passed::new(file.try_clone()?)?).await??;
///
/// let mut text = String::new();
/// file.rewind()?;
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "from the child");
/// # Ok(())
/// # }
/// ```
pub struct Passed<T> {
    handle: Arc<OwnedFd>,
    is: PhantomData<fn() -> T>,
}

impl<T: Passable> Passed<T> {
    /// Makes a handle ready to travel. One of tokio's leaves the runtime that it is registered in.
    ///
    /// # Errors
    /// If tokio cannot give up one of its own.
    pub fn new(handle: T) -> io::Result<Self> {
        Ok(Self { handle: Arc::new(handle.give_up()?), is: PhantomData })
    }

    /// Makes it what it was. One of tokio's is registered in the runtime that is current.
    ///
    /// # Errors
    /// If there is no descriptor left for a copy, where a call that can run again keeps the original; for one of tokio's,
    /// if it cannot be registered.
    ///
    /// # Panics
    /// For one of tokio's, as its `from_std`: outside of a runtime, or in one without I/O. In a plain process function take std's
    /// type.
    #[track_caller]
    pub fn into_inner(self) -> io::Result<T> {
        T::take_up(match Arc::try_unwrap(self.handle) {
            Ok(handle) => handle,
            Err(shared) => shared.try_clone()?,
        })
    }
}

/// The same open file, for another process: a socket that listens can go to many.
impl<T> Clone for Passed<T> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), is: PhantomData }
    }
}

impl<T> AsFd for Passed<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl<T> fmt::Debug for Passed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Passed").field(&self.handle).finish()
    }
}

impl<T: Passable> Serialize for Passed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give(&self.handle, T::KIND.0, Ownership::Shared, serializer)
    }
}

impl<'de, T: Passable> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = take(T::KIND.0, deserializer)?.handle;
        // What a message says of itself is not enough: it may be a child's.
        T::check(handle.as_fd()).map_err(|error| {
            D::Error::custom(format_args!("a handle is no `{}`: {error}", std::any::type_name::<T>()))
        })?;
        Ok(Self { handle, is: PhantomData })
    }
}

/// What [`Passed`] can carry. Nobody else can implement it.
#[diagnostic::on_unimplemented(
    message = "`Passed` cannot carry a `{Self}`",
    label = "neither an open file nor a socket",
    note = "it carries `OwnedFd`, `File`, and `TcpStream`, `TcpListener` and `UnixStream` of std and tokio; \
            turn others into an `OwnedFd`"
)]
pub trait Passable: Sized + sealed::Handle {}

impl<T: sealed::Handle> Passable for T {}

#[expect(unnameable_types, reason = "nobody else is to implement them")]
mod sealed {
    use super::{BorrowedFd, OwnedFd, io};

    /// Of the wire, and of nobody's business.
    #[derive(Debug, Clone, Copy)]
    pub struct Kind(pub(super) super::HandleKind);

    /// Not in the way of whoever names the trait.
    pub trait Handle: Sized {
        const KIND: Kind;
        /// # Errors
        /// If it is registered somewhere and cannot leave.
        fn give_up(self) -> io::Result<OwnedFd>;
        /// # Errors
        /// If it cannot be registered.
        fn take_up(handle: OwnedFd) -> io::Result<Self>;
        /// # Errors
        /// If it is something else.
        fn check(handle: BorrowedFd<'_>) -> io::Result<()>;
    }
}

use sealed::Kind;

impl sealed::Handle for OwnedFd {
    const KIND: Kind = Kind(HandleKind::Descriptor);

    fn give_up(self) -> io::Result<OwnedFd> {
        Ok(self)
    }

    fn take_up(handle: OwnedFd) -> io::Result<Self> {
        Ok(handle)
    }

    fn check(_anything: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}

impl sealed::Handle for File {
    const KIND: Kind = Kind(HandleKind::File);

    fn give_up(self) -> io::Result<OwnedFd> {
        Ok(self.into())
    }

    fn take_up(handle: OwnedFd) -> io::Result<Self> {
        Ok(handle.into())
    }

    fn check(handle: BorrowedFd<'_>) -> io::Result<()> {
        let mode = rustix::fs::fstat(handle)?.st_mode;
        let is_socket = rustix::fs::FileType::from_raw_mode(mode).is_socket();
        if is_socket { Err(other("it is a socket")) } else { Ok(()) }
    }
}

/// A socket of std's, and tokio's of the same name.
macro_rules! sockets {
    ($($kind:ident: $std:path, $tokio:path, $is:expr;)*) => {$(
        impl sealed::Handle for $std {
            const KIND: Kind = Kind(HandleKind::$kind);

            fn give_up(self) -> io::Result<OwnedFd> {
                Ok(self.into())
            }

            fn take_up(handle: OwnedFd) -> io::Result<Self> {
                Ok(handle.into())
            }

            fn check(handle: BorrowedFd<'_>) -> io::Result<()> {
                $is(handle)
            }
        }

        impl sealed::Handle for $tokio {
            const KIND: Kind = Kind(HandleKind::$kind);

            fn give_up(self) -> io::Result<OwnedFd> {
                Ok(self.into_std()?.into())
            }

            fn take_up(handle: OwnedFd) -> io::Result<Self> {
                rustix::io::ioctl_fionbio(&handle, true)?;
                Self::from_std(handle.into())
            }

            fn check(handle: BorrowedFd<'_>) -> io::Result<()> {
                $is(handle)
            }
        }
    )*};
}

sockets! {
    TcpStream: net::TcpStream, tokio::net::TcpStream, |handle| is_stream(handle, INTERNET, false);
    TcpListener: net::TcpListener, tokio::net::TcpListener, |handle| is_stream(handle, INTERNET, true);
    UnixStream: unix::UnixStream, tokio::net::UnixStream, check_unix_stream;
}

/// # Errors
/// If it is something else than a stream of the family `AF_UNIX`.
pub(crate) fn check_unix_stream(handle: BorrowedFd<'_>) -> io::Result<()> {
    is_stream(handle, &[AddressFamily::UNIX], false)
}

const INTERNET: &[AddressFamily] = &[AddressFamily::INET, AddressFamily::INET6];

/// Whether it is a stream of one of these families that listens, or does not.
fn is_stream(handle: BorrowedFd<'_>, families: &[AddressFamily], listens: bool) -> io::Result<()> {
    if getsockopt(&handle, sockopt::SockType)? != SockType::Stream {
        return Err(other("it is a socket, but no stream"));
    }
    if !families.contains(&rustix::net::sockopt::socket_domain(handle)?) {
        return Err(other("it is a stream of another family"));
    }
    match (getsockopt(&handle, sockopt::AcceptConn)?, listens) {
        (true, false) => Err(other("it is a listener")),
        (false, true) => Err(other("it does not listen")),
        _ => Ok(()),
    }
}

fn other(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
