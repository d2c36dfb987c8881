//! A test in a process of its own.

use std::env;
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Termination};
use std::time::Duration;

use procession::StartMethod;

use crate::inner;
use crate::keeper;
use crate::marker::{Marker, Role};
use crate::method;
use crate::outcome::{NotPassed, Outcome};
use crate::outer;

/// How long a body, and the check after it, may take before the watchdog ends them.
const LIMIT: Duration = Duration::from_secs(60);
/// Where POSIX shared memory objects appear, those of all processes; see `shm_overview(7)`.
const SHARED_MEMORY: &str = "/dev/shm";
/// How long what ends in the background may take.
const SETTLE: Duration = Duration::from_secs(5);

/// Makes tests of which each runs in a process of its own, with a leak check after it.
///
/// Each function becomes a module of its name with two ordinary `#[test]`s, for `cargo test`, its filters, and nextest:
/// `fork_server` and `spawn` run the same body with that [`StartMethod`] as the default. A test
/// passes if its body returns, and does so with nothing but `()`, `Ok` or whatever else
/// [`Termination`] calls a success, and if after it there are, within five seconds,
///
/// - no processes that were not there before, be they zombies or orphans,
/// - the same file descriptors and threads, by kind and number,
/// - no new shared mappings, and no new files in `/dev/shm` or the directory for temporary files.
///
/// What is there before is what [`warm_up`](crate::warm_up()) makes, which with
/// [`ForkServer`](StartMethod::ForkServer) has one fork server among it; an `async` body has a tokio runtime of its
/// own, which is dropped before the check. `TMPDIR` is a fresh directory. `/dev/shm` is common to all processes:
/// what others have open or mapped there is not counted, but an object that one test has left is reported by
/// each that ran at the time.
///
/// | attribute | means |
/// |---|---|
/// | `#[once]` | one test, of the function's own name, under the method that is the default anyway |
/// | `#[threads(2)]` | a runtime with two worker threads, rather than a current-thread one |
/// | `#[limit(300)]` | the watchdog ends the test after that many seconds, rather than after sixty |
/// | `#[cold]` | no warm-up before the body; for tests about first use |
///
/// They and other attributes may come in any order: `#[ignore]` is for the tests, all others are for the function. A
/// cold test is warmed up after its body and then compared with another process, in which nothing but the warm-up
/// took place.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
///
/// procession_tests::isolated! {
///     /// An async body, in a current-thread runtime.
///     async fn time_passes() {
///         tokio::time::sleep(Duration::from_millis(1)).await;
///     }
///
///     /// A body that may fail with an error, in a runtime with two worker threads.
///     #[threads(2)]
///     #[limit(120)]
///     async fn tasks_can_be_joined() -> Result<(), tokio::task::JoinError> {
///         tokio::spawn(async {}).await
///     }
///
///     /// A body without a runtime, that starts nothing.
///     #[once]
///     fn numbers_add_up() {
///         assert_eq!(1 + 1, 2);
///     }
/// }
/// ```
#[macro_export]
macro_rules! isolated {
    () => {};
    ($(#[$($attribute:tt)*])* async fn $name:ident() $(-> $output:ty)? $body:block $($rest:tt)*) => {
        $crate::isolated! { @test both [] [] [] [$([$($attribute)*])*]
            $name run_async { async fn body() $(-> $output)? $body }
        }
        $crate::isolated! { $($rest)* }
    };
    ($(#[$($attribute:tt)*])* fn $name:ident() $(-> $output:ty)? $body:block $($rest:tt)*) => {
        $crate::isolated! { @test both [] [] [] [$([$($attribute)*])*]
            $name run { fn body() $(-> $output)? $body }
        }
        $crate::isolated! { $($rest)* }
    };

    // Attributes, one after the other: to the tests, to the function, or to the settings.
    (@test $methods:ident $tests:tt $function:tt [$($setting:tt)*] [[threads($threads:expr)] $($more:tt)*] $($rest:tt)*) => {
        $crate::isolated! { @test $methods $tests $function [$($setting)* .threads($threads)] [$($more)*] $($rest)* }
    };
    (@test $methods:ident $tests:tt $function:tt [$($setting:tt)*] [[limit($seconds:expr)] $($more:tt)*] $($rest:tt)*) => {
        $crate::isolated! { @test $methods $tests $function
            [$($setting)* .limit(::std::time::Duration::from_secs($seconds))] [$($more)*] $($rest)*
        }
    };
    (@test $methods:ident $tests:tt $function:tt [$($setting:tt)*] [[cold] $($more:tt)*] $($rest:tt)*) => {
        $crate::isolated! { @test $methods $tests $function [$($setting)* .cold()] [$($more)*] $($rest)* }
    };
    (@test both $tests:tt $function:tt $settings:tt [[once] $($more:tt)*] $($rest:tt)*) => {
        $crate::isolated! { @test once $tests $function $settings [$($more)*] $($rest)* }
    };
    (@test $methods:ident [$($test:tt)*] $function:tt $settings:tt [[ignore $($why:tt)*] $($more:tt)*] $($rest:tt)*) => {
        $crate::isolated! { @test $methods [$($test)* #[ignore $($why)*]] $function $settings [$($more)*] $($rest)* }
    };
    (@test $methods:ident $tests:tt [$($function:tt)*] $settings:tt [[$($other:tt)*] $($more:tt)*] $($rest:tt)*) => {
        $crate::isolated! { @test $methods $tests [$($function)* #[$($other)*]] $settings [$($more)*] $($rest)* }
    };

    (@test both [$($test:tt)*] [$($function:tt)*] [$($setting:tt)*] [] $name:ident $run:ident { $($body:tt)* }) => {
        #[cfg(test)]
        $($function)*
        fn $name(method: $crate::StartMethod) -> ::std::result::Result<(), $crate::NotPassed> {
            $($body)*
            let test = $crate::Isolated::new(::std::module_path!(), ::std::stringify!($name));
            test.under(method) $($setting)* .$run(body)
        }
        $crate::under_both! { $($test)* $name }
    };
    (@test once [$($test:tt)*] [$($function:tt)*] [$($setting:tt)*] [] $name:ident $run:ident { $($body:tt)* }) => {
        #[test]
        $($test)*
        $($function)*
        fn $name() -> ::std::result::Result<(), $crate::NotPassed> {
            $($body)*
            $crate::Isolated::new(::std::module_path!(), ::std::stringify!($name)) $($setting)* .$run(body)
        }
    };
}

/// Makes two tests of a function that takes a [`StartMethod`], in a module of its name: what [`isolated!`] is made of, for
/// tests that are written out.
///
/// # Examples
/// ```no_run
/// use procession_tests::{Isolated, NotPassed, StartMethod};
///
/// fn written_out(method: StartMethod) -> Result<(), NotPassed> {
///     Isolated::new(module_path!(), "written_out").under(method).threads(2).run_async(async || {
///         tokio::task::yield_now().await;
///     })
/// }
///
/// procession_tests::under_both!(written_out);
/// ```
#[macro_export]
macro_rules! under_both {
    ($(#[$($attribute:tt)*])* $name:ident) => {
        mod $name {
            #[test]
            $(#[$($attribute)*])*
            fn fork_server() -> ::std::result::Result<(), $crate::NotPassed> {
                super::$name($crate::StartMethod::ForkServer)
            }

            #[test]
            $(#[$($attribute)*])*
            fn spawn() -> ::std::result::Result<(), $crate::NotPassed> {
                super::$name($crate::StartMethod::Spawn)
            }
        }
    };
}

/// The settings of an isolated test: what [`isolated!`] is made of, for tests that are written out. With
/// [`under_both!`](crate::under_both!) there are two of each.
///
/// # Examples
/// ```no_run
/// use procession_tests::{NotPassed, Isolated};
///
/// #[test]
/// fn written_out() -> Result<(), NotPassed> {
///     Isolated::new(module_path!(), "written_out").threads(2).run_async(async || {
///         tokio::task::yield_now().await;
///     })
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a test runs only when `run` is called"]
pub struct Isolated {
    pub(crate) path: String,
    pub(crate) limit: Duration,
    pub(crate) settle: Duration,
    pub(crate) cold: bool,
    pub(crate) shared_memory: PathBuf,
    threads: usize,
    method: Option<StartMethod>,
}

impl Isolated {
    /// The test function `name` in the module `module_path!()`.
    ///
    /// It must be the function that this is called in, since that is what the other processes run.
    pub fn new(module: &str, name: &str) -> Self {
        let path = match module.split_once("::") {
            Some((_crate_name, module)) => format!("{module}::{name}"),
            None => name.to_owned(),
        };
        let shared_memory = PathBuf::from(SHARED_MEMORY);
        Self { path, limit: LIMIT, settle: SETTLE, cold: false, shared_memory, threads: 0, method: None }
    }

    /// Makes this the default start method of all that is run, in the test that [`under_both!`](crate::under_both!) has
    /// made for it: it is in the module of that name, and is named as the method is.
    pub fn under(self, method: StartMethod) -> Self {
        Self { path: format!("{}::{}", self.path, method::name(method)), method: Some(method), ..self }
    }

    /// Worker threads of the runtime of an async body; 0, the default, is a current-thread runtime.
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// After how long the watchdog ends the test; a minute by default.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// How long what ends in the background may take until it counts as left; five seconds by default.
    pub fn settle(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Runs the body in a process that has not been warmed up.
    pub fn cold(self) -> Self {
        Self { cold: true, ..self }
    }

    /// The directory that shared memory objects appear in; `/dev/shm` by default.
    pub fn shared_memory(self, directory: &Path) -> Self {
        Self { shared_memory: directory.to_owned(), ..self }
    }

    /// Runs a body without a runtime.
    ///
    /// # Errors
    /// If the test did not pass.
    #[expect(clippy::print_stdout, reason = "libtest captures it, and shows it where the test fails")]
    pub fn run<T: Termination>(self, body: impl FnOnce() -> T) -> Result<(), NotPassed> {
        let outcome = self.outcome(body);
        print!("{}", outcome.output);
        outcome.passed()
    }

    /// Runs an async body in a tokio runtime of its own.
    ///
    /// # Errors
    /// If the test did not pass.
    pub fn run_async<B, F>(self, body: B) -> Result<(), NotPassed>
    where
        B: FnOnce() -> F,
        F: Future<Output: Termination>,
    {
        let threads = self.threads;
        self.run(move || block_on(threads, body()))
    }

    /// Runs an async body and returns how it ended; see [`outcome`](Self::outcome).
    pub fn outcome_async<B, F>(self, body: B) -> Outcome
    where
        B: FnOnce() -> F,
        F: Future<Output: Termination>,
    {
        let threads = self.threads;
        self.outcome(move || block_on(threads, body()))
    }

    /// Runs a body without a runtime and returns how it ended, for tests that expect it to fail.
    ///
    /// Returns in the outer process alone.
    pub fn outcome<T: Termination>(self, body: impl FnOnce() -> T) -> Outcome {
        let Some(marker) = Marker::read() else { return outer::run(&self) };
        match marker.role {
            Role::Keeper => keeper::keep(&self, &marker),
            Role::Reference => inner::write_reference(&self, &marker),
            Role::Body => inner::run(&self, &marker, body),
        }
    }

    /// What starts the next process of this test: this very binary, also where its file has been replaced.
    pub(crate) fn command(&self, role: Role, directory: &Path) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(env::args_os().next().unwrap_or_default());
        command.args([
            "--exact",
            &self.path,
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
            "--quiet",
        ]);
        let (name, value) = Marker::for_child(role, directory);
        command.envs(self.method.map(method::for_child));
        command.env(name, value).env("TMPDIR", inner::temporary(directory)).process_group(0);
        command
    }
}

/// Runs a future in a runtime that ends with it.
fn block_on<F: Future>(threads: usize, future: F) -> F::Output {
    use tokio::runtime::Builder;
    let mut builder = match threads {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().expect("a tokio runtime").block_on(future)
}
