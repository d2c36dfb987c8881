//! `posix_spawn`: a new process without a copy of the old one.

use std::ffi::{CStr, CString, c_char, c_int, c_short};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

/// Where a child finds its link to the parent.
pub(crate) const LINK_FD: RawFd = 3;
/// Where a child finds the pipe that ends it with its parent.
pub(crate) const LIFELINE_FD: RawFd = 4;
/// The first descriptor that a child does not inherit.
const FIRST_CLOSED: RawFd = 5;

// glibc has this since 2.34. Rust has no stable way to say "weak"; the assembler has. Where it is missing the address
// is zero.
std::arch::global_asm!(
    ".weak posix_spawn_file_actions_addclosefrom_np",
    ".pushsection .data.rel.ro.procession, \"aw\"",
    ".balign 8",
    ".globl procession_0_1_addclosefrom",
    ".hidden procession_0_1_addclosefrom",
    "procession_0_1_addclosefrom:",
    ".8byte posix_spawn_file_actions_addclosefrom_np",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "procession_0_1_addclosefrom"]
    safe static ADDCLOSEFROM: usize;
}

/// Whether a child starts without its parent's descriptors, or has to close them itself.
pub(super) fn closes_descriptors() -> bool {
    ADDCLOSEFROM != 0
}

/// Zero is success; anything else is the error itself, not `errno`.
fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// `posix_spawn_file_actions_t`, destroyed when dropped.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: it succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn dup2(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised; descriptors are numbers here.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }

    /// Closes everything from `fd` on, if the C library can; before the new program's libraries are loaded, so
    /// that nothing of theirs is closed.
    fn close_from(&mut self, fd: RawFd) -> io::Result<()> {
        type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;
        if !closes_descriptors() {
            return Ok(());
        }
        // SAFETY: this is the function of that name, whose type glibc gives.
        let close_from = unsafe { std::mem::transmute::<usize, CloseFrom>(ADDCLOSEFROM) };
        // SAFETY: the actions are initialised.
        check(unsafe { close_from(&raw mut self.0, fd) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// `posix_spawnattr_t`, destroyed when dropped.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: it succeeded.
        Ok(Self(unsafe { attributes.assume_init() }))
    }

    /// A process group of its own, no signal blocked, every disposition the default: nothing of what the
    /// parent has done to its signals reaches the child.
    fn fresh_signals_and_group(&mut self) -> io::Result<()> {
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = c_short::try_from(flags).map_err(io::Error::other)?;
        // SAFETY: the attributes are initialised.
        check(unsafe { libc::posix_spawnattr_setflags(&raw mut self.0, flags) })?;
        // SAFETY: as above; group 0 stands for the child's own.
        check(unsafe { libc::posix_spawnattr_setpgroup(&raw mut self.0, 0) })?;
        // SAFETY: as above; the set is read by the call.
        check(unsafe { libc::posix_spawnattr_setsigmask(&raw mut self.0, &raw const *signals(false)) })?;
        // SAFETY: as above.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut self.0, &raw const *signals(true)) })
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and not used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// The set of all signals, or of none.
fn signals(all: bool) -> Box<libc::sigset_t> {
    let mut set = Box::new(MaybeUninit::uninit());
    let fill = if all { libc::sigfillset } else { libc::sigemptyset };
    // SAFETY: either call initialises the whole set, and cannot fail on a valid pointer.
    unsafe { fill(set.as_mut_ptr()) };
    // SAFETY: see above.
    unsafe { set.assume_init() }
}

/// Starts `program` with these descriptors at these numbers, the parent's standard streams where none is given, and
/// nothing else open. See `posix_spawn(3)`.
///
/// # Errors
/// Those of `clone(2)` and `execve(2)`.
pub(crate) fn spawn(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    descriptors: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<Pid> {
    let copies: Vec<(OwnedFd, RawFd)> = descriptors
        .iter()
        .map(|(fd, number)| Ok((out_of_the_way(*fd)?, *number)))
        .collect::<io::Result<_>>()?;
    let mut actions = Actions::new()?;
    for (copy, number) in &copies {
        actions.dup2(copy.as_raw_fd(), *number)?;
    }
    actions.close_from(FIRST_CLOSED)?;
    let mut attributes = Attributes::new()?;
    attributes.fresh_signals_and_group()?;
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let mut pid = 0;
    // SAFETY: all pointers are to live, initialised values, and both arrays end with a null.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    })?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("the system gave a new process the id 0"))
}

/// A copy beyond the numbers that the actions write to, so that none of them overwrites the source of another.
fn out_of_the_way(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, FIRST_CLOSED)?)
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}
