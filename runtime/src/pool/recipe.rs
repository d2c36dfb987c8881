//! Calls that are made when they are wanted, again and again.

use crate::call::Call;

/// What makes a call each time that one is wanted: a [`Call`], whose arguments are sent each time, or a closure that makes one.
///
/// A call with a handle that belongs to one process, such as an end of a pipe, can be made once.
pub trait Recipe<T>: Send + 'static {
    /// The next call.
    fn next(&mut self) -> Call<T>;
}

impl<T: 'static> Recipe<T> for Call<T> {
    fn next(&mut self) -> Self {
        self.again()
    }
}

impl<T, F: FnMut() -> Call<T> + Send + 'static> Recipe<T> for F {
    fn next(&mut self) -> Call<T> {
        self()
    }
}
