use procession::process;

#[process]
struct Counter;

#[process]
impl Counter {
    pub fn new() -> Self {
        Counter
    }
}

#[process]
pub trait Counts {
    #[process]
    fn count(n: u64) -> u64;
}

#[process]
const LIMIT: u64 = 1;

fn main() {
    Counter::new();
}
