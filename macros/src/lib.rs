//! The macros of Procession.
//!
//! Use them by their names in `procession`: `procession::process`, `procession::main` and `procession::shared::Plain`.
//!
//! | file | step |
//! |---|---|
//! | `options` | reads what stands in the attribute's parentheses |
//! | `model` | reads the item below the attribute |
//! | `check` | holds every rule, and reports all that are broken at once |
//! | `expand`, `main_attribute` | write the code |
//! | `stub` | writes what stands in for a function that broke a rule |
//! | `plain` | all of these steps for `#[derive(Plain)]` |

mod check;
mod errors;
mod expand;
mod main_attribute;
mod model;
mod options;
mod plain;
mod stub;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;

use crate::errors::Errors;
use crate::model::{Function, Item};

/// Makes a function one that runs in a child process: it returns a `Call`, which does nothing until it is run.
///
/// ```
/// use procession::{Call, process};
///
/// /// Counts the primes below `n`.
/// #[process]
/// async fn primes_below(n: u64) -> usize {
///     (2..n).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), procession::ProcessError> {
///     let call: Call<usize> = primes_below(1_000);
///     assert_eq!(call.await?, 168);
///     Ok(())
/// }
/// ```
///
/// # Functions
///
/// | function | runs |
/// |---|---|
/// | `async fn` | on a tokio runtime of its own, on the child's main thread |
/// | `fn` | on the child's main thread, without a runtime: for code that blocks or computes |
///
/// It may stand wherever a function may, also inside another function, or in an `impl` block if it has no
/// `self`. It may be generic, have patterns as parameters, and call itself: each such call is a `Call` too.
///
/// Docs, visibility, `#[deprecated]` and lint levels belong to the function that callers see; all other attributes
/// belong to the code that the child runs.
///
/// # Arguments and results
///
/// They travel, so each type must be a `procession::Message`: what serde can write and read back, with nothing
/// borrowed. `T: Message` is the bound to write in a generic function.
///
/// ```
/// use procession::{Message, process};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Span {
///     first: u64,
///     last: u64,
/// }
///
/// #[process]
/// fn length(Span { first, last }: Span) -> Result<u64, String> {
///     last.checked_sub(first).ok_or_else(|| "backwards".to_owned())
/// }
///
/// #[process]
/// async fn largest<T: Message + Ord>(list: Vec<T>) -> Option<T> {
///     list.into_iter().max()
/// }
///
/// assert_eq!(length(Span { first: 3, last: 7 }).blocking()?, Ok(4));
/// assert_eq!(largest(vec!['a', 'c', 'b']).blocking()?, Some('c'));
/// # Ok::<_, procession::ProcessError>(())
/// ```
///
/// # Options
///
/// | option | value | without it |
/// |---|---|---|
/// | `threads = 4` | worker threads of an `async fn`'s runtime, from 1 | the current-thread runtime |
/// | `name = "sieve"` | what its processes are called, with a number | the function's name |
/// | `crate = my::procession` | the path of this crate, for macros that re-export it | `::procession` |
///
/// ```
/// use procession::process;
///
/// #[process(threads = 2, name = "crowd")]
/// async fn workers() -> usize {
///     tokio::runtime::Handle::current().metrics().num_workers()
/// }
///
/// assert_eq!(workers().blocking()?, 2);
/// # Ok::<_, procession::ProcessError>(())
/// ```
///
/// # Errors
///
/// A function that cannot run in another process does not compile: one with a borrowed argument, `self`,
/// `impl Trait` or `-> !` in its signature, `unsafe`, `const` or `extern` before it.
///
/// ```compile_fail
/// #[procession::process]
/// async fn greet(name: &str) {} // an argument cannot borrow: take `String`
/// ```
#[proc_macro_attribute]
pub fn process(options: TokenStream, item: TokenStream) -> TokenStream {
    expand_process(options.into(), item.into()).into()
}

/// Calls `procession::init()` before anything else in `main`, and runs an async `main` on a runtime.
///
/// A program that was built with the feature `before-main`, which is on by default, needs no such thing: its
/// children never reach `main`. Without the feature, `init` is where a child stops being a copy of the program, so it
/// comes first.
///
/// ```
/// use procession::process;
///
/// #[process]
/// async fn double(n: u64) -> u64 {
///     2 * n
/// }
///
/// #[procession::main]
/// async fn main() -> Result<(), procession::ProcessError> {
///     assert_eq!(double(21).await?, 42);
///     Ok(())
/// }
/// ```
///
/// An `async fn main` runs on tokio's multi-thread runtime. For another runtime, leave `main` plain, or put that
/// runtime's attribute above this one:
///
/// ```
/// #[tokio::main(flavor = "current_thread")]
/// #[procession::main]
/// async fn main() {}
/// ```
///
/// # Options
///
/// `crate = my::procession` is the path of this crate, `::procession` by default.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand_main(options.into(), item.into()).into()
}

/// Makes a struct one that can be kept in shared memory: it is `procession::shared::Plain`.
///
/// Each of its fields must be plain data itself, and the struct `Copy`. It may be generic: over types that are plain, too. Its fields
/// stand in shared memory in their order, as `#[repr(C)]` has it, whatever the compiler makes of the struct elsewhere.
///
/// ```
/// use procession::shared::{Mutex, Plain};
///
/// #[derive(Clone, Copy, Plain)]
/// struct Statistics<T> {
///     count: u64,
///     least: T,
///     most: T,
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let statistics = Mutex::new(Statistics { count: 0, least: f64::MAX, most: f64::MIN })?;
/// statistics.lock().await?.count += 1;
/// assert_eq!(statistics.lock().await?.count, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Options
///
/// `#[plain(crate = my::procession)]` on the struct says the path of this crate, `::procession` by default.
///
/// # Errors
///
/// An enum or a union does not compile, nor does a struct with a field that owns or borrows memory.
///
/// ```compile_fail
/// #[derive(Clone, Copy, procession::shared::Plain)]
/// enum Light { // keep a number, and make the enum of it
///     Red,
///     Green,
/// }
/// ```
#[proc_macro_derive(Plain, attributes(plain))]
pub fn plain(item: TokenStream) -> TokenStream {
    plain::derive(item.into()).into()
}

fn expand_process(options: Tokens, item: Tokens) -> Tokens {
    let mut errors = Errors::default();
    let options = options::parse(options, &["threads", "name", "crate"], &mut errors);
    let function: Function = match syn::parse2::<Item>(item.clone()) {
        Ok(item) => item.into(),
        Err(error) => return errors.with(error).beside(item),
    };
    check::process(&function, &options, &mut errors);
    if errors.is_empty() {
        expand::process(&function, &options)
    } else {
        errors.beside(stub::process(&function, &options))
    }
}

fn expand_main(options: Tokens, item: Tokens) -> Tokens {
    let mut errors = Errors::default();
    let options = options::parse(options, &["crate"], &mut errors);
    let item: Item = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(error) => return errors.with(error).beside(item),
    };
    check::main(&item, &mut errors);
    if errors.is_empty() {
        main_attribute::main(&item, &options)
    } else {
        errors.beside(main_attribute::stub(&item))
    }
}
