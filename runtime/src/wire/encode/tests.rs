//! What the encoder refuses, and how it says so.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::{EncodeError, Encoder, encode};

fn reason<T: Serialize>(value: &T) -> String {
    match encode(value, u64::MAX) {
        Err(EncodeError::Unsupported { what: None, type_name, reason }) => {
            assert_eq!(type_name, std::any::type_name::<T>());
            reason
        }
        other => panic!("expected a refusal, not {other:?}"),
    }
}

#[derive(Serialize, Deserialize)]
struct Sparse {
    first: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    second: Option<u8>,
}

#[derive(Serialize)]
enum SparseVariant {
    Variant {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        items: Vec<u8>,
    },
}

#[derive(Serialize, Deserialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

/// A sequence that announces one length and writes another.
struct Liar {
    announced: Option<usize>,
    written: usize,
}

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(self.announced)?;
        for _ in 0..self.written {
            sequence.serialize_element(&7_u16)?;
        }
        sequence.end()
    }
}

/// A map that announces two entries and writes keys and values as told.
struct LyingMap(&'static str);

impl Serialize for LyingMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        for step in self.0.chars() {
            match step {
                'k' => map.serialize_key("key")?,
                _ => map.serialize_value(&7_u16)?,
            }
        }
        map.end()
    }
}

#[test]
fn a_field_left_out_is_refused() {
    encode(&Sparse { first: 1, second: Some(2) }, 9).unwrap();
    let reason = reason(&Sparse { first: 1, second: None });
    assert!(
        reason.starts_with("field `second` of `Sparse` is left out by `skip_serializing_if`"),
        "{reason}"
    );
    assert!(reason.contains("remove the attribute"), "{reason}");
}

#[test]
fn a_field_of_a_variant_left_out_is_refused() {
    encode(&SparseVariant::Variant { items: vec![1] }, 9).unwrap();
    let reason = reason(&SparseVariant::Variant { items: vec![] });
    assert!(reason.starts_with("field `items` of `Variant` is left out"), "{reason}");
}

#[test]
fn flatten_is_refused() {
    let reason = reason(&Flat { name: "a".to_owned(), rest: BTreeMap::new() });
    assert!(
        reason.contains("as `#[serde(flatten)]` makes; make the flattened field an ordinary one"),
        "{reason}"
    );
}

#[test]
fn a_sequence_of_unknown_length_is_refused() {
    let reason = reason(&Liar { announced: None, written: 1 });
    assert!(reason.contains("collect it into a `Vec` first"), "{reason}");
}

#[test]
fn a_sequence_of_another_length_is_refused() {
    encode(&Liar { announced: Some(2), written: 2 }, 9).unwrap();
    let fewer = reason(&Liar { announced: Some(2), written: 1 });
    assert!(fewer.contains("announces 2 elements and writes fewer (of type `u16`)"), "{fewer}");
    let none = reason(&Liar { announced: Some(usize::MAX), written: 0 });
    assert!(none.contains("writes fewer"), "{none}");
    // Refused at the third: a sequence without an end ends.
    let more = reason(&Liar { announced: Some(2), written: usize::MAX });
    assert!(more.contains("announces 2 elements and writes more (of type `u16`)"), "{more}");
}

#[test]
fn a_map_of_another_length_is_refused() {
    encode(&LyingMap("kvkv"), 99).unwrap();
    for (steps, expected) in
        [("kv", "fewer"), ("kvk", "fewer"), ("kkv", "fewer"), ("kvkvkv", "more"), ("kvv", "more")]
    {
        let reason = reason(&LyingMap(steps));
        assert!(reason.contains(&format!("announces 2 elements and writes {expected}")), "{steps}: {reason}");
    }
}

#[test]
fn a_path_that_is_not_utf8_is_refused() {
    let reason = reason(&PathBuf::from(OsStr::from_bytes(b"/tmp/\xff")));
    assert_eq!(reason, "a path is not UTF-8; send it as an `OsString`, which may hold any bytes");
}

#[test]
fn an_error_of_the_type_itself_is_passed_on() {
    struct Picky;
    impl Serialize for Picky {
        fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    assert_eq!(reason(&Picky), "not today");
}

#[test]
fn text_that_changes_between_two_looks_is_written_once() {
    struct Counter(std::cell::Cell<u32>);
    impl Display for Counter {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() * 10);
            write!(f, "{}", self.0.get())
        }
    }
    impl Serialize for Counter {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    assert_eq!(encode(&Counter(1.into()), 9).unwrap(), b"\x0210");
}

#[test]
fn text_that_fails_is_refused() {
    struct Mute;
    impl Display for Mute {
        fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    impl Serialize for Mute {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    assert!(reason(&Mute).contains("`Display`"));
}

#[test]
fn the_limit_is_exact_and_the_size_is_true() {
    let value = (vec!["abc"; 1000], 5_u8, "x".repeat(300));
    let size = postcard::to_stdvec(&value).unwrap().len() as u64;
    assert_eq!(encode(&value, size).unwrap().len() as u64, size);
    for limit in [0, 1, 2, 3, 300, size - 302, size - 1] {
        assert_eq!(encode(&value, limit), Err(EncodeError::TooLarge { size, limit }));
    }
    assert_eq!(encode(&[1_u8, 2, 3], 2), Err(EncodeError::TooLarge { size: 3, limit: 2 }));
    assert_eq!(encode(&(), 0), Ok(vec![]));
    assert_eq!(encode("", 0), Err(EncodeError::TooLarge { size: 1, limit: 0 }));
}

#[test]
fn what_cannot_be_sent_is_said_before_what_is_too_large() {
    let value = ("x".repeat(100), Sparse { first: 1, second: None });
    assert!(matches!(encode(&value, 9), Err(EncodeError::Unsupported { .. })));
}

#[test]
fn the_first_bad_argument_is_the_one_named() {
    let mut encoder = Encoder::arguments();
    encoder.argument("good", &1_u8);
    encoder.argument("bad", &Sparse { first: 1, second: None });
    encoder.argument("worse", &Flat { name: String::new(), rest: BTreeMap::new() });
    encoder.argument("fine", &2_u8);
    let error = encoder.into_arguments().unwrap_err();
    let EncodeError::Unsupported { what, type_name, .. } = &*error else { panic!("{error:?}") };
    assert_eq!((what.as_deref(), type_name.as_str()), (Some("bad"), std::any::type_name::<Sparse>()));
    let text = error.to_string();
    assert!(text.starts_with("cannot send argument `bad` of type `"), "{text}");
    assert!(text.contains("Sparse`: field `second` of `Sparse` is left out"), "{text}");
}

#[test]
fn no_arguments_are_no_bytes() {
    assert_eq!(Encoder::arguments().into_arguments().unwrap().packet().bytes, vec![]);
}

#[test]
fn errors_travel() {
    for error in [
        EncodeError::TooLarge { size: 2, limit: 1 },
        EncodeError::Unsupported {
            what: Some("a".to_owned()),
            type_name: "T".to_owned(),
            reason: "r".to_owned(),
        },
    ] {
        let bytes = encode(&error, 99).unwrap();
        assert_eq!(postcard::from_bytes::<EncodeError>(&bytes).unwrap(), error);
    }
}

#[test]
fn errors_say_why_and_what_to_do() {
    assert_eq!(
        EncodeError::TooLarge { size: 20, limit: 10 }.to_string(),
        "a message of 20 bytes exceeds the limit of 10; raise `Limits::max_message`, or send it in parts"
    );
    let unsupported =
        EncodeError::Unsupported { what: None, type_name: "T".to_owned(), reason: "why; what".to_owned() };
    assert_eq!(unsupported.to_string(), "cannot send a value of type `T`: why; what");
}
