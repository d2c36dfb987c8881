//! What the macros say of what they do not accept. What they accept without a warning are the programs in `pass`, each a
//! test of its own: where all cases are to fail, trybuild checks what they need instead of building it, and looks at all of them at once.

#[test]
fn macros() {
    trybuild::TestCases::new().compile_fail("fail/*.rs");
}

/// A file of which no target knows would never be built.
#[test]
fn all_that_are_to_pass_are_tests() {
    let manifest = include_str!("Cargo.toml");
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/pass")).expect("they are here") {
        let name = file.expect("it is here").file_name().into_string().expect("a plain name");
        assert!(manifest.contains(&format!("path = \"pass/{name}\"\nharness = false")), "{name}");
    }
}
