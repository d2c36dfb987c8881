//! A library that a program in C loads.

use procession::process;

#[process]
fn double(n: u64) -> u64 {
    n * 2
}

/// Prints why a library that another program has loaded cannot start children.
#[expect(unsafe_code, reason = "it is called from C, by this name")]
#[expect(clippy::print_stdout, reason = "a test looks at it")]
// Sound, because nothing else in this library or its program has this name.
#[unsafe(no_mangle)]
pub extern "C" fn procession_in_a_library() {
    match double(1).blocking() {
        Ok(value) => println!("a child of a foreign program has run: {value}"),
        Err(error) => println!("{error}"),
    }
}
