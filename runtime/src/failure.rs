//! The error that travels.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The error that travels: what any error says, and what its causes say.
///
/// Errors such as [`std::io::Error`] cannot be sent to another process. `?` turns any of them into a `Failure`,
/// which can, and turns a `Failure` back into a boxed error on the other side.
///
/// Like `anyhow::Error` it does not implement [`Error`] itself, because it is made from every type that does.
///
/// # Examples
/// ```
/// use procession::{Failure, process};
///
/// #[process]
/// async fn size(path: String) -> Result<u64, Failure> {
///     Ok(std::fs::metadata(path)?.len())
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert!(size("/proc/self/exe".into()).blocking()?? > 0);
/// let failure = size("/no/such/file".into()).blocking()?.unwrap_err();
/// assert!(failure.to_string().starts_with("No such file or directory"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
}

impl Failure {
    /// Makes one of anything that can be a boxed error: an error, an `anyhow::Error`, a string.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of(&*error.into())
    }

    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self { message: error.to_string(), causes }
    }

    /// What the causes said, the nearest first.
    pub fn causes(&self) -> impl Iterator<Item = &str> {
        self.causes.iter().map(String::as_str)
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The message and its causes, a line each: what a `main` that returns it prints.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
    }
}

/// A failure as an [`Error`], its causes behind [`Error::source`].
struct Link {
    message: String,
    source: Option<Box<Self>>,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.source.iter().try_for_each(|source| write!(f, "\n  caused by: {source:?}"))
    }
}

impl Error for Link {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<Failure> for Link {
    fn from(failure: Failure) -> Self {
        let wrap = |source: Option<Box<Self>>, message| Some(Box::new(Self { message, source }));
        let source = failure.causes.into_iter().rev().fold(None, wrap);
        Self { message: failure.message, source }
    }
}

impl From<Failure> for Box<dyn Error + Send + Sync> {
    fn from(failure: Failure) -> Self {
        Box::new(Link::from(failure))
    }
}

impl From<Failure> for Box<dyn Error> {
    fn from(failure: Failure) -> Self {
        Box::new(Link::from(failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_survive_the_way_there_and_back() {
        let inner = Failure { message: "outer".into(), causes: vec!["middle".into(), "inner".into()] };
        let boxed: Box<dyn Error> = inner.clone().into();
        assert_eq!(boxed.source().and_then(Error::source).map(ToString::to_string), Some("inner".into()));
        assert_eq!(Failure::of(&*boxed), inner);
    }

    #[test]
    fn made_of_words() {
        assert_eq!(Failure::new("no luck").to_string(), "no luck");
    }
}
