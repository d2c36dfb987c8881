//! Taking over before `main`: a constructor that the C library calls at every start of the program.
//!
//! In an ordinary start it compares one string. In a child, told by its second argument, it never returns.

use std::ffi::{CStr, c_char, c_int};

// The end of this image's constructors. Only executables have the symbol, and Rust has no stable way to say "weak";
// the assembler has. Where it is missing the address is zero.
std::arch::global_asm!(
    ".weak __init_array_end",
    ".hidden __init_array_end",
    ".pushsection .data.rel.ro.procession, \"aw\"",
    ".balign 8",
    ".globl procession_0_1_init_array_end",
    ".hidden procession_0_1_init_array_end",
    "procession_0_1_init_array_end:",
    ".8byte __init_array_end",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "procession_0_1_init_array_end"]
    safe static INIT_ARRAY_END: usize;
}

type Constructor = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char);

// Sound, because glibc calls what stands in this section with (argc, argv, envp): the signature of `on_start`.
#[unsafe(link_section = ".init_array")]
#[used]
static HOOK: Constructor = on_start;

/// # Safety
/// `argv` must be the program's argument vector, ended by a null.
unsafe extern "C" fn on_start(argc: c_int, argv: *mut *mut c_char, envp: *mut *mut c_char) {
    // SAFETY: the C library passes the program's own argument vector.
    if unsafe { take_marker(argc, argv) } {
        // SAFETY: as above; the constructors after this one have not run yet.
        crate::boot::take_over(crate::boot::Entered::BeforeMain, || unsafe {
            run_other_constructors(argc, argv, envp)
        });
    }
    super::guard::arm();
}

/// Whether this is a child; if so, takes the marker out of the arguments, so that `std::env::args` shows the
/// parent's. The standard library stops at the null that this leaves at the end, as GTK and Qt do it too.
///
/// # Safety
/// `argv` must be the program's argument vector, ended by a null.
unsafe fn take_marker(argc: c_int, argv: *mut *mut c_char) -> bool {
    let Some(count) = usize::try_from(argc).ok().filter(|count| *count >= 2 && !argv.is_null()) else {
        return false;
    };
    // SAFETY: the vector has `argc` strings and a null behind them, and nobody else has a reference to it now.
    let arguments = unsafe { std::slice::from_raw_parts_mut(argv, count + 1) };
    // SAFETY: each of the first `argc` elements is a C string.
    let is_child = !arguments[1].is_null() && unsafe { CStr::from_ptr(arguments[1]) } == super::guard::MARKER;
    if is_child {
        arguments.copy_within(2.., 1);
    }
    is_child
}

/// Runs the constructors that stand after ours: those of statically linked C++, for example.
///
/// # Safety
/// They must not have run yet, and the arguments must be those that the C library gave.
unsafe fn run_other_constructors(argc: c_int, argv: *mut *mut c_char, envp: *mut *mut c_char) {
    // The optimiser knows that `HOOK` is one pointer, and that nothing can stand behind it: fat LTO removed this
    // loop. An address that has gone through `asm!` is one that it knows nothing of.
    let mut ours = (&raw const HOOK) as usize;
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) ours, options(nomem, nostack, preserves_flags)) };
    for address in (ours..INIT_ARRAY_END).step_by(size_of::<Constructor>()).skip(1) {
        let element = std::ptr::with_exposed_provenance::<usize>(address);
        // SAFETY: the linker lays this section out as one array of pointers, from ours to the end that it gave. An
        // element may be null, or -1 in old tool chains, neither of which is a function.
        let function = unsafe { element.read() };
        if function != 0 && function != usize::MAX {
            // SAFETY: it is a function of this type.
            let constructor = unsafe { element.cast::<Constructor>().read() };
            // SAFETY: it is called once, in its order, with the arguments that the C library would give it.
            unsafe { constructor(argc, argv, envp) };
        }
    }
}
