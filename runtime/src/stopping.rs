//! Being asked to stop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::sync::watch;

use crate::link;
use crate::wire::frame::{Kind, read_frame};

/// Whether this process was asked to stop. Nobody listens until somebody wants to know: a thread that waits for the
/// parent's word costs a short-lived child more than it is worth.
fn asked() -> &'static watch::Receiver<bool> {
    static ASKED: OnceLock<watch::Receiver<bool>> = OnceLock::new();
    ASKED.get_or_init(|| {
        let (sender, receiver) = watch::channel(false);
        if let Some(mut link) = link::listener() {
            let listening = std::thread::Builder::new().name("procession-link".into()).spawn(move || {
                while let Ok(Some((Kind::Stop, _))) = read_frame(&mut link, 0) {
                    sender.send_replace(true);
                }
                // The parent is gone, and so will this process be.
            });
            // Without a thread nobody listens, and the parent goes on to signals when the grace is over.
            drop(listening);
        }
        receiver
    })
}

/// Whether this process has been asked to stop.
pub(crate) fn is_stopping() -> bool {
    *asked().borrow()
}

/// A future that is ready when this process is asked to stop, made by
/// [`Current::stopping`](crate::Current::stopping).
///
/// # Cancel safety
/// Safe: asking again gives the same answer.
#[must_use = "futures do nothing unless you await or poll them"]
pub struct Stopping(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Stopping {
    pub(crate) fn new() -> Self {
        let mut asked = asked().clone();
        Self(Box::pin(async move {
            if asked.wait_for(|asked| *asked).await.is_err() {
                // Nobody is there who could ask.
                std::future::pending::<()>().await;
            }
        }))
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").finish_non_exhaustive()
    }
}
