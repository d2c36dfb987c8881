//! What carries the messages of a mailbox.

use std::fmt::Debug;

/// What carries the messages of a mailbox: [`Memory`], or [`Handles`].
pub trait Carrier: sealed::Sealed + Debug + 'static {
    #[doc(hidden)]
    const HAS_HANDLES: bool;
}

/// Messages stand in memory that all processes share: fast, and they come back if who has received them dies. They cannot have
/// handles.
#[derive(Debug)]
pub enum Memory {}

/// The kernel carries the messages, and handles in them: ends of pipes and mailboxes, [`Passed`](crate::Passed) files and
/// sockets, locks in shared memory. They cannot come back: the kernel gives them to one process.
#[derive(Debug)]
pub enum Handles {}

impl Carrier for Memory {
    const HAS_HANDLES: bool = false;
}

impl Carrier for Handles {
    const HAS_HANDLES: bool = true;
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else can implement it")]
    pub trait Sealed {}

    impl Sealed for super::Memory {}
    impl Sealed for super::Handles {}
}
