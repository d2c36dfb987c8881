use std::fmt::Display;

use procession::process;

#[process]
async fn hidden(value: impl Display, list: Vec<Box<dyn Display>>, of: *const u8) -> impl Display {}

#[process]
async fn inferred(value: _, (a, b): (u8, _)) -> Vec<_> {}

#[process]
fn without_size(text: str, list: [u8], object: dyn Display) -> [String] {}

#[process]
async fn own(value: Self, inner: Vec<Self>, item: Self::Item) -> Self {}

#[process]
async fn forever() -> ! {}

fn main() {
    drop(hidden("text", Vec::new(), std::ptr::null()));
    drop(inferred(1, (1, 2)));
    drop(own(1, 2, 3));
    drop(forever());
}
