//! Both directions together: what is written is read back, and both agree with postcard.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use proptest::collection::{btree_map, hash_map, hash_set, vec, vec_deque};
use proptest::option;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Decoder, Encoder, Limits, decode, encode};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newtype(i64);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pair(u16, Newtype);

/// All four kinds of variant, and recursion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Newtype(u32),
    Tuple(i32, String),
    Struct { left: Option<Box<Self>>, right: Vec<Self> },
}

/// Fields that are always skipped are no concern of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    unsigned: (u8, u16, u32, u64, u128, usize),
    signed: (i8, i16, i32, i64, i128, isize),
    #[serde(skip)]
    skipped: u32,
    truth: bool,
    letter: char,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Texts {
    string: String,
    bytes: ByteBuf,
    path: PathBuf,
    os: OsString,
    boxed: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Collections {
    nested: Option<Option<Option<u8>>>,
    lists: Vec<Vec<u16>>,
    units: VecDeque<()>,
    sorted: BTreeMap<String, Tree>,
    hashed: HashMap<i32, (bool, char)>,
    set: HashSet<Option<Unit>>,
    array: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Everything {
    unit: (),
    marker: Unit,
    pair: Pair,
    numbers: Numbers,
    texts: Texts,
    collections: Collections,
    trees: Vec<Tree>,
    result: Result<Duration, IpAddr>,
    address: SocketAddr,
    range: RangeInclusive<u8>,
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Unit),
        any::<u32>().prop_map(Tree::Newtype),
        (any::<i32>(), text()).prop_map(|(number, text)| Tree::Tuple(number, text)),
    ];
    leaf.prop_recursive(6, 32, 4, |inner| {
        (option::of(inner.clone()), vec(inner, 0..4))
            .prop_map(|(left, right)| Tree::Struct { left: left.map(Box::new), right })
    })
}

prop_compose! {
    fn numbers()(
        // Shifted, so that numbers of every length come up.
        unsigned in (any::<u8>(), any::<u16>(), any::<u32>(), any::<u64>(), any::<u128>(), any::<usize>()),
        signed in (any::<i8>(), any::<i16>(), any::<i32>(), any::<i64>(), any::<i128>(), any::<isize>()),
        by in 0_u32..128,
        truth: bool,
        letter: char,
    ) -> Numbers {
        let (a, b, c, d, e, f) = unsigned;
        let (g, h, i, j, k, l) = signed;
        Numbers {
            unsigned: (a, b >> (by % 16), c >> (by % 32), d >> (by % 64), e >> by, f >> (by % 64)),
            signed: (g, h >> (by % 16), i >> (by % 32), j >> (by % 64), k >> by, l >> (by % 64)),
            skipped: 0,
            truth,
            letter,
        }
    }
}

prop_compose! {
    fn texts()(string in text(), bytes in vec(any::<u8>(), 0..40), os in vec(any::<u8>(), 0..9)) -> Texts {
        Texts {
            boxed: string.as_str().into(),
            path: PathBuf::from(string.clone()),
            string,
            bytes: ByteBuf::from(bytes),
            os: OsString::from_vec(os),
        }
    }
}

prop_compose! {
    fn collections()(
        nested in option::of(option::of(option::of(any::<u8>()))),
        lists in vec(vec(any::<u16>(), 0..5), 0..5),
        units in vec_deque(Just(()), 0..300),
        sorted in btree_map(text(), tree(), 0..4),
        hashed in hash_map(any::<i32>(), (any::<bool>(), any::<char>()), 0..4),
        set in hash_set(option::of(Just(Unit)), 0..=2),
        array in any::<[u8; 32]>(),
    ) -> Collections {
        Collections { nested, lists, units, sorted, hashed, set, array }
    }
}

prop_compose! {
    fn everything()(
        pair in (any::<u16>(), any::<i64>()),
        numbers in numbers(),
        texts in texts(),
        collections in collections(),
        trees in vec(tree(), 0..3),
        result: Result<Duration, IpAddr>,
        // serde does not send the scope of a v6 address.
        address: (IpAddr, u16),
        range in (any::<u8>(), any::<u8>()),
    ) -> Everything {
        Everything {
            unit: (),
            marker: Unit,
            pair: Pair(pair.0, Newtype(pair.1)),
            numbers, texts, collections, trees, result,
            address: address.into(),
            range: range.0..=range.1,
        }
    }
}

/// Reads `bytes` with both decoders, which must agree, and returns ours.
///
/// After a refusal for a limit there is nothing to compare; after any other, postcard cannot have run away,
/// because it reads the same things in the same order.
fn both<T: DeserializeOwned + Serialize + Debug>(bytes: &[u8]) -> Option<T> {
    let ours = decode::<T>(bytes, &Limits::DEFAULT);
    if ours.as_ref().is_err_and(|error| error.reason().contains("raise `Limits::")) {
        return None;
    }
    let theirs = postcard::take_from_bytes::<T>(bytes).ok().filter(|(_, rest)| rest.is_empty());
    match (ours, theirs) {
        (Ok(ours), Some((theirs, _))) => {
            // As text, for the sake of NaN; the sets and maps of these types have at most one order.
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
            Some(ours)
        }
        (Err(_), None) => None,
        (ours, theirs) => panic!("{bytes:02x?}: ours is {ours:?}, postcard's is {theirs:?}"),
    }
}

/// Types that random bytes stand a chance to be.
fn both_for_all(bytes: &[u8]) {
    both::<(u16, u32, u64)>(bytes);
    both::<(i16, i32, i64)>(bytes);
    both::<(u128, i128)>(bytes);
    both::<(bool, char, Option<u8>)>(bytes);
    both::<(f32, f64)>(bytes);
    both::<Vec<()>>(bytes);
    both::<Vec<Vec<u16>>>(bytes);
    both::<Vec<(String, ByteBuf)>>(bytes);
    both::<Vec<Tree>>(bytes);
    both::<BTreeMap<u8, Option<Result<String, char>>>>(bytes);
    both::<(OsString, IpAddr, Duration)>(bytes);
}

proptest! {
    #[test]
    fn everything_comes_back(value in everything()) {
        let bytes = encode(&value, u64::MAX).unwrap();
        prop_assert_eq!(decode::<Everything>(&bytes, &Limits::DEFAULT).unwrap(), value);
    }

    #[test]
    fn the_bytes_are_those_of_postcard(value in everything()) {
        prop_assert_eq!(encode(&value, u64::MAX).unwrap(), postcard::to_stdvec(&value).unwrap());
    }

    #[test]
    fn floats_keep_every_bit(single: u32, double: u64) {
        let bytes = encode(&(f32::from_bits(single), f64::from_bits(double)), u64::MAX).unwrap();
        let (f, d): (f32, f64) = decode(&bytes, &Limits::DEFAULT).unwrap();
        prop_assert_eq!((f.to_bits(), d.to_bits()), (single, double));
    }

    #[test]
    fn arguments_are_a_tuple(a in tree(), b in text(), c: Option<u64>) {
        let mut encoder = Encoder::arguments();
        encoder.argument("a", &a);
        encoder.argument("b", &b);
        encoder.argument("c", &c);
        let bytes = encoder.into_arguments().unwrap().packet().bytes;
        prop_assert_eq!(&bytes, &postcard::to_stdvec(&(&a, &b, &c)).unwrap());
        let mut decoder = Decoder::new(&bytes, Limits::DEFAULT);
        prop_assert_eq!(decoder.argument::<Tree>("a").unwrap(), a);
        prop_assert_eq!(decoder.argument::<String>("b").unwrap(), b);
        prop_assert_eq!(decoder.argument::<Option<u64>>("c").unwrap(), c);
        decoder.finish().unwrap();
    }

    #[test]
    fn a_damaged_message_is_read_as_postcard_reads_it(
        value in everything(), at: prop::sample::Index, damage: u8, cut: prop::sample::Index,
    ) {
        let mut bytes = encode(&value, u64::MAX).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= damage;
        if let Some(read) = both::<Sorted>(&bytes) {
            prop_assert_eq!(encode(&read, u64::MAX).unwrap(), postcard::to_stdvec(&read).unwrap());
        }
        bytes.truncate(cut.index(bytes.len()));
        both::<Sorted>(&bytes);
    }

    #[test]
    fn random_bytes_are_read_as_postcard_reads_them(bytes in vec(any::<u8>(), 0..24)) {
        both_for_all(&bytes);
    }

    #[test]
    fn small_bytes_are_read_as_postcard_reads_them(bytes in vec(0_u8..4, 0..32)) {
        both_for_all(&bytes);
    }

    #[test]
    fn varints_are_read_as_postcard_reads_them(head in vec(0x80_u8..=0xff, 0..20), last in 0_u8..0x80) {
        let bytes: Vec<u8> = head.into_iter().chain([last]).collect();
        both::<u16>(&bytes);
        both::<u32>(&bytes);
        both::<u64>(&bytes);
        both::<u128>(&bytes);
        both::<i128>(&bytes);
        both::<usize>(&bytes);
    }
}

/// [`Everything`] with the hashed collections in an order.
#[derive(Debug, Serialize, Deserialize)]
struct Sorted {
    unit: (),
    marker: Unit,
    pair: Pair,
    numbers: Numbers,
    texts: Texts,
    nested: Option<Option<Option<u8>>>,
    lists: Vec<Vec<u16>>,
    units: VecDeque<()>,
    sorted: BTreeMap<String, Tree>,
    hashed: BTreeMap<i32, (bool, char)>,
    set: Vec<Option<Unit>>,
    array: [u8; 32],
    trees: Vec<Tree>,
    result: Result<Duration, IpAddr>,
    address: SocketAddr,
    range: RangeInclusive<u8>,
}

#[test]
fn the_extremes_come_back() {
    fn back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        let bytes = encode(&value, u64::MAX).unwrap();
        assert_eq!(bytes, postcard::to_stdvec(&value).unwrap());
        assert_eq!(decode::<T>(&bytes, &Limits::DEFAULT).unwrap(), value);
    }
    back((u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    back((i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    back((i16::MAX, i32::MAX, i64::MAX, i128::MAX, isize::MAX));
    back((f64::INFINITY, f64::NEG_INFINITY, -0.0_f64, f32::MIN_POSITIVE));
    back(('\0', char::MAX, String::new(), "\u{10ffff}".to_owned()));
    back(vec![(); 1 << 19]);
    back(ByteBuf::from(vec![7; 1 << 20]));
}
