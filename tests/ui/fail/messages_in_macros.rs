use procession::process;

struct Image;

macro_rules! process_function {
    ($name:ident, $argument:ty, $result:ty) => {
        #[process]
        async fn $name(argument: $argument) -> $result {
            argument
        }
    };
}

process_function!(one_by_one, Vec<Image>, Vec<Image>);
process_function!(borrowed, &str, &str);

fn main() {
    drop(one_by_one(Vec::new()));
    drop(borrowed("text"));
}
