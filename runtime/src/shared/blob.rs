//! Bytes that any number of processes read without a copy.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::fcntl_add_seals;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::sys::{SEALS, SealedBytes};
use crate::wire::beside::{HandleKind, Ownership, give, take};
use crate::wire::memory::{new_memory, room};

/// How many bytes of a reader are in memory beside the blob that they go into.
const CHUNK: usize = 64 << 10;

/// Bytes that any number of processes read, and nobody changes.
///
/// It is a slice of bytes (`Deref`) that is an argument, a result, or a field of a message like any other value, and that has been
/// copied once: when it was made. Whoever receives it reads the same memory, so that it costs the same to pass on whether it has
/// one byte or a gigabyte, and a hundred processes that have it take that memory once. A clone is another handle, in this process or
/// in the next; the memory is freed when the last of them is gone, however their processes have ended, and never has a name.
///
/// Of a message's [`Limits`](crate::Limits) it counts as one handle: its length is not limited, nor is it a part of the message's. It
/// holds one descriptor and, unless it is empty, one mapping. `bytes::Bytes::from_owner` and `std::io::Cursor` take it as it is.
///
/// | Python | here |
/// |---|---|
/// | `SharedMemory(create=True, size=..)`, to be filled once and read | [`Blob::new`], [`from_file`](Self::from_file), [`from_reader`](Self::from_reader) |
/// | `SharedMemory(name=..)` in another process | the value that came |
/// | `close()`, `unlink()` | dropping it; there is nothing to unlink |
///
/// # Whom it trusts
///
/// Nobody. The kernel has sealed the memory (`fcntl(2)`, `F_SEAL_WRITE` and its kin), so that neither who has made a blob nor who has
/// received it can write into it, cut it short, or take the seals off again. A blob that arrives is looked at: what is no memory,
/// is not sealed, or is less than it says, is an error of the message ([`DecodeError`](crate::DecodeError)). What is *in* it, and its
/// length (`len()`), is what the process chose that has made it: of a child that you do not trust, look at the length
/// before you allocate by it.
///
/// # Examples
/// ```
/// use procession::{Failure, process, shared::Blob};
///
/// #[process]
/// async fn count(text: Blob, letter: u8) -> usize {
///     text.iter().filter(|byte| **byte == letter).count()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Failure> {
/// let text = Blob::new("so much to read for so many")?;
/// let (o, m) = tokio::join!(count(text.clone(), b'o'), count(text.clone(), b'm'));
/// assert_eq!((o?, m?), (4, 2));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SharedMemory")]
#[derive(Clone)]
pub struct Blob(Arc<Sealed>);

struct Sealed {
    memory: Arc<OwnedFd>,
    bytes: SealedBytes,
}

impl Blob {
    /// Copies bytes into memory that processes can share.
    ///
    /// That takes as long as copying them into memory that was just allocated: up to a second for a gigabyte. In async code that has other
    /// work, hand what is as large as that to `tokio::task::spawn_blocking`.
    ///
    /// # Errors
    /// If this process can have no more descriptors, mappings or memory; `FileTooLarge` if there are more bytes than a file of
    /// this process may have (`RLIMIT_FSIZE`).
    pub fn new(bytes: impl AsRef<[u8]>) -> io::Result<Self> {
        let mut memory = Unsealed::new()?;
        memory.write(bytes.as_ref())?;
        memory.seal()
    }

    /// Copies what a file has from its current position on, or what comes out of a pipe or a socket until it ends.
    ///
    /// The bytes go from the file to the blob inside the kernel, where it can do that. A blob is a copy: what becomes of the file
    /// afterwards, it does not see, and of a file that changes meanwhile it has what was read. Like all of `std::fs` this
    /// blocks; in async code call it in `tokio::task::spawn_blocking`, or take [`from_reader`](Self::from_reader).
    ///
    /// # Errors
    /// Those of reading the file, and of [`new`](Self::new).
    ///
    /// # Examples
    /// ```
    /// use std::fs::File;
    /// use procession::shared::Blob;
    ///
    /// let program = Blob::from_file(&File::open("/proc/self/exe")?)?;
    /// assert!(program.starts_with(b"\x7fELF"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_file(file: &File) -> io::Result<Self> {
        let mut memory = Unsealed::new()?;
        memory.copy(file)?;
        memory.seal()
    }

    /// Copies what a reader gives until it ends. At most 64 KiB are in memory beside the blob.
    ///
    /// # Errors
    /// The reader's own, and those of [`new`](Self::new).
    ///
    /// # Cancel safety
    /// What was read before the future was dropped is lost.
    pub async fn from_reader(mut reader: impl AsyncRead + Unpin) -> io::Result<Self> {
        let mut memory = Unsealed::new()?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk).await? {
                0 => return memory.seal(),
                count => memory.write(&chunk[..count])?,
            }
            // A reader that always has something is not to keep the thread.
            tokio::task::consume_budget().await;
        }
    }
}

/// The bytes, in memory that all who have the blob share.
impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// By content, wherever it is.
impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for Blob {}

/// The length alone.
impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The memory, for what does not know of blobs: a file that can be read, and cannot be written. All who have the blob share its
/// position, which is the beginning at first.
impl AsFd for Blob {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.memory.as_fd()
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        give(&self.0.memory, HandleKind::Blob, Ownership::Shared, serializer)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let memory = take(HandleKind::Blob, deserializer)?.handle;
        // What a message says of itself is not enough: it may be a child's.
        let bytes = SealedBytes::map(&memory)
            .map_err(|error| D::Error::custom(format_args!("a handle is no `Blob`: {error}")))?;
        Ok(Self(Arc::new(Sealed { memory, bytes })))
    }
}

/// Memory that is being filled, by writing: it is never mapped before it is sealed.
struct Unsealed {
    memory: File,
    length: u64,
}

impl Unsealed {
    fn new() -> io::Result<Self> {
        Ok(Self { memory: new_memory(c"procession-blob")?.into(), length: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.room().is_some_and(|room| room < bytes.len() as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.memory.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Writes what a file has.
    fn copy(&mut self, mut file: &File) -> io::Result<()> {
        let room = self.room().unwrap_or(u64::MAX);
        let count = io::copy(&mut file.take(room), &mut self.memory)?;
        self.length += count;
        if count == room && file.read(&mut [0])? > 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(())
    }

    /// How much more may be written. Beyond it the kernel sends SIGXFSZ, which ends the process.
    fn room(&self) -> Option<u64> {
        room().map(|limit| limit.saturating_sub(self.length))
    }

    fn seal(mut self) -> io::Result<Blob> {
        // Whoever takes the descriptor for a file reads it from its beginning.
        self.memory.rewind()?;
        fcntl_add_seals(&self.memory, SEALS)?;
        let bytes = SealedBytes::map(&self.memory)?;
        Ok(Blob(Arc::new(Sealed { memory: Arc::new(self.memory.into()), bytes })))
    }
}
