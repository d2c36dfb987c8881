use procession::process;

#[process]
async fn mismatched(n: u64) -> u64 {
    n.to_string()
}

#[process]
fn unknown_name() -> u64 {
    m
}

#[process]
async fn call_of_itself(n: u64) -> u64 {
    call_of_itself(n) + 1
}

fn main() {
    let wrong: procession::Call<u64> = mismatched("text");
    drop(wrong);
}
