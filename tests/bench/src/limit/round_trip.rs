//! The least that a call to a process that is there already can cost: a frame to it, and a frame back.

use std::io;

use super::{Answers, Child};

/// A child that is up, and answers.
#[derive(Debug)]
pub struct RoundTrip {
    child: Child,
}

impl RoundTrip {
    /// Starts it, and gives it when it has answered once.
    ///
    /// # Errors
    /// Those of starting a process.
    pub async fn start() -> io::Result<Self> {
        let mut child = Child::start(Answers::Many)?;
        child.ask(0).await?;
        Ok(Self { child })
    }

    /// Gives it a number, and gives its square.
    ///
    /// # Errors
    /// If it has ended, or says something else.
    pub async fn ask(&mut self, n: u64) -> io::Result<u64> {
        self.child.ask(n).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those of `waitid(2)`, or if it has failed.
    pub async fn end(self) -> io::Result<()> {
        super::checked(self.child.wait().await?)
    }
}
