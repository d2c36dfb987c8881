use procession::process;

struct Borrowing<'a>(&'a str);

#[process]
async fn arguments(name: &str, list: &mut [u8], path: Option<&std::path::Path>, text: &'static str) {}

#[process]
fn results(list: Vec<u8>) -> Result<&[u8], &String> {}

#[process]
async fn parameters<'a, 'b: 'a>(one: Borrowing<'a>, two: Borrowing<'_>) -> Borrowing<'b> {}

fn main() {
    let text = String::from("text");
    drop(arguments(&text, &mut [], None, "text"));
    drop(results(Vec::new()));
    drop(parameters(Borrowing(&text), Borrowing(&text)));
}
