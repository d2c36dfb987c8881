//! What goes in comes out: arguments, results, and the errors of functions. Conformance PR02, PR26, PR27; F6, F8, F25.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use procession::{Cause, Failure, Limits, Message, process};
use procession_tests::isolated;
use serde::{Deserialize, Deserializer, Serialize};

#[process]
async fn echo<T: Message>(value: T) -> T {
    value
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(Box<Self>),
    Tuple(i8, f64),
    Struct { name: String, parts: Vec<Self> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapped(u128);

async fn comes_back<T: Message + Clone + PartialEq + std::fmt::Debug>(value: T) {
    assert_eq!(echo(value.clone()).await.unwrap(), value);
}

isolated! {
    /// PR02: every shape of serde's data model arrives as it was sent.
    async fn pr02_every_shape_round_trips() {
        comes_back(()).await;
        comes_back((true, 'ß', -1_i8, u128::MAX, i128::MIN)).await;
        comes_back((f32::NEG_INFINITY, f64::MIN_POSITIVE)).await;
        comes_back((None::<u8>, Some(Some(7_u64)))).await;
        comes_back("text with \0 and \u{1F600}".to_owned()).await;
        comes_back(vec![vec![1_u16], vec![]]).await;
        comes_back(serde_bytes::ByteBuf::from(vec![0, 255])).await;
        comes_back(BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)])).await;
        comes_back(HashMap::from([(1, Unit), (2, Unit)])).await;
        comes_back([[7_u8; 3]; 2]).await;
        comes_back(Wrapped(1 << 100)).await;
        comes_back(PathBuf::from("/tmp/ä")).await;
        comes_back((Duration::MAX, IpAddr::from([127, 0, 0, 1]), OsString::from("os"))).await;
        let nested = Shape::Newtype(Box::new(Shape::Struct {
            name: "parts".into(),
            parts: vec![Shape::Unit, Shape::Tuple(-3, 0.5)],
        }));
        comes_back(nested).await;
        // A byte each on the wire, and 24 in memory.
        comes_back(vec![None::<String>; 200_000]).await;
        assert!(echo(f64::NAN).await.unwrap().is_nan());
    }

    /// PR27: what a function returns is its value, be it an `Err`.
    async fn pr27_an_err_is_a_value() {
        assert_eq!(echo(Err::<u8, _>("no".to_owned())).await.unwrap(), Err("no".to_owned()));
    }

    /// An error that cannot travel travels as a `Failure`, with its causes.
    async fn failures_travel_with_their_causes() {
        let failure = opens("/no/such/file".into()).await.unwrap().unwrap_err();
        assert_eq!(failure.to_string(), "cannot open /no/such/file");
        assert_eq!(failure.causes().collect::<Vec<_>>(), ["No such file or directory (os error 2)"]);
        let error: Box<dyn std::error::Error> = failure.into();
        assert!(error.source().is_some());
    }

    /// F6: a result far larger than any pipe's buffer arrives, whoever waits for what first.
    async fn f06_large_values_both_ways() {
        let large = vec![7_u8; 15 << 20];
        let mut process = echo(large.clone()).spawn().await.unwrap();
        assert!(process.wait().await.unwrap().success());
        assert_eq!(process.join().await.unwrap(), large);
    }

    /// F25: what is over the limit is refused by its sender, before a byte of it is sent; both ways.
    async fn f25_too_large_is_refused_at_the_sender() {
        let error = echo(vec![0_u8; 17 << 20]).await.unwrap_err();
        assert_eq!(error.pid(), None, "a process was started for it");
        assert!(matches!(error.cause(), Cause::TooLarge { size, limit: 16_777_216 } if *size > 17 << 20));
        let error = zeros(17 << 20).await.unwrap_err();
        assert!(error.pid().is_some());
        assert!(matches!(error.cause(), Cause::TooLarge { size, limit: 16_777_216 } if *size > 17 << 20));
    }

    /// F25: the limit is the caller's to set, to either side.
    async fn f25_the_limit_can_be_set() {
        assert_eq!(zeros(20 << 20).max_message(32 << 20).await.unwrap().len(), 20 << 20);
        // A length of three bytes, and the elements.
        assert_eq!(zeros(65_536).max_message(65_539).await.unwrap().len(), 65_536);
        let error = zeros(65_536).max_message(65_538).await.unwrap_err();
        assert_eq!(*error.cause(), Cause::TooLarge { size: 65_539, limit: 65_538 });
    }

    /// F8: an argument or a result that cannot be encoded costs that call alone, and says which it is.
    async fn f08_what_cannot_be_encoded() {
        let error = echo(Skips { present: 1, absent: None }).await.unwrap_err();
        assert_eq!(error.pid(), None, "a process was started for it");
        let Cause::Encode(cause) = error.cause() else { panic!("{error:?}") };
        assert!(cause.to_string().contains("skip_serializing_if"), "{cause}");
        let error = gives_what_skips().await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Encode(_)), "{error:?}");
    }

    /// F8: an argument or a result that cannot be read back costs that call alone, and says which it is.
    async fn f08_what_cannot_be_decoded() {
        let error = takes_unreadable(Unreadable).await.unwrap_err();
        let Cause::Decode(cause) = error.cause() else { panic!("{error:?}") };
        assert!(cause.to_string().contains("never"), "{cause}");
        assert!(cause.to_string().contains("Unreadable"), "{cause}");
        assert!(error.pid().is_some());
        let error = gives_unreadable().await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Decode(_)), "{error:?}");
    }

    /// F8: what only a self-describing format could read back says so, and what to do instead.
    async fn f08_untagged_enums_name_the_remedy() {
        let error = echo(Untagged::Number(1)).await.unwrap_err();
        let Cause::Decode(cause) = error.cause() else { panic!("{error:?}") };
        assert!(cause.to_string().contains("untagged"), "{cause}");
    }

    /// The depth of what is read back is limited, and the caller can raise the limit.
    async fn nesting_is_limited() {
        let deep = (0..1000).fold(Shape::Unit, |inner, _| Shape::Newtype(Box::new(inner)));
        let error = echo(deep.clone()).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Decode(_)), "{error:?}");
        assert_eq!(echo(deep.clone()).limits(Limits::DEFAULT.max_depth(2000)).await.unwrap(), deep);
    }

    /// A call can be run here, encoded and decoded all the same.
    async fn local_calls() {
        assert_eq!(pid().local().await.unwrap(), std::process::id());
        assert_eq!(plain_pid().local().await.unwrap(), std::process::id());
        assert_ne!(pid().await.unwrap(), std::process::id());
        let error = echo(Untagged::Number(1)).local().await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Decode(_)), "{error:?}");
    }
}

#[process]
async fn pid() -> u32 {
    std::process::id()
}

#[process]
fn plain_pid() -> u32 {
    std::process::id()
}

#[process]
async fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

#[process]
fn opens(path: String) -> Result<(), Failure> {
    #[derive(Debug)]
    struct CannotOpen(String, std::io::Error);

    impl std::fmt::Display for CannotOpen {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "cannot open {}", self.0)
        }
    }

    impl std::error::Error for CannotOpen {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.1)
        }
    }

    std::fs::File::open(&path).map_err(|error| CannotOpen(path, error))?;
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Skips {
    present: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<u8>,
}

#[process]
async fn gives_what_skips() -> Skips {
    Skips { present: 1, absent: None }
}

#[derive(Debug, Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("never"))
    }
}

#[process]
async fn takes_unreadable(_value: Unreadable) {}

#[process]
async fn gives_unreadable() -> Unreadable {
    Unreadable
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}
