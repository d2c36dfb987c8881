//! Messages that were accepted, and whose sender is done with, or busy: what an orderly end waits for.

use std::sync::LazyLock;

use tokio::sync::watch;

static COUNT: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// That something is still to be written. Over when dropped.
#[derive(Debug)]
pub(super) struct Lingering(());

impl Lingering {
    pub(super) fn begin() -> Self {
        COUNT.send_modify(|count| *count += 1);
        Self(())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        COUNT.send_modify(|count| *count -= 1);
    }
}

/// Waits until everything that was accepted is with the kernel, or its receiver is gone.
pub(crate) async fn written() {
    // The sender is a static: it does not end.
    drop(COUNT.subscribe().wait_for(|count| *count == 0).await);
}

/// Whether something is still to be written.
pub(crate) fn is_unwritten() -> bool {
    *COUNT.borrow() > 0
}
