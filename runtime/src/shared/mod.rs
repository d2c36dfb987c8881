//! Memory that processes share, and async locks in it that survive their owners.
//!
//! Everything here is a *handle*: a clone of it, passed as an argument or in any message, stands for the same lock or value in
//! another process. There are no names, and nothing is left when the last handle is gone.
//!
//! ```
//! use procession::shared::Mutex;
//! use procession::{Failure, process};
//!
//! #[process]
//! async fn deposit(account: Mutex<u64>, amount: u64) -> Result<(), Failure> {
//!     *account.lock().await? += amount;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let account = Mutex::new(0)?;
//! let (one, other) = tokio::join!(deposit(account.clone(), 3), deposit(account.clone(), 4));
//! one??;
//! other??;
//! assert_eq!(*account.lock().await?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! # Which one to take
//!
//! | you want | take | Python's |
//! |---|---|---|
//! | one number, flag or character that many change | [`Atomic`] | `Value` |
//! | many numbers, or records of one size | [`Array`] | `Array` |
//! | several fields that change together | [`Mutex`] around a struct with `#[derive(Plain)]` | `Value` of a struct, and a `Lock` |
//! | the same, where most only look | [`RwLock`] | |
//! | to let one at a time do something | `Mutex<()>` | `Lock` |
//! | the same, for functions that call each other | [`ReentrantMutex`] | `RLock` |
//! | to let a few at a time | [`Semaphore`] | `Semaphore` |
//! | to wait until something has happened | [`Event`] | `Event` |
//! | to wait until a value is as you want it | [`Condvar`] | `Condition` |
//! | to wait for each other | [`Barrier`] | `Barrier` |
//! | to give many bytes to many, to be read | [`Blob`] | `SharedMemory`, read-only |
//! | to send values from one to another | a [pipe](crate::pipe()) | `Pipe`, `Queue` |
//!
//! What is sent needs no lock; prefer a pipe where it will do.
//!
//! # Held across an `.await`
//!
//! A guard of `std::sync::Mutex` must not be held across an `.await`: who waits for it blocks a thread of the runtime, on which the
//! owner may have to run. Here nobody blocks: `lock().await` gives the thread back while it waits, whoever has the lock, in whatever
//! process. So a guard may be held across an `.await`, is [`Send`], and may be dropped on another thread. As everywhere, whoever holds it long
//! lets others wait long, and a task that locks what it has locked waits for itself for ever.
//!
//! # When an owner dies
//!
//! A guard of [`Mutex`] or [`RwLock`] is a private copy of the value, which is committed as a whole when the guard is dropped.
//!
//! | the owner | the value | the next one to lock gets |
//! |---|---|---|
//! | drops the guard | what it has written | a guard |
//! | panics, or calls `rollback` | as it was | a guard |
//! | is killed, exits, or crashes | as it was | [`OwnerDied`], with the guard in it |
//! | is stopped (`SIGSTOP`), or hangs | not known yet | nothing: it waits until the owner goes on, or gives up waiting |
//!
//! So the value is never torn, but it may be out of step with something else: a file that was written, another lock. [`OwnerDied::recover`] is for
//! who has looked and can say that it is right. `?` is for who cannot: it ends the function with an error that says what has happened. Where it is dropped, the next one gets the
//! same.
//!
//! What the dead had of a [`Semaphore`] returns; a [`Barrier`] breaks; a [`Condvar`]'s notice goes to another. All of this takes about a
//! millisecond: the time in which the kernel tells of a death.
//!
//! # Waiting
//!
//! A future that waits may be dropped, in `tokio::time::timeout` and `select!` for example, and has no effect on the others; but whoever gives
//! up waiting at a [`Barrier`] breaks it for all, since it would wait for one that does not come.
//! One that is neither dropped nor polled when its turn comes keeps that from those of its runtime that are behind it, as with tokio's.
//!
//! Within a runtime those that wait for a [`Mutex`] have their turn in the order in which they asked. Between processes whoever is first has it: one
//! that locks again as soon as it has unlocked wins most of the time, since another has to wake up first. Let it wait for something in between, or
//! give turns by a [pipe](crate::pipe()) or a [`Condvar`].
//!
//! The `blocking_` methods are for code that is not async. As tokio's own sockets, what waits panics in a runtime without I/O
//! (`Builder::enable_io`).
//!
//! # Memory and descriptors
//!
//! What is made by `new` has memory of its own: some kilobytes, and three descriptors in each process that has a handle. Where there are many,
//! make a [`Region`], and all of them in it by `new_in`: nine descriptors, however many they are. A message with 64 handles, the default
//! limit, has room for 21 of the first kind, and for as many of the second as its bytes allow. At most 254 processes have handles of one region at
//! a time, all in one pid namespace. All of a region's memory is allocated when it is made: where the system has none that is an error of `new`.
//!
//! # Whom it trusts
//!
//! Who has a handle can write to that region whatever it wants. A hostile process can make values wrong, keep locks, and wake others for nothing. It
//! cannot make another process crash, read what is not in the region, or wait where waiting cannot be cancelled; and it has no way to regions of which it has no
//! handle. What goes to an untrusted child should be a [`Blob`], or a region of its own.

mod array;
mod atomic;
mod atomics;
mod attachment;
mod barrier;
mod bells;
mod blob;
mod bounds;
mod cells;
mod condvar;
mod deaths;
mod died;
mod event;
pub(crate) mod fields;
mod guarded;
mod identity;
mod layout;
mod lines;
mod listeners;
mod mutex;
mod piece;
mod plain;
mod reentrant;
mod region;
mod rwlock;
mod scalar;
mod semaphore;
mod waiters;
pub(crate) mod words;

pub(crate) use attachment::{Attachment, Waiting};
pub(crate) use layout::Kind;
pub(crate) use listeners::block_on;
pub(crate) use region::Object;
pub(crate) use waiters::Turns;

pub use array::Array;
pub use atomic::Atomic;
pub use barrier::{Barrier, BarrierWaitResult, Broken, NewBarrierError};
pub use blob::Blob;
pub use bounds::OutOfBounds;
pub use cells::Cells;
pub use condvar::Condvar;
pub use died::{OwnerDied, TryLockError};
pub use event::Event;
pub use mutex::{Locked, Mutex, MutexGuard};
pub use plain::Plain;
pub use procession_macros::Plain;
pub use reentrant::{ReentrantGuard, ReentrantMutex};
pub use region::Region;
pub use rwlock::{ReadLocked, RwLock, RwLockReadGuard, RwLockWriteGuard, WriteLocked};
pub use scalar::{Bits, Number, Scalar};
pub use semaphore::{Permit, Semaphore, TooManyPermits, TryAcquireError};
