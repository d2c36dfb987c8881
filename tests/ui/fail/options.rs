use procession::process;

#[process(threads = 0)]
async fn no_threads() {}

#[process(threads = -1, name = "")]
async fn negative_threads() {}

#[process(threads = "4", name = b"bytes")]
async fn text_as_threads() {}

#[process(threads = 4u8)]
async fn narrow_threads() {}

#[process(threads = 99999999999999999999999)]
async fn too_many_threads() {}

#[process(threads)]
async fn no_value() {}

#[process(threads = 1 + 1)]
async fn not_a_literal() {}

#[process(name = "a\0b", crate = "procession")]
async fn quoted_path() {}

#[process(name = "a", threads = 2, name = "b")]
async fn repeated() {}

#[process(stack = 1 << 20, thread = 2, "text")]
async fn unknown() {}

#[process(threads = 2)]
fn plain() {}

fn main() {
    drop((no_threads(), negative_threads(), text_as_threads(), narrow_threads(), too_many_threads()));
    drop((no_value(), not_a_literal(), quoted_path(), repeated(), unknown(), plain()));
}
