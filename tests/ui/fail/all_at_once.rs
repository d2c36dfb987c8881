use procession::process;

#[process(threads = 0, color = "red")]
unsafe fn everything<'a>(name: &'a str, value: impl Copy) -> ! {}

fn main() {
    drop(everything("name", 1));
}
