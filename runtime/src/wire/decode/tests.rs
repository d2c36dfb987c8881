//! Bytes that a faulty or hostile sender may send.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{DecodeError, Decoder, decode};
use crate::wire::{Limits, Message, encode};

/// 2^64 - 1 as a varint.
const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Chain {
    End,
    Link(Box<Self>),
    Named { next: Box<Self> },
    Pair(u8, Box<Self>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nested(Option<Box<Self>>);

/// A type without an end, of which no byte is ever read.
#[derive(Debug, Serialize, Deserialize)]
struct Endless(Box<Self>);

#[derive(Debug, Serialize, Deserialize)]
struct EndlessFields {
    inner: Box<Self>,
}

fn reason<T: Message + fmt::Debug>(bytes: &[u8]) -> String {
    reason_within::<T>(bytes, Limits::DEFAULT)
}

fn reason_within<T: Message + fmt::Debug>(bytes: &[u8], limits: Limits) -> String {
    let error = decode::<T>(bytes, &limits).unwrap_err();
    assert_eq!(error.type_name(), std::any::type_name::<T>());
    error.reason().to_owned()
}

fn assert_too_deep<T: Message + fmt::Debug>(bytes: &[u8]) {
    let reason = reason::<T>(bytes);
    assert!(reason.starts_with("it stands more than 128 levels deep"), "{reason}");
    assert!(reason.contains("`Limits::max_depth`"), "{reason}");
}

fn assert_too_large<T: Message + fmt::Debug>(bytes: &[u8]) {
    let reason = reason::<T>(bytes);
    assert!(reason.starts_with("reading it would take more than 1048576 bytes of memory"), "{reason}");
    assert!(reason.contains("`Limits::max_heap`"), "{reason}");
}

fn assert_malformed<T: Message + fmt::Debug>(bytes: &[u8], expected: &str) {
    let reason = reason::<T>(bytes);
    assert!(reason.starts_with(expected), "{bytes:02x?}: {reason}");
    assert!(reason.contains("`skip_serializing`"), "{reason}");
}

#[test]
fn options_nested_a_million_deep() {
    assert_too_deep::<Nested>(&vec![1; 1 << 20]);
    assert_too_deep::<Option<Box<Nested>>>(&vec![1; 1 << 20]);
}

#[test]
fn enums_nested_a_million_deep() {
    for variant in [1, 2] {
        assert_too_deep::<Chain>(&vec![variant; 1 << 20]);
    }
    assert_too_deep::<Chain>(&[3, 0].repeat(1 << 20));
}

#[test]
fn sequences_and_maps_nested_a_million_deep() {
    #[derive(Debug, Serialize, Deserialize)]
    struct List(Vec<Self>);
    #[derive(Debug, Serialize, Deserialize)]
    struct Map(BTreeMap<u8, Self>);
    assert_too_deep::<List>(&vec![1; 1 << 20]);
    assert_too_deep::<Map>(&vec![1; 1 << 20]);
}

#[test]
fn types_without_an_end() {
    assert_too_deep::<Endless>(&[]);
    assert_too_deep::<EndlessFields>(&[]);
}

/// Each container is a level, and `Box` is none.
#[test]
fn the_depth_is_exact() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fields {
        field: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Tuple(u8, u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New(u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    fn levels<T: Message + fmt::Debug + PartialEq>(value: T, levels: u32) {
        let bytes = encode(&value, u64::MAX).unwrap();
        assert_eq!(decode::<T>(&bytes, &Limits::DEFAULT.max_depth(levels)).unwrap(), value);
        if let Some(fewer) = levels.checked_sub(1) {
            let reason = reason_within::<T>(&bytes, Limits::DEFAULT.max_depth(fewer));
            assert!(reason.contains(&format!("more than {fewer} levels")), "{reason}");
        }
    }
    levels((), 0);
    levels(Unit, 0);
    levels(Box::new(7_u8), 0);
    levels(None::<u8>, 0);
    levels(Some(7_u8), 1);
    levels(New(7), 1);
    levels(Tuple(7, 7), 1);
    levels(Fields { field: 7 }, 1);
    levels((7_u8,), 1);
    levels([7_u8; 4], 1);
    levels(vec![7_u8], 1);
    levels(BTreeMap::from([(7_u8, 7_u8)]), 1);
    levels(Ok::<u8, u8>(7), 1);
    levels(Chain::End, 1);
    levels(Chain::Named { next: Box::new(Chain::Pair(7, Box::new(Chain::Link(Box::new(Chain::End))))) }, 4);
    // A level is given back when its container ends.
    levels([Some(Some(7_u8)); 9], 3);
    levels([7_u8; 9].map(|number| (New(number), Fields { field: number })), 3);
}

#[test]
fn the_depth_is_given_back_between_arguments() {
    let mut decoder = Decoder::new(&[1, 7, 1, 7], Limits::DEFAULT.max_depth(1));
    assert_eq!(decoder.argument::<Option<u8>>("a").unwrap(), Some(7));
    assert_eq!(decoder.argument::<Option<u8>>("b").unwrap(), Some(7));
    decoder.finish().unwrap();
}

#[test]
fn ten_bytes_that_declare_all_there_could_be() {
    assert_too_large::<Vec<u8>>(&HUGE);
    assert_too_large::<Vec<()>>(&HUGE);
    assert_too_large::<Vec<Vec<Vec<u64>>>>(&HUGE);
    assert_too_large::<HashMap<u64, u64>>(&HUGE);
    assert_too_large::<HashMap<(), ()>>(&HUGE);
    assert_too_large::<BTreeMap<(), ()>>(&HUGE);
    assert_too_large::<HashSet<()>>(&HUGE);
    assert_malformed::<String>(&HUGE, "the bytes end early");
    assert_malformed::<ByteBuf>(&HUGE, "the bytes end early");
    let mut many = vec![3];
    many.extend(HUGE.repeat(3));
    assert_too_large::<Vec<Vec<()>>>(&many);
}

/// Small numbers of large elements: the product counts, also where it overflows.
#[test]
fn elements_are_charged_with_their_size() {
    type Large = [[u64; 32]; 32];
    let bytes = encode(&vec![0_u64; 200_000], u64::MAX).unwrap();
    let limits = Limits::DEFAULT.max_heap(1_600_000);
    decode::<Vec<u64>>(&bytes, &limits).unwrap();
    let reason = reason_within::<Vec<u64>>(&bytes, limits.max_heap(1_599_999));
    assert!(reason.contains("more than 1599999 bytes"), "{reason}");
    assert_too_large::<Vec<Large>>(&[129, 1]);
    assert_too_large::<HashMap<(), Large>>(&[129, 1]);
    assert_too_large::<Vec<Large>>(&[0x80, 0x80, 0x40]);
    // 2^62 elements of 17 bytes, of which one has been charged: 2^66.
    let many = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
    assert!(reason_within::<Vec<[u8; 17]>>(&many, Limits::DEFAULT.max_heap(u64::MAX)).contains("memory"));
}

#[test]
fn elements_without_bytes_are_charged() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Blank {
        #[serde(skip)]
        ballast: [u64; 4],
    }
    let exact = |count: u64| Limits::DEFAULT.max_heap(count);
    assert_eq!(decode::<Vec<()>>(&[100], &exact(100)).unwrap().len(), 100);
    assert!(reason_within::<Vec<()>>(&[100], exact(99)).contains("memory"));
    assert_eq!(decode::<Vec<Blank>>(&[100], &exact(3200)).unwrap().len(), 100);
    assert!(reason_within::<Vec<Blank>>(&[100], exact(3199)).contains("memory"));
    decode::<BTreeMap<(), ()>>(&[100], &exact(100)).unwrap();
    assert!(reason_within::<BTreeMap<(), ()>>(&[100], exact(99)).contains("memory"));
}

#[test]
fn strings_and_bytes_are_charged_with_their_length() {
    let bytes = encode(&"x".repeat(1000), 2000).unwrap();
    let exact = Limits::DEFAULT.max_heap(1000);
    decode::<String>(&bytes, &exact).unwrap();
    decode::<ByteBuf>(&bytes, &exact).unwrap();
    assert!(reason_within::<String>(&bytes, exact.max_heap(999)).contains("memory"));
    assert!(reason_within::<ByteBuf>(&bytes, exact.max_heap(999)).contains("memory"));
}

#[test]
fn keys_and_values_are_charged_with_their_sizes() {
    let map: BTreeMap<u32, u64> = (0..100).map(|key| (key, 0)).collect();
    let bytes = encode(&map, 2000).unwrap();
    let exact = Limits::DEFAULT.max_heap(1200);
    assert_eq!(decode::<BTreeMap<u32, u64>>(&bytes, &exact).unwrap(), map);
    assert!(reason_within::<BTreeMap<u32, u64>>(&bytes, exact.max_heap(1199)).contains("memory"));
    let same_key = [vec![100], vec![7; 100]].concat();
    decode::<BTreeMap<(), u8>>(&same_key, &exact.max_heap(200)).unwrap();
    assert!(reason_within::<BTreeMap<(), u8>>(&same_key, exact.max_heap(199)).contains("memory"));
}

/// All arguments together have one budget.
#[test]
fn arguments_share_their_memory() {
    let mut decoder = Decoder::new(&[10, 10], Limits::DEFAULT.max_heap(19));
    assert_eq!(decoder.argument::<Vec<()>>("a").unwrap().len(), 10);
    let error = decoder.argument::<Vec<()>>("b").unwrap_err();
    assert!(error.reason().contains("memory"), "{error}");
}

/// Elements of a growing size are charged with the largest from where it comes up.
#[test]
fn elements_of_several_types_are_charged() {
    #[derive(Debug)]
    struct Mixed;
    impl Serialize for Mixed {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
    impl<'de> Deserialize<'de> for Mixed {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct MixedVisitor;
            impl<'de> Visitor<'de> for MixedVisitor {
                type Value = Mixed;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a number and a string")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Mixed, A::Error> {
                    elements.next_element::<u8>()?;
                    elements.next_element::<[u8; 9]>()?;
                    elements.next_element::<u8>()?;
                    Ok(Mixed)
                }
            }
            deserializer.deserialize_seq(MixedVisitor)
        }
    }
    let bytes = [3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0];
    decode::<Mixed>(&bytes, &Limits::DEFAULT.max_heap(19)).unwrap();
    assert!(reason_within::<Mixed>(&bytes, Limits::DEFAULT.max_heap(18)).contains("memory"));
}

#[test]
fn nothing_is_reserved_for_elements_that_cannot_come() {
    /// Reserves whatever it is told.
    #[derive(Debug, PartialEq)]
    struct Trusting(Option<usize>);
    impl Serialize for Trusting {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
    impl<'de> Deserialize<'de> for Trusting {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct HintVisitor;
            impl<'de> Visitor<'de> for HintVisitor {
                type Value = Trusting;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Trusting, A::Error> {
                    let hint = elements.size_hint();
                    while elements.next_element::<()>()?.is_some() {}
                    Ok(Trusting(hint))
                }
            }
            deserializer.deserialize_seq(HintVisitor)
        }
    }
    assert_eq!(decode(&[0xff, 0x7f], &Limits::DEFAULT), Ok(Trusting(Some(0))));
    let mut decoder = Decoder::new(&[2, 0, 0, 0], Limits::DEFAULT);
    assert_eq!(decoder.argument("a"), Ok(Trusting(Some(2))));
}

#[test]
fn bytes_left_over() {
    assert_malformed::<u8>(&[1, 2], "bytes left over: 1");
    assert_malformed::<()>(&[0; 9], "bytes left over: 9");
    let mut decoder = Decoder::new(&[1, 2], Limits::DEFAULT);
    decoder.argument::<u8>("a").unwrap();
    let error = decoder.finish().unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read argument `a` of type `u8`: bytes left over: 1;"),
        "{error}"
    );
    let error = Decoder::new(&[1, 2], Limits::DEFAULT).finish().unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read a value of type `()`: bytes left over: 2;"),
        "{error}"
    );
}

#[test]
fn a_message_cut_anywhere() {
    type Value = (u64, i128, f32, f64, char, String, ByteBuf, Vec<Option<u16>>, BTreeMap<u8, Chain>, [u8; 3]);
    let chain = Chain::Named { next: Box::new(Chain::End) };
    let value: Value = (
        u64::MAX,
        i128::MIN,
        1.5,
        2.5,
        '€',
        "text".to_owned(),
        ByteBuf::from(vec![1, 2]),
        vec![None, Some(300)],
        BTreeMap::from([(1, chain)]),
        [1, 2, 3],
    );
    let bytes = encode(&value, u64::MAX).unwrap();
    assert_eq!(decode::<Value>(&bytes, &Limits::DEFAULT).unwrap(), value);
    for cut in 0..bytes.len() {
        assert_malformed::<Value>(&bytes[..cut], "the bytes end early");
    }
}

#[test]
fn varints_that_are_too_long_or_too_large() {
    fn refused<T: Message + fmt::Debug>(length: usize, max_of_last: u8) {
        let mut bytes = vec![0xff; length - 1];
        bytes.push(max_of_last);
        decode::<T>(&bytes, &Limits::DEFAULT).unwrap();
        bytes[length - 1] = max_of_last + 1;
        assert_malformed::<T>(&bytes, "a number or length is too large for its type");
        bytes[length - 1] = 0x80;
        bytes.push(0);
        assert_malformed::<T>(&bytes, "a number or length is too large for its type");
    }
    refused::<u16>(3, 0x03);
    refused::<i16>(3, 0x03);
    refused::<u32>(5, 0x0f);
    refused::<i32>(5, 0x0f);
    refused::<u64>(10, 0x01);
    refused::<i64>(10, 0x01);
    refused::<usize>(10, 0x01);
    refused::<u128>(19, 0x03);
    refused::<i128>(19, 0x03);
}

#[test]
fn values_that_do_not_exist() {
    assert_malformed::<bool>(&[2], "a bool is 2, not 0 or 1");
    assert_malformed::<Option<u8>>(&[3, 0], "the tag of an `Option` is 3, not 0 or 1");
    assert_malformed::<String>(&[2, 0xc3, 0x28], "a string is not UTF-8");
    assert_malformed::<char>(&[5, 0x61, 0x61, 0x61, 0x61, 0x61], "a `char` is not a character");
    assert_malformed::<char>(&[0], "a `char` is not a character");
    assert_malformed::<char>(&[3, 0xed, 0xa0, 0x80], "a `char` is not a character");
    assert_malformed::<char>(&[2, 0xc3, 0x28], "a `char` is not a character");
    assert_eq!(decode::<Chain>(&[0x80, 0], &Limits::DEFAULT), Ok(Chain::End));
    assert_malformed::<Chain>(
        &[0xff, 0xff, 0xff, 0xff, 0x1f],
        "a number or length is too large for its type",
    );
    let reason = reason::<Chain>(&[4]);
    assert_eq!(reason, "invalid value: integer `4`, expected variant index 0 <= i < 4");
}

#[test]
fn types_that_ask_the_bytes_what_they_are() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Internal {
        Number { number: u8 },
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "kind", content = "of")]
    enum Adjacent {
        Number(u8),
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        inner: BTreeMap<String, u8>,
    }
    /// The last, a key of an unknown name.
    #[derive(Debug, Serialize)]
    struct Named;
    impl<'de> Deserialize<'de> for Named {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_identifier(IgnoredAny).map(|_ignored| Self)
        }
    }
    /// What follows is not known, and cannot be skipped.
    #[derive(Debug, Serialize)]
    struct Ignored;
    impl<'de> Deserialize<'de> for Ignored {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_ignored_any(IgnoredAny).map(|_ignored| Self)
        }
    }
    let number = encode(&Untagged::Number(7), 9).unwrap();
    let internal = encode(&Internal::Number { number: 7 }, 99).unwrap();
    let adjacent = encode(&Adjacent::Number(7), 9).unwrap();
    let reasons = [
        reason::<Untagged>(&number),
        reason::<Internal>(&internal),
        reason::<Adjacent>(&adjacent),
        reason::<Flat>(&[1, 1, 0x61, 7]),
        reason::<Named>(&[0]),
        reason::<Ignored>(&[0]),
    ];
    for reason in reasons {
        assert!(reason.starts_with("it asks the bytes what they hold"), "{reason}");
        assert!(reason.contains("send it as a JSON string, or use an externally tagged enum"), "{reason}");
    }
}

#[test]
fn an_error_of_the_type_itself_is_cut() {
    #[derive(Debug, Serialize)]
    struct Picky;
    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(serde::de::Error::custom(format_args!("no such thing as {text}")))
        }
    }
    let bytes = encode(&"x".repeat(1 << 20), 2 << 20).unwrap();
    let reason = reason::<Picky>(&bytes);
    assert!(reason.starts_with("no such thing as xxx") && reason.len() < 2000, "{reason}");
}

#[test]
fn strings_are_borrowed() {
    struct Lent;
    impl<'de> Visitor<'de> for Lent {
        type Value = usize;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("what lives as long as the message")
        }
        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<usize, E> {
            Ok(text.as_ptr().addr())
        }
        fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<usize, E> {
            Ok(bytes.as_ptr().addr())
        }
    }
    let bytes = [1, 0x61].repeat(4);
    let mut decoder = Decoder::new(&bytes, Limits::DEFAULT);
    let at = |index: usize| bytes[index..].as_ptr().addr();
    assert_eq!(decoder.reader.deserialize_str(Lent).unwrap(), at(1));
    assert_eq!(decoder.reader.deserialize_string(Lent).unwrap(), at(3));
    assert_eq!(decoder.reader.deserialize_bytes(Lent).unwrap(), at(5));
    assert_eq!(decoder.reader.deserialize_byte_buf(Lent).unwrap(), at(7));
}

#[test]
fn errors_name_the_argument_and_travel() {
    let mut decoder = Decoder::new(&[1, 2], Limits::DEFAULT);
    decoder.argument::<u8>("first").unwrap();
    let error = decoder.argument::<bool>("second").unwrap_err();
    assert_eq!(error.argument(), Some("second"));
    assert_eq!(error.type_name(), "bool");
    assert!(
        error.to_string().starts_with("cannot read argument `second` of type `bool`: a bool is 2"),
        "{error}"
    );
    let bytes = encode(&error, u64::MAX).unwrap();
    assert_eq!(decode::<DecodeError>(&bytes, &Limits::DEFAULT).unwrap(), error);
    let error = decode::<bool>(&[2], &Limits::DEFAULT).unwrap_err();
    assert_eq!(error.argument(), None);
    assert!(error.to_string().starts_with("cannot read a value of type `bool`: "), "{error}");
}
