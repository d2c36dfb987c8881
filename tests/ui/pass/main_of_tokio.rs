//! tokio's attribute above ours: `init` runs before its runtime starts.

#![deny(warnings)]

#[tokio::main]
#[procession::main(crate = ::procession)]
async fn main() {}
