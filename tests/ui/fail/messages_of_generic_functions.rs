use procession::process;

#[process]
async fn unbounded<T>(value: T) {
    drop(value);
}

#[process]
async fn bounded<T: Clone>(value: T) -> T {
    value.clone()
}

#[process]
fn by_where_clause<T>() -> T
where
    T: Default,
{
    T::default()
}

fn main() {
    drop((unbounded(1), bounded(2), by_where_clause::<u8>()));
}
