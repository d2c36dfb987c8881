use procession::process;

#[process]
#[process]
async fn twice() {}

#[process]
#[tokio::main]
async fn main_too() {}

#[process]
#[test]
fn test_too() {}

#[process]
fn conditional(#[cfg(unix)] n: u8, #[cfg_attr(unix, allow(unused))] m: u8) {}

fn main() {
    drop(twice());
    drop(main_too());
    drop(conditional(1, 2));
}
