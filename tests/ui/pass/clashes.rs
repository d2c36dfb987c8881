//! Names of the user's that stand in no way of the macro's.

#![deny(warnings)]
#![no_implicit_prelude]
#![allow(non_camel_case_types, dead_code, reason = "the names alone are of use")]

mod core {}
mod std {}

type usize = ();
type Result = u8;

struct Call;
struct Encoder;
trait Function {}
trait Future {}

#[::procession::process]
async fn shadowed(encoder: u64, decoder: u64, argument_1: u64, (a, _): (u8, u8), r#type: Result) -> u64 {
    let _: usize = ();
    encoder
        + decoder
        + argument_1
        + <u64 as ::core::convert::From<u8>>::from(a)
        + <u64 as ::core::convert::From<u8>>::from(r#type)
}

#[::procession::process]
fn plain(result: u8) -> Result {
    result
}

impl Function for Call {}
impl Future for Encoder {}

fn main() {
    let _: fn(_, _, _, _, _) -> _ = shadowed;
    let _: fn(_) -> _ = plain;
    let (Call, Encoder) = (Call, Encoder);
}
