//! What the types can be used for, whatever they are of: a table that the compiler checks.

use std::cell::Cell;
use std::panic::RefUnwindSafe;

use procession::{
    Call, Cause, ChildInput, ChildOutput, Current, ExitStatus, Failure, Join, Process, ProcessError,
    ProcessSet, Signaler, Spawn, Stdio, Stopping,
};

/// A value that is neither `Send` nor `Sync`: what is of it is both all the same.
type Odd = *const Cell<u8>;

fn travels_between_threads<T: Send + Sync + Unpin>() {}
fn is_a_future<T: Future + Send + Sync + Unpin>() {}
fn is_a_static_error<T: std::error::Error + Clone + Send + Sync + RefUnwindSafe + 'static>() {}

#[test]
fn the_table() {
    is_a_future::<Call<Odd>>();
    is_a_future::<Spawn<Odd>>();
    is_a_future::<Process<Odd>>();
    is_a_future::<Join<'static, Odd>>();
    is_a_future::<Stopping>();
    travels_between_threads::<ProcessSet<u8>>();
    travels_between_threads::<Signaler>();
    travels_between_threads::<Stdio>();
    travels_between_threads::<ChildInput>();
    travels_between_threads::<ChildOutput>();
    travels_between_threads::<Current>();
    travels_between_threads::<ExitStatus>();
    travels_between_threads::<Failure>();
    travels_between_threads::<Cause>();
    is_a_static_error::<ProcessError>();
}
