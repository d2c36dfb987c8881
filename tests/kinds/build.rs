//! Compiles the C++ part.

fn main() {
    println!("cargo::rerun-if-changed=src/greeting.cpp");
    cc::Build::new().cpp(true).file("src/greeting.cpp").compile("greeting");
}
