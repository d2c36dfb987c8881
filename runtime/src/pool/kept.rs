//! What a worker keeps for its tasks.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::task::{Context, Poll};

/// What one worker has kept, by its type.
#[derive(Debug, Default)]
pub(super) struct Kept(RwLock<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

/// That of this process. A worker is a process of its own.
static PROCESS: LazyLock<Arc<Kept>> = LazyLock::new(Arc::default);

thread_local! {
    /// That of the worker whose task this thread runs, in a process that has several.
    static HERE: RefCell<Option<Arc<Kept>>> = const { RefCell::new(None) };
}

fn here() -> Arc<Kept> {
    HERE.with_borrow(Clone::clone).unwrap_or_else(|| Arc::clone(&PROCESS))
}

/// Keeps a value in this worker, for the tasks that run in it after this: what [`Builder::init`](super::Builder::init) has loaded, or
/// what the first task has. It takes the place of one of the same type.
///
/// Each worker has its own, and one that replaces another begins without. The value does not travel, so that it may be anything that threads can
/// share. In a process that is no worker it is kept for all of that process.
///
/// # Examples
/// ```
/// use procession::{Failure, Pool, pool, process};
///
/// struct Model(Vec<String>);
///
/// #[process]
/// fn load(words: String) -> Result<(), Failure> {
///     pool::keep(Model(words.split(' ').map(str::to_owned).collect()));
///     Ok(())
/// }
///
/// #[process]
/// fn word(n: usize) -> Option<String> {
///     pool::kept::<Model>()?.0.get(n).cloned()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let pool = Pool::builder().workers(2).init(load("one two three".to_owned())).build().await?;
/// assert_eq!(pool.run(word(1)).await?.as_deref(), Some("two"));
/// # Ok(())
/// # }
/// ```
pub fn keep<T: Send + Sync + 'static>(value: T) {
    let kept = here();
    let former =
        kept.0.write().unwrap_or_else(PoisonError::into_inner).insert(TypeId::of::<T>(), Arc::new(value));
    // Somebody else's code, outside of the lock.
    drop(former);
}

/// What this worker has kept of a type, if it has.
///
/// # Examples
/// Where `init` would do too much, the first task that needs a value makes it.
/// ```
/// use std::sync::Arc;
///
/// use procession::{Pool, pool, process};
///
/// struct Primes(Vec<u64>);
///
/// fn primes() -> Arc<Primes> {
///     pool::kept().unwrap_or_else(|| {
///         let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0);
///         pool::keep(Primes((2..1000).filter(is_prime).collect()));
///         pool::kept().expect("it was kept just now")
///     })
/// }
///
/// #[process]
/// fn nth_prime(n: usize) -> Option<u64> {
///     primes().0.get(n).copied()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procession::ProcessError> {
/// let pool = Pool::new(2).await?;
/// assert_eq!(pool.map(nth_prime, [0, 4, 9]).await?, [Some(2), Some(11), Some(29)]);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn kept<T: Send + Sync + 'static>() -> Option<Arc<T>> {
    let kept = here();
    let value = kept.0.read().unwrap_or_else(PoisonError::into_inner).get(&TypeId::of::<T>()).cloned();
    value?.downcast().ok()
}

/// A future that finds what one worker of several in this process has kept.
pub(super) struct Within<F> {
    pub(super) kept: Arc<Kept>,
    pub(super) future: Pin<Box<F>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = Entered::new(&self.kept);
        self.future.as_mut().poll(context)
    }
}

/// For as long as it lives, this thread finds what a worker has kept.
pub(super) struct Entered(Option<Arc<Kept>>);

impl Entered {
    pub(super) fn new(kept: &Arc<Kept>) -> Self {
        Self(HERE.replace(Some(Arc::clone(kept))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}
