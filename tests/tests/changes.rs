//! What a child finds whose parent has changed since its fork server was started: the same as one that is started by exec.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use futures::future::join_all;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use procession::{Call, Resource, StartMethod, Stdio, process};
use procession_tests::{
    Isolated, NotPassed, eventually, fork_servers_of, is_root, isolated, needing, threads,
};
use rustix::fs::Mode;
use rustix::process::{Pid, Rlimit, chroot, getrlimit, setpriority_process, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, CpuSet, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, sched_getaffinity, sched_setaffinity, set_capabilities,
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;

type Variables = BTreeMap<OsString, OsString>;

/// The fork servers of this process, zombies left out.
fn servers() -> Vec<u32> {
    let servers = fork_servers_of(std::process::id()).into_iter();
    servers.filter(|it| !it.is_zombie()).map(|it| it.pid).collect()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Found {
    variables: Variables,
    directory: Option<PathBuf>,
    status: BTreeMap<String, String>,
    limits: String,
    nice: i32,
    reluctance: String,
    streams: Vec<String>,
    /// Device and inode.
    root: (u64, u64),
}

const FIELDS: [&str; 15] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Cpus_allowed",
    "Mems_allowed",
    "SigBlk",
    "SigIgn",
    "SigCgt",
];

fn identity_of(path: impl AsRef<Path>) -> (u64, u64) {
    let file = fs::metadata(path).unwrap();
    (file.dev(), file.ino())
}

fn find() -> Found {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let known = lines.filter(|(key, _)| FIELDS.contains(key));
    let stream = |fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    Found {
        variables: std::env::vars_os().collect(),
        directory: std::env::current_dir().ok(),
        status: known.map(|(key, value)| (key.into(), value.trim().into())).collect(),
        limits: fs::read_to_string("/proc/self/limits").unwrap(),
        nice: rustix::process::getpriority_process(None).unwrap(),
        reluctance: fs::read_to_string("/proc/self/oom_score_adj").unwrap(),
        streams: (0..3).map(|fd| stream(fd).to_str().unwrap().to_owned()).collect(),
        root: identity_of("/"),
    }
}

#[process]
fn looks_around() -> Found {
    find()
}

/// What a call finds in a child of the fork server, which must be what it finds in one that was started by exec.
async fn as_fresh(call: impl Fn() -> Call<Found>) -> Found {
    let forked = call().start_method(StartMethod::ForkServer).await.unwrap();
    let fresh = call().start_method(StartMethod::Spawn).await.unwrap();
    // The environment is long: what differs is shown alone.
    let other = |a: &Found, b: &Found| -> Variables {
        let differs = |(key, value): &(&OsString, &OsString)| b.variables.get(*key) != Some(*value);
        a.variables.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    assert_eq!(other(&forked, &fresh), other(&fresh, &forked));
    assert_eq!(
        Found { variables: Variables::new(), ..forked.clone() },
        Found { variables: Variables::new(), ..fresh }
    );
    forked
}

/// Sets a variable of this process, or takes it away.
#[expect(unsafe_code, reason = "what a program may do is what the test is about")]
fn set_variable(key: &str, value: Option<OsString>) {
    match value {
        // SAFETY: all other code of this process reads the environment by the standard library, which locks it.
        Some(value) => unsafe { std::env::set_var(key, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(key) },
    }
}

#[process]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the test is about it")]
fn speaks() {
    println!("out");
    eprintln!("err");
}

#[process]
fn reads() -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    text
}

/// The control thread, whose children they all are for the kernel.
fn control_thread() -> Pid {
    let found = threads().into_iter().find(|(_, name)| name == "procession").unwrap();
    Pid::from_raw(found.0.cast_signed()).unwrap()
}

isolated! {
    /// Variables that came, changed and went; those that a call names are another matter.
    #[once]
    async fn variables() {
        let gone = std::env::vars_os().next().unwrap().0;
        set_variable(gone.to_str().unwrap(), None);
        let odd = OsString::from_vec(vec![b'a', 0xff, b'=', b'\n']);
        set_variable("PROCESSION_TEST_NEW", Some(odd.clone()));
        set_variable("PATH", Some("/nowhere".into()));
        set_variable("PROCESSION_TEST_LONG", Some("x".repeat(100_000).into()));
        let found = as_fresh(looks_around).await;
        assert_eq!(found.variables, find().variables);
        assert_eq!(found.variables.get("PROCESSION_TEST_NEW".as_ref() as &std::ffi::OsStr), Some(&odd));
        let call = || looks_around().env_remove("PROCESSION_TEST_NEW").env("PATH", "/elsewhere").env("OTHER", "1");
        let found = as_fresh(call).await;
        assert!(!found.variables.contains_key("PROCESSION_TEST_NEW".as_ref() as &std::ffi::OsStr));
        assert_eq!(found.variables["PATH".as_ref() as &std::ffi::OsStr], "/elsewhere");
        let found = as_fresh(|| looks_around().env_clear()).await;
        assert_eq!(found.variables, Variables::new());
        let found = as_fresh(|| looks_around().env_clear().env("A", "b")).await;
        assert_eq!(found.variables, Variables::from([("A".into(), "b".into())]));
    }

    /// Nothing that many calls at once say gets mixed up.
    #[threads(2)]
    #[once]
    async fn many_calls_at_once() {
        set_variable("PROCESSION_TEST_WORD", Some("here".into()));
        let one = async |n: u32| {
            let call = looks_around().umask(n);
            let call = if n.is_multiple_of(3) { call } else { call.env("PROCESSION_TEST_WORD", n.to_string()) };
            let found = call.await.unwrap();
            let expected = if n.is_multiple_of(3) { "here".to_owned() } else { n.to_string() };
            assert_eq!(found.variables["PROCESSION_TEST_WORD".as_ref() as &std::ffi::OsStr].to_str(), Some(&*expected));
            assert_eq!(found.status["Umask"], format!("{n:04o}"));
        };
        join_all((0..100).map(one)).await;
    }

    /// Where the parent went, also where nobody can go by a path any more.
    #[once]
    async fn directories() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        std::env::set_current_dir(&path).unwrap();
        assert_eq!(as_fresh(looks_around).await.directory.as_deref(), Some(&*path));
        assert_eq!(as_fresh(|| looks_around().current_dir("/proc")).await.directory, Some("/proc".into()));
        fs::create_dir("below").unwrap();
        assert_eq!(as_fresh(|| looks_around().current_dir("below")).await.directory, Some(path.join("below")));
        drop(directory);
        assert_eq!(as_fresh(looks_around).await.directory, None);
        std::env::set_current_dir("/").unwrap();
        assert_eq!(as_fresh(looks_around).await.directory, Some("/".into()));
    }

    /// Umask and limits that the parent has given itself; what a call says comes on top.
    #[once]
    async fn masks_and_limits() {
        let mask = umask(Mode::from_raw_mode(0o35));
        let files = getrlimit(rustix::process::Resource::Nofile);
        setrlimit(rustix::process::Resource::Nofile, Rlimit { current: Some(200), ..files }).unwrap();
        let core = Rlimit { current: Some(0), maximum: Some(4096) };
        setrlimit(rustix::process::Resource::Core, core).unwrap();
        let found = as_fresh(looks_around).await;
        assert_eq!((found.status["Umask"].as_str(), found.limits), ("0035", find().limits));
        let call = || looks_around().umask(0o2).rlimit(Resource::OpenFiles, 100, 150).rlimit(Resource::Core, 1, 2);
        assert_eq!(as_fresh(call).await.status["Umask"], "0002");
        // More than the server was started with, too.
        setrlimit(rustix::process::Resource::Nofile, files).unwrap();
        assert_eq!(as_fresh(looks_around).await.limits, find().limits);
        umask(mask);
    }

    /// Nicer than it was when its server was started. Each thread has its own: it is that of the one that starts children.
    #[once]
    async fn niceness() {
        setpriority_process(Some(control_thread()), 4).unwrap();
        assert_eq!(as_fresh(looks_around).await.nice, 4);
        assert_eq!(as_fresh(|| looks_around().nice(3)).await.nice, 7);
    }

    /// How readily the kernel ends it where memory is short: what it was when the server started, as `StartMethod` says.
    #[once]
    async fn reluctance() {
        let before = looks_around().await.unwrap().reluctance;
        fs::write("/proc/self/oom_score_adj", "77").unwrap();
        assert_eq!(looks_around().await.unwrap().reluctance, before);
        assert_eq!(looks_around().start_method(StartMethod::Spawn).await.unwrap().reluctance, "77\n");
    }

    /// The parent's output is where it is now, not where it was.
    #[once]
    async fn streams_that_were_redirected() {
        let directory = tempfile::tempdir().unwrap();
        let (out, err) = (directory.path().join("out"), directory.path().join("err"));
        let (old_out, old_err) = (rustix::io::dup(rustix::stdio::stdout()).unwrap(), rustix::io::dup(rustix::stdio::stderr()).unwrap());
        rustix::stdio::dup2_stdout(fs::File::create(&out).unwrap()).unwrap();
        rustix::stdio::dup2_stderr(fs::File::create(&err).unwrap()).unwrap();
        let spoken = speaks().await;
        let other = speaks().stdout(Stdio::null()).await;
        let found = as_fresh(|| looks_around().stdin(Stdio::inherit())).await;
        rustix::stdio::dup2_stdout(old_out).unwrap();
        rustix::stdio::dup2_stderr(old_err).unwrap();
        spoken.and(other).unwrap();
        assert_eq!(fs::read_to_string(&out).unwrap(), "out\n");
        assert_eq!(fs::read_to_string(&err).unwrap(), "err\nerr\n");
        assert_eq!(found.streams, ["/dev/null", out.to_str().unwrap(), err.to_str().unwrap()]);
    }

    /// Input that the parent has now, that it has given up, and that a call gives.
    #[once]
    async fn input() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"from the parent").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        rustix::stdio::dup2_stdin(&file).unwrap();
        assert_eq!(reads().await.unwrap(), "");
        assert_eq!(reads().stdin(Stdio::inherit()).await.unwrap(), "from the parent");
        drop(file);
        let null = fs::File::open("/dev/null").unwrap();
        rustix::stdio::dup2_stdin(null).unwrap();
    }

    /// A parent that has closed its streams starts children all the same, which have some that lead nowhere.
    #[once]
    async fn streams_that_were_closed() {
        let found = has_closed_streams().await.unwrap();
        assert!(found.iter().all(|it| it == "/dev/null"), "{found:?}");
    }

    /// Processors that may be used are fixed when a server is started: another takes its place, and the former one leaves
    /// when its last child has.
    #[once]
    async fn affinity() {
        let all = sched_getaffinity(None).unwrap();
        let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu)).filter(|_| all.count() > 1) else {
            assert!(std::env::var_os("PROCESSION_NO_SKIP").is_none(), "there is no second processor here");
            return;
        };
        let former = servers();
        let mut child = waits_for_a_word().spawn().await.unwrap();
        let mut one = CpuSet::new();
        one.set(last);
        sched_setaffinity(Some(control_thread()), &one).unwrap();
        let found = as_fresh(looks_around).await;
        assert_eq!(u128::from_str_radix(&found.status["Cpus_allowed"].replace(',', ""), 16).unwrap(), 1 << last);
        assert_eq!(servers().len(), 2);
        assert_eq!(as_fresh(looks_around).await, found);
        assert_eq!(servers().len(), 2);
        child.stop(std::time::Duration::from_secs(3600)).await.unwrap();
        assert_eq!(child.join().await.unwrap(), 7);
        eventually(std::time::Duration::from_secs(30), || servers().len() == 1);
        assert_ne!(servers(), former);
        sched_setaffinity(Some(control_thread()), &all).unwrap();
        assert_eq!(as_fresh(looks_around).await.status["Cpus_allowed"], find().status["Cpus_allowed"]);
    }
}

#[process]
async fn waits_for_a_word() -> u8 {
    procession::current().stopping().await;
    7
}

/// Closes its streams after its server was started, and gives those of its children.
#[process]
async fn has_closed_streams() -> Vec<String> {
    looks_around().await.unwrap();
    (0..3).for_each(|fd| nix::unistd::close(fd).unwrap());
    // Whatever is opened next has their numbers: it must not be taken for one of them.
    let mut found = looks_around().await.unwrap().streams;
    found.extend(looks_around().stdin(Stdio::inherit()).await.unwrap().streams);
    found
}

/// What the children of one who gives up being root find, before and after. The server that root had goes.
#[process]
async fn gives_up_root(id: u32) -> Result<(Found, Found), procession::ProcessError> {
    let before = looks_around().start_method(StartMethod::ForkServer).await?;
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[group]).unwrap();
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    let after = looks_around().start_method(StartMethod::ForkServer).await?;
    eventually(std::time::Duration::from_secs(30), || servers().len() == 1);
    Ok((before, after))
}

fn needing_root<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F) -> Result<(), NotPassed> {
    needing("root's rights", is_root(), || Isolated::new(module_path!(), name).run_async(body))
}

#[test]
fn credentials() -> Result<(), NotPassed> {
    needing_root("credentials", async || {
        let given_up = gives_up_root(65534).start_method(StartMethod::Spawn).await.unwrap();
        let (before, after) = given_up.unwrap();
        assert_eq!(before.status["Uid"], "0\t0\t0\t0");
        assert_eq!(after.status["Uid"], "65534\t65534\t65534\t65534");
        assert_eq!(after.status["Gid"], "65534\t65534\t65534\t65534");
        assert_eq!(
            (after.status["Groups"].as_str(), after.status["CapEff"].as_str()),
            ("65534", "0000000000000000")
        );
    })
}

/// Gives all of this machine that a program needs a second name, under a root that has nothing else.
fn make_root(place: &Path) {
    // No other process is to see it.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    for name in ["bin", "dev", "lib", "lib64", "proc", "usr"] {
        let (here, there) = (Path::new("/").join(name), place.join(name));
        match fs::read_link(&here) {
            Ok(target) => std::os::unix::fs::symlink(target, there).unwrap(),
            Err(_) if here.is_dir() => {
                fs::create_dir(&there).unwrap();
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(Some(&here), &there, None::<&str>, flags, None::<&str>).unwrap();
            }
            Err(_) => {}
        }
    }
}

/// What the children of one who goes to another root find, before and after.
#[process]
async fn goes_to_another_root(place: PathBuf) -> (Found, Found) {
    make_root(&place);
    let before = as_fresh(looks_around).await;
    chroot(&place).unwrap();
    std::env::set_current_dir("/").unwrap();
    let after = as_fresh(looks_around).await;
    eventually(std::time::Duration::from_secs(30), || servers().len() == 1);
    (before, after)
}

/// A parent that shuts itself in has no children outside.
#[test]
fn root() -> Result<(), NotPassed> {
    needing_root("root", async || {
        let place = tempfile::tempdir().unwrap();
        let call = goes_to_another_root(place.path().into()).start_method(StartMethod::Spawn);
        let (before, after) = call.await.unwrap();
        assert_eq!(before.root, identity_of("/"));
        assert_eq!(after.root, identity_of(place.path()));
    })
}

type Change = fn() -> rustix::io::Result<()>;

/// What the control thread is to change of itself.
static CHANGE: Mutex<Option<Change>> = Mutex::new(None);

/// Does so when it traces a line: a thread can change no capabilities but its own, and there no other code of ours runs.
struct Changes;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Changes {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target() != "procession::output" {
            return;
        }
        assert_eq!(std::thread::current().name(), Some("procession"));
        if let Some(change) = CHANGE.lock().unwrap().take() {
            change().unwrap();
        }
    }
}

async fn change(change: Change) {
    CHANGE.lock().unwrap().replace(change);
    speaks().stdout(Stdio::traced()).stderr(Stdio::null()).await.unwrap();
    assert!(CHANGE.lock().unwrap().is_none());
}

/// What the children of one find that loses a capability, and then lets them have another by inheritance.
#[process]
async fn changes_capabilities() -> [Found; 4] {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Changes)).unwrap();
    let before = as_fresh(looks_around).await;
    change(|| remove_capability_from_bounding_set(CapabilitySet::NET_RAW)).await;
    let bounded = as_fresh(looks_around).await;
    change(|| {
        let mut sets = capabilities(None)?;
        sets.inheritable |= CapabilitySet::SYS_CHROOT;
        set_capabilities(None, sets)
    })
    .await;
    let inheriting = as_fresh(looks_around).await;
    change(|| configure_capability_in_ambient_set(CapabilitySet::SYS_CHROOT, true)).await;
    [before, bounded, inheriting, as_fresh(looks_around).await]
}

/// Capabilities that the thread which starts children loses, or has its children inherit.
#[test]
fn capability_sets() -> Result<(), NotPassed> {
    needing_root("capability_sets", async || {
        let found = changes_capabilities().start_method(StartMethod::Spawn).await.unwrap();
        let has = |field: &str, capability| {
            let set = |it: &Found| {
                CapabilitySet::from_bits_retain(u64::from_str_radix(&it.status[field], 16).unwrap())
            };
            found.each_ref().map(|it| set(it).contains(capability))
        };
        assert_eq!(has("CapBnd", CapabilitySet::NET_RAW), [true, false, false, false]);
        assert_eq!(has("CapEff", CapabilitySet::NET_RAW), [true, false, false, false]);
        assert_eq!(has("CapInh", CapabilitySet::SYS_CHROOT), [false, false, true, true]);
        assert_eq!(has("CapAmb", CapabilitySet::SYS_CHROOT), [false, false, false, true]);
    })
}
