#[procession::main(threads = 4, crate = "procession")]
unsafe fn main<T>(arguments: Vec<String>) {}

mod not_main {
    #[procession::main]
    async fn start() {}
}

mod two_runtimes {
    #[procession::main]
    #[tokio::main]
    async fn main() {}
}

mod not_a_function {
    #[procession::main]
    struct Main;
}
