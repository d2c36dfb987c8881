//! The words that processes share, step by step: all orders of the steps of a few processes, and a death before each of
//! them. Requirement 27.
//!
//! The sources of the words are built once more here, over loom's atomics. Each model has controls: the same with a
//! mistake, which it must find.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]
#![expect(clippy::print_stdout, reason = "libtest captures it, and shows it where the test fails")]

mod atomics;
mod events;
mod locks;
mod memberships;
mod notices;
mod rings;
mod rounds;
mod rwlocks;
mod semaphores;
mod waits;
#[path = "../../../runtime/src/shared/words/mod.rs"]
#[expect(dead_code, unused_imports, reason = "what only the library needs has no model")]
mod words;
mod world;
