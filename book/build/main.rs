//! Builds the guide into `target/book`: `cargo run -p procession-book`. No installed mdBook is needed.

use std::path::Path;

use mdbook_driver::MDBook;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut book = MDBook::load(root)?;
    book.config.build.build_dir = root.join("../target/book");
    book.build()?;
    Ok(())
}
