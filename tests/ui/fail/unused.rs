#![deny(warnings)]

use procession::process;

#[process]
async fn called(unused: u8, mut n: u8) -> u8 {
    n
}

fn main() {
    called(1, 2);
}
