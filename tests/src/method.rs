//! The start method that a test runs under, and how the programs that it starts learn of it.

use std::env;

use procession::StartMethod;

/// The environment variable that says so, to the inner process and to all that it starts.
const NAME: &str = "PROCESSION_TESTS_START_METHOD";

/// What a method is called: by the variable, and as the test of it.
pub(crate) fn name(method: StartMethod) -> &'static str {
    match method {
        StartMethod::ForkServer => "fork_server",
        StartMethod::Spawn => "spawn",
        other => panic!("{other:?} has no name yet"),
    }
}

/// Name and value for a child of this process.
pub(crate) fn for_child(method: StartMethod) -> (&'static str, &'static str) {
    (NAME, name(method))
}

/// Makes the start method of the test that this program is run by the default of this process. The first line of the
/// `main` of a helper program; without a test, or in one that has no method, nothing changes.
///
/// # Panics
/// If the variable has been set to something that is none.
pub fn take_start_method() {
    let Ok(value) = env::var(NAME) else { return };
    let methods = [StartMethod::ForkServer, StartMethod::Spawn];
    let method = methods.into_iter().find(|method| name(*method) == value);
    method.unwrap_or_else(|| panic!("{NAME} is {value:?}, which is no start method")).set_default();
}
