//! Stories that run, one in each file beside this one: `cargo run --example NAME`.
