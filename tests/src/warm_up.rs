//! What every process that uses Procession keeps to its end, made before it is counted.

/// Brings the process into the state in which the leak check starts to count. Not for use within a runtime.
///
/// A first call starts the control thread, its epoll and the like, and, where that is how children are started, the fork
/// server: they stay for good. They are no leak, so they are made before the census of a test, or after the body of one
/// that is `#[cold]`.
///
/// # Panics
/// If a process that does nothing cannot be run.
pub fn warm_up() {
    nothing().blocking().expect("a process that does nothing");
    // Its value comes before its end.
    while !procession::children().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[procession::process]
fn nothing() {}

/// The same for what tokio keeps: the socket pair of its signal driver, made with the first runtime.
pub(crate) fn warm_up_tokio() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    drop(runtime.expect("a tokio runtime"));
}
