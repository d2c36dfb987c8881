//! Arbitrary bytes through the decoder: no panic, no memory beyond the limits, and the same values as postcard.
//!
//! The first byte of an input chooses the type and the limits; the rest is the message.

#![no_main]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::Debug;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use libfuzzer_sys::{Corpus, fuzz_target};
use procession::__private::{decode, encode};
use procession::Limits;
use procession_fuzz::Meter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[global_allocator]
static METER: Meter = Meter::new();

/// Recursion through everything that can contain.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Newtype(Box<Self>),
    Tuple(u8, Option<Box<Self>>),
    Struct { name: String, children: Vec<Self> },
    Map(BTreeMap<i16, Self>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Vec<Unit>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Numbers {
    unsigned: (u8, u16, u32, u64, u128, usize),
    signed: (i8, i16, i32, i64, i128, isize),
    truth: bool,
    letter: char,
    array: [u16; 5],
}

/// Equal if every bit is.
#[derive(Debug, Serialize, Deserialize)]
struct Floats(f32, f64);

impl PartialEq for Floats {
    fn eq(&self, other: &Self) -> bool {
        (self.0.to_bits(), self.1.to_bits()) == (other.0.to_bits(), other.1.to_bits())
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Texts {
    string: String,
    bytes: ByteBuf,
    path: PathBuf,
    os: OsString,
    result: Result<Duration, IpAddr>,
}

impl Tree {
    /// How deep it stands, counting no container but its own kind.
    fn depth(&self) -> u32 {
        1 + match self {
            Self::Unit | Self::Tuple(_, None) => 0,
            Self::Newtype(child) | Self::Tuple(_, Some(child)) => child.depth(),
            Self::Struct { children, .. } => children.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(children) => children.values().map(Self::depth).max().unwrap_or(0),
        }
    }
}

/// What the limits of an input are.
struct Bounds {
    depth: u32,
    /// `None` is the documented default.
    heap: Option<usize>,
}

impl Bounds {
    fn limits(&self) -> Limits {
        let limits = Limits::DEFAULT.max_depth(self.depth);
        match self.heap {
            Some(heap) => limits.max_heap(heap as u64),
            None => limits,
        }
    }

    fn heap_for(&self, length: usize) -> usize {
        self.heap.unwrap_or_else(|| length.saturating_mul(32).max(1 << 20))
    }
}

/// Small ones, so that short inputs reach them, and those of every program.
const BOUNDS: [Bounds; 4] = [
    Bounds { depth: 128, heap: None },
    Bounds { depth: 128, heap: Some(64) },
    Bounds { depth: 3, heap: None },
    Bounds { depth: 8, heap: Some(1000) },
];

/// How much more than its budget a message may take: a map of one entry has room for eleven, a `Vec` that
/// grows has twice its length, and what a `Box` holds is not charged.
const OVERHEAD: usize = 16;

/// What serde's collections reserve before the first element is read and charged; and the text of an error.
const AHEAD: usize = (1 << 20) + 8192;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], bounds: &Bounds) -> Option<T> {
    let (ours, peak) = METER.peak_of(|| decode::<T>(bytes, &bounds.limits()));
    assert!(peak <= OVERHEAD * bounds.heap_for(bytes.len()) + AHEAD, "{peak} bytes of memory");
    if ours.as_ref().is_err_and(|error| error.reason().contains("raise `Limits::")) {
        return None;
    }
    // postcard knows no limits. It reads the same things in the same order, so that it comes no further than
    // we did, or there is a difference to find.
    let theirs = postcard::take_from_bytes::<T>(bytes).ok().filter(|(_, rest)| rest.is_empty());
    let value = match (ours, theirs) {
        (Ok(ours), Some((theirs, _))) if ours == theirs => ours,
        (Err(_), None) => return None,
        (ours, theirs) => panic!("ours is {ours:?}, postcard's is {theirs:?}"),
    };
    let again = encode(&value, u64::MAX).expect("what was read can be written");
    assert_eq!(decode::<T>(&again, &Limits::DEFAULT).expect("what was written can be read"), value);
    Some(value)
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&choice, bytes)) = input.split_first() else { return Corpus::Reject };
    let bounds = &BOUNDS[usize::from(choice % 4)];
    match choice / 4 % 8 {
        0 => {
            let tree = check::<Tree>(bytes, bounds);
            assert!(tree.is_none_or(|tree| tree.depth() <= bounds.depth));
        }
        1 => drop(check::<Numbers>(bytes, bounds)),
        2 => drop(check::<Vec<Floats>>(bytes, bounds)),
        3 => drop(check::<Vec<Texts>>(bytes, bounds)),
        4 => drop(check::<BTreeMap<Option<u32>, Vec<Option<i64>>>>(bytes, bounds)),
        5 => drop(check::<HashMap<String, (char, Newtype)>>(bytes, bounds)),
        6 => drop(check::<Vec<Vec<Vec<()>>>>(bytes, bounds)),
        _ => drop(check::<Vec<Option<[u128; 8]>>>(bytes, bounds)),
    }
    Corpus::Keep
});
