//! An async `main` with a result, arguments read by `?`, and its own attributes.

#![deny(warnings)]

/// Docs.
#[procession::main]
#[allow(clippy::needless_return, reason = "it is the statement that is tried")]
async fn main() -> Result<(), std::num::ParseIntError> {
    #![allow(unused_mut, reason = "it is the attribute that is tried")]
    let mut one: u8 = "1".parse()?;
    tokio::task::yield_now().await;
    let also_one = tokio::spawn(async move { one }).await;
    assert_eq!(also_one.ok(), Some(1));
    return Ok(());
}
