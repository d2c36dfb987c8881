use procession::process;

#[process]
const fn constant() {}

#[process]
async unsafe fn dangerous() {}

#[process]
pub unsafe extern "C" fn foreign(format: u8, arguments: ...) {}

fn main() {
    drop(constant());
    drop(dangerous());
    drop(foreign(1));
}
