use procession::process;

struct Counter(u64);

impl Counter {
    #[process]
    async fn by_value(self) -> u64 {
        self.0
    }

    #[process]
    fn by_reference(&self, n: u64) -> u64 {
        self.0 + n
    }

    #[process]
    async fn by_mutable_reference(&mut self) -> Self {
        self.0 += 1;
    }
}

fn main() {
    let mut counter = Counter(1);
    drop(counter.by_reference(1));
    drop(counter.by_mutable_reference());
    drop(counter.by_value());
}
