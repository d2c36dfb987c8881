//! Telling a stack overflow from any other bad access.
//!
//! The standard library does this in what runs before `main`, which a child never comes to. A thread that has
//! no stack left cannot run a handler on it: each thread needs an alternate stack, see `sigaltstack(2)`.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use crate::boot::Entered;

/// The handler needs little; the kernel says what it needs itself for the saved registers.
const HANDLER_STACK: usize = 32 << 10;

/// How far from the stack pointer a bad access still is one of the stack: compilers touch every page as a
/// stack grows, so that the first page beyond is the one that faults.
const NEAR: usize = 64 << 10;

/// Has the two signals of a bad access tell overflows from others, for threads that have been guarded. Before `main` a
/// handler that is there is the program's own, from a constructor, and stays; in `main` it is the standard library's.
///
/// # Errors
/// Those of `sigaction(2)`.
pub(crate) fn catch_overflows(entered: Entered) -> io::Result<()> {
    guard_thread();
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        if entered == Entered::InMain || is_default(signal)? {
            install(signal)?;
        }
    }
    Ok(())
}

fn is_default(signal: c_int) -> io::Result<bool> {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one.
    if unsafe { libc::sigaction(signal, ptr::null(), present.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has written it; all zeros would be a valid one, too.
    Ok(unsafe { present.assume_init() }.sa_sigaction == libc::SIG_DFL)
}

fn install(signal: c_int) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let fields = action.as_mut_ptr();
    // SAFETY: all zeros is a valid `sigaction`, and the pointer is to one.
    unsafe { (*fields).sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK };
    // SAFETY: as above.
    unsafe { (*fields).sa_sigaction = on_fault as *const () as usize };
    // SAFETY: the handler is async-signal-safe: it does arithmetic, and makes system calls that are.
    if unsafe { libc::sigaction(signal, fields, ptr::null_mut()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

thread_local! {
    static ALTERNATE: RefCell<Option<AlternateStack>> = const { RefCell::new(None) };
    /// An address near the top of this thread's stack: what lies above it is not the guard below.
    static TOP: Cell<usize> = const { Cell::new(0) };
}

/// Gives this thread a stack for the handler, until it ends, unless it has one. Without memory for it, an overflow is
/// a plain SIGSEGV.
pub(crate) fn guard_thread() {
    let here = 0_u8;
    TOP.set((&raw const here) as usize);
    ALTERNATE.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = AlternateStack::install();
        }
    });
}

/// A stack that the kernel switches to for handlers that ask for it.
struct AlternateStack {
    memory: Vec<u8>,
}

impl AlternateStack {
    fn install() -> Option<Self> {
        let mut present = MaybeUninit::<libc::stack_t>::zeroed();
        // SAFETY: without a new stack the call only writes the present one.
        if unsafe { libc::sigaltstack(ptr::null(), present.as_mut_ptr()) } == -1 {
            return None;
        }
        // SAFETY: the call has written it.
        if unsafe { present.assume_init() }.ss_flags & libc::SS_DISABLE == 0 {
            return None;
        }
        // SAFETY: the call only reads what the kernel left for this process.
        let kernel = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
        let size = HANDLER_STACK + usize::try_from(kernel).unwrap_or(0);
        let mut memory: Vec<u8> = Vec::new();
        memory.try_reserve_exact(size).ok()?;
        let stack =
            libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.capacity() };
        // SAFETY: the memory lives until `drop`, which takes it away from the kernel first.
        let code = unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
        (code == 0).then_some(Self { memory })
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        let off = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: this thread gives its alternate stack up, and is not on it: destructors run on its own.
        if unsafe { libc::sigaltstack(&raw const off, ptr::null_mut()) } == -1 {
            // The kernel may still use it.
            std::mem::take(&mut self.memory).leak();
        }
    }
}

/// Says that the stack has overflowed, if it has, and lets the process end with the signal, and the core dump, that it
/// would have had: the access happens again, or, if the signal was sent by somebody, it is sent again.
///
/// # Safety
/// To be called by the kernel alone.
unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes valid pointers to a handler that was installed with `SA_SIGINFO`.
    let info = unsafe { &*info };
    // SAFETY: restoring the default for this signal is allowed in a handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    if info.si_code <= 0 {
        // SAFETY: raising is allowed in a handler; the signal comes when the handler returns.
        unsafe { libc::raise(signal) };
        return;
    }
    // SAFETY: what the kernel sends of these two signals carries the address.
    let address = unsafe { info.si_addr() } as usize;
    // SAFETY: as above.
    let stack_pointer = unsafe { stack_pointer(context.cast()) };
    // What lies above the stack is not below it: that is a bad access like others.
    if address < TOP.get() && stack_pointer.is_some_and(|pointer| pointer.abs_diff(address) < NEAR) {
        crate::link::report_overflow();
    }
}

/// # Safety
/// `context` must be what the kernel gave a handler.
#[cfg(target_arch = "x86_64")]
unsafe fn stack_pointer(context: *const libc::ucontext_t) -> Option<usize> {
    let registers = libc::REG_RSP as usize;
    // SAFETY: the caller vouches for the context.
    let context = unsafe { &*context };
    Some(context.uc_mcontext.gregs[registers].cast_unsigned() as usize)
}

/// # Safety
/// `context` must be what the kernel gave a handler.
#[cfg(target_arch = "aarch64")]
unsafe fn stack_pointer(context: *const libc::ucontext_t) -> Option<usize> {
    // SAFETY: the caller vouches for the context.
    usize::try_from(unsafe { &*context }.uc_mcontext.sp).ok()
}

/// On other machines an overflow is a plain SIGSEGV.
///
/// # Safety
/// None to keep.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn stack_pointer(_context: *const libc::ucontext_t) -> Option<usize> {
    None
}
