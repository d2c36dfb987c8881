//! Memory that processes share, and async locks in it.

mod atomics;
mod attachment;
mod bells;
mod blob;
mod cells;
mod deaths;
mod died;
mod identity;
mod layout;
mod listeners;
mod mutex;
mod plain;
mod reentrant;
mod region;
mod waiters;
pub(crate) mod words;

pub use blob::Blob;
pub use cells::Cells;
pub use died::{OwnerDied, TryLockError};
pub use mutex::{Locked, Mutex, MutexGuard};
pub use plain::Plain;
pub use reentrant::{ReentrantGuard, ReentrantMutex};
pub use region::Region;
