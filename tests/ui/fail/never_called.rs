#![deny(dead_code)]

use procession::process;

#[process]
async fn never_called(n: u8) -> u8 {
    n
}

#[process]
fn called_by_itself() {
    drop(called_by_itself());
}

fn main() {}
