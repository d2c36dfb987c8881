//! Every shape of function that `#[process]` accepts, run in a child process.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::marker::PhantomData;

use procession::{Call, Message, process};
use procession_tests::isolated;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

/// The process that runs the function.
fn here() -> u32 {
    std::process::id()
}

#[process]
async fn asynchronous(n: u64) -> (u64, u32) {
    tokio::task::yield_now().await;
    (n + 1, here())
}

#[process]
fn plain(n: u64) -> (u64, u32) {
    (n + 1, here())
}

isolated! {
    async fn async_and_plain_functions_run_elsewhere() {
        let (n, pid) = asynchronous(1).await.unwrap();
        assert_eq!(n, 2);
        assert_ne!(pid, here());
        let (n, pid) = plain(2).await.unwrap();
        assert_eq!(n, 3);
        assert_ne!(pid, here());
    }
}

#[process]
async fn nothing() {}

#[process]
fn plain_nothing() {}

#[process]
async fn unit(value: ()) -> () {
    value
}

isolated! {
    async fn without_arguments_and_results() {
        nothing().await.unwrap();
        plain_nothing().await.unwrap();
        unit(()).await.unwrap();
    }
}

#[process]
async fn destructured(
    (a, b): (u32, u32),
    Point { x, y }: Point,
    _: u8,
    mut text: String,
    [first, .., last]: [i8; 3],
    whole @ Point { x: left, .. }: Point,
) -> (u32, i32, String, i8, i32, Point) {
    text.push('!');
    (a * b, x - y, text, first + last, left, whole)
}

isolated! {
    async fn patterns_as_parameters() {
        let point = Point { x: 9, y: 4 };
        let result = destructured((6, 7), point, 0, "hey".to_owned(), [1, 2, 3], point).await.unwrap();
        assert_eq!(result, (42, 5, "hey!".to_owned(), 4, 9, point));
    }
}

#[process]
async fn names_that_the_macro_uses(encoder: u8, decoder: u8, argument_1: u8, _: u8) -> u8 {
    encoder + decoder + argument_1
}

#[process]
fn r#match(r#type: u8, r#fn: u8) -> u8 {
    r#type + r#fn
}

isolated! {
    async fn names() {
        assert_eq!(names_that_the_macro_uses(1, 2, 3, 100).await.unwrap(), 6);
        assert_eq!(r#match(1, 2).await.unwrap(), 3);
    }
}

#[process]
async fn sum<T>(values: Vec<T>) -> T
where
    T: Message + std::iter::Sum<T>,
{
    values.into_iter().sum()
}

#[process]
fn repeat<T: Message + Copy, const N: usize>(value: T) -> Vec<T> {
    vec![value; N]
}

#[process]
async fn from_nothing<T: Message + Default, U: Message>(_phantom: PhantomData<U>) -> T {
    T::default()
}

#[process]
async fn boxed<T: ?Sized + ToString + 'static>(value: Box<T>) -> String
where
    Box<T>: Message,
{
    value.to_string()
}

isolated! {
    async fn generic_functions() {
        assert_eq!(sum(vec![1_u8, 2, 3]).await.unwrap(), 6);
        assert_eq!(sum(vec![0.5_f64, 1.0]).await.unwrap(), 1.5);
        assert_eq!(repeat::<_, 3>('x').await.unwrap(), ['x', 'x', 'x']);
        assert_eq!(repeat::<_, 0>(1_u8).await.unwrap(), [0; 0]);
        assert_eq!(from_nothing::<String, u8>(PhantomData).await.unwrap(), "");
        assert_eq!(boxed::<str>("text".into()).await.unwrap(), "text");
    }
}

#[process]
#[expect(clippy::too_many_arguments, reason = "the test is about it")]
async fn thirteen(
    a: u8,
    b: u16,
    c: u32,
    d: u64,
    e: i8,
    f: i16,
    g: i32,
    h: i64,
    i: f32,
    j: f64,
    k: bool,
    l: char,
    m: String,
) -> String {
    format!("{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}")
}

isolated! {
    async fn more_arguments_than_tuples_have_traits_for() {
        let text = thirteen(1, 2, 3, 4, 5, 6, 7, 8, 9.5, 0.5, true, 'x', "end".to_owned()).await.unwrap();
        assert_eq!(text, "123456789.50.5truexend");
    }
}

#[process]
async fn fails_by_question_mark(text: String) -> Result<i32, String> {
    let n: i32 = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    Ok(n)
}

#[process]
fn looks_up(map: BTreeMap<String, u8>, key: String) -> Option<u8> {
    let value = map.get(&key)?;
    Some(*value)
}

isolated! {
    async fn the_question_mark_returns_from_the_function() {
        assert_eq!(fails_by_question_mark("17".to_owned()).await.unwrap(), Ok(17));
        assert!(fails_by_question_mark("x".to_owned()).await.unwrap().is_err());
        let map = BTreeMap::from([("a".to_owned(), 1)]);
        assert_eq!(looks_up(map.clone(), "a".to_owned()).await.unwrap(), Some(1));
        assert_eq!(looks_up(map, "b".to_owned()).await.unwrap(), None);
    }
}

#[process]
async fn generations(n: u32) -> Vec<u32> {
    let mut pids = if n == 0 { Vec::new() } else { generations(n - 1).await.unwrap() };
    pids.push(here());
    pids
}

isolated! {
    async fn recursion_makes_calls() {
        let mut pids = generations(2).await.unwrap();
        pids.push(here());
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), 4);
    }
}

mod inner {
    use procession::process;

    #[process]
    pub(super) async fn in_a_module(n: u8) -> u8 {
        n + 1
    }

    pub(super) mod deeper {
        #[procession::process]
        pub(in crate::inner) fn restricted(n: u8) -> u8 {
            n + 2
        }
    }

    #[process]
    pub(crate) async fn caller(n: u8) -> u8 {
        deeper::restricted(n).await.unwrap()
    }
}

struct Named;

impl Named {
    #[process]
    async fn associated(n: u8) -> u8 {
        n + 3
    }
}

macro_rules! process_functions {
    ($($name:ident($argument:ident: $ty:ty) $body:block)*) => {
        $(#[process] async fn $name($argument: $ty) -> $ty $body)*
    };
}

process_functions! {
    doubled(n: u32) { n * 2 }
    tripled(n: u32) { n * 3 }
}

isolated! {
    async fn functions_in_other_places() {
        #[process]
        async fn in_a_function(n: u8) -> u8 {
            #[process]
            fn in_a_process(n: u8) -> u8 {
                n + 1
            }
            in_a_process(n).await.unwrap() + 1
        }

        assert_eq!(in_a_function(1).await.unwrap(), 3);
        assert_eq!(inner::in_a_module(1).await.unwrap(), 2);
        assert_eq!(inner::caller(1).await.unwrap(), 3);
        assert_eq!(Named::associated(1).await.unwrap(), 4);
        assert_eq!(doubled(1).await.unwrap() + tripled(1).await.unwrap(), 5);
    }
}

isolated! {
    async fn two_functions_of_one_name_in_one_function() {
        let first = {
            #[process]
            fn same() -> u8 {
                1
            }
            same()
        };
        let second = {
            #[process]
            fn same() -> u8 {
                2
            }
            same()
        };
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
    }
}

#[process(threads = 3, name = "crowd")]
async fn crowd() -> usize {
    tokio::runtime::Handle::current().metrics().num_workers()
}

#[process]
async fn alone() -> usize {
    tokio::runtime::Handle::current().metrics().num_workers()
}

isolated! {
    async fn the_option_threads_sizes_the_runtime() {
        assert_eq!(crowd().await.unwrap(), 3);
        assert_eq!(alone().await.unwrap(), 1);
    }
}

mod elsewhere {
    pub(crate) use procession as renamed;
}

#[process(crate = elsewhere::renamed)]
async fn by_another_path(n: u8) -> u8 {
    n
}

isolated! {
    async fn the_option_crate_says_where_procession_is() {
        assert_eq!(by_another_path(7).await.unwrap(), 7);
    }
}

#[process]
async fn never_fails(n: u8) -> Result<u8, Never> {
    Ok(n)
}

#[derive(Debug, Serialize, Deserialize)]
enum Never {}

impl From<Infallible> for Never {
    fn from(infallible: Infallible) -> Self {
        match infallible {}
    }
}

#[process]
fn shared_text(text: std::borrow::Cow<'static, str>) -> std::borrow::Cow<'static, str> {
    text
}

isolated! {
    async fn types_that_are_unusual_but_travel() {
        assert_eq!(never_fails(1).await.unwrap().unwrap(), 1);
        assert_eq!(shared_text("borrowed".into()).await.unwrap(), "borrowed");
    }
}

#[test]
fn a_call_is_an_ordinary_value() {
    fn made<T: Message>(call: impl Fn(u64) -> Call<T>) -> Call<T> {
        call(1)
    }
    drop(made(asynchronous));
    drop(made(plain));
}
