//! What can be made into a call, and what makes calls.

use crate::call::Call;

/// What the function of [`Pool::map`](crate::Pool::map) returns: a [`Call`].
#[diagnostic::on_unimplemented(
    message = "the function of a `map` must return a `Call`, not `{Self}`",
    label = "this function does not return a `Call`",
    note = "give `map` a `#[process]` function, or a closure that calls one: `|(a, b)| add(a, b)`"
)]
pub trait IntoCall {
    /// What the process function returns.
    type Output;

    /// The call.
    fn into_call(self) -> Call<Self::Output>;
}

impl<T> IntoCall for Call<T> {
    type Output = T;

    fn into_call(self) -> Self {
        self
    }
}
