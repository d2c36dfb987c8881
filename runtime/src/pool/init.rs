//! What a worker does first.

use std::fmt;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use super::Recipe;
use crate::error::{Cause, Stage};
use crate::plan::Plan;
use crate::wire::Packet;

/// What the function of [`Builder::init`](super::Builder::init) returns: nothing, or a `Result` of nothing and a reason.
#[diagnostic::on_unimplemented(
    message = "what `init` runs must return `()` or a `Result<(), E>`, not `{Self}`",
    note = "what its tasks are to find in a worker goes to `procession::pool::keep`"
)]
pub trait Initialised: sealed::Sealed {
    #[doc(hidden)]
    fn failure(self) -> Option<String>;
}

mod sealed {
    #[expect(unnameable_types, reason = "nobody is to implement it")]
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E: std::fmt::Display> Sealed for Result<(), E> {}
}

impl Initialised for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Display> Initialised for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// Says whether what it has returned is a success.
pub(super) type Check = Box<dyn FnOnce(Packet) -> Result<(), Cause> + Send>;

/// Makes what each worker does first, and says whether it has been done.
pub(super) struct Init(Mutex<Box<dyn FnMut() -> (Plan, Check) + Send>>);

impl Init {
    pub(super) fn new<T: Initialised + 'static>(mut recipe: impl Recipe<T>) -> Self {
        Self(Mutex::new(Box::new(move || {
            let (plan, read) = recipe.next().into_parts();
            let limits = plan.limits;
            let check: Check = Box::new(move |packet| {
                let failure = read(packet, &limits).map_err(Cause::Decode)?.failure();
                failure.map_or(Ok(()), |reason| Err(Cause::start(Stage::Init, reason)))
            });
            (plan, check)
        })))
    }

    pub(super) fn next(&self) -> (Plan, Check) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)()
    }
}

impl fmt::Debug for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Init").finish_non_exhaustive()
    }
}
