//! How a child finds its function: one static descriptor per function, and per instance of a generic one.
//!
//! The macro writes a type that implements [`Function`]; [`async_call`] and [`plain_call`] turn it into a
//! [`Call`] that carries `&'static Entry`. The parent sends the distance of that static from an anchor in the
//! same image, and the child, which runs the same image, checks the descriptor before it calls it.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::call::Call;
use crate::fork_server::Ahead;
use crate::link::Report;
use crate::panic;
use crate::wire::{
    DecodeError, Decoder, EncodeError, Encoder, Limits, Message, Packet, Parcel, pack, pack_into,
};

/// Where a process function stands in the source; unique within a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The name that its processes are called after.
    pub name: &'static str,
    /// `module_path!()` at the function.
    pub module: &'static str,
    /// `file!()` at the function.
    pub file: &'static str,
    /// `line!()` at the function.
    pub line: u32,
    /// `column!()` at the function.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{} ({}:{}:{})", self.module, self.name, self.file, self.line, self.column)
    }
}

/// What `#[process]` knows of a function. Implemented by the macro alone.
pub trait Function: 'static {
    /// The decoded arguments, as a tuple.
    type Arguments;
    /// What the function returns.
    type Output;
    /// Where it stands.
    const PLACE: Place;
    /// Reads the arguments, in order.
    ///
    /// # Errors
    /// If the bytes are not these arguments, or exceed the limits.
    fn decode(arguments: &mut Decoder<'_>) -> Result<Self::Arguments, DecodeError>;
}

/// An `async fn`: it gets a tokio runtime of its own in the child.
pub trait AsyncFunction: Function {
    /// Worker threads of the child's runtime; 0 is the current-thread runtime.
    const THREADS: usize;
    /// Runs the function.
    fn run(arguments: Self::Arguments) -> impl Future<Output = Self::Output>;
}

/// A plain `fn`: it runs on the child's main thread, without a runtime.
pub trait PlainFunction: Function {
    /// Runs the function.
    fn run(arguments: Self::Arguments) -> Self::Output;
}

/// The future of an async process function, its result already encoded.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<Packet, EncodeError>>>>;
/// A plain process function, ready to run.
pub(crate) type Ready = Box<dyn FnOnce() -> Result<Packet, EncodeError>>;

/// The arguments of one call of many, and room for what comes of it.
pub(crate) struct Given<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) handles: Vec<Arc<OwnedFd>>,
    pub(crate) limits: Limits,
    pub(crate) room: Vec<u8>,
}

impl Given<'_> {
    /// The arguments, if they are within the limits: of those that stand in a list nobody has seen it before.
    fn decode<F: Function>(self) -> Result<(F::Arguments, Limits, Vec<u8>), Box<Report>> {
        let Given { bytes, handles, limits, room } = self;
        let (size, limit) = (bytes.len() as u64, limits.max_message);
        if size > limit {
            return Err(unencodable(EncodeError::TooLarge { size, limit }));
        }
        let arguments = decoded::<F>(bytes, handles, limits).map_err(undecodable)?;
        Ok((arguments, limits, room))
    }
}

/// Calls of one function, to be made one after the other.
pub(crate) trait Calls {
    /// The next one, if there is one. What became of the one before was told.
    fn next(&mut self) -> Option<Given<'_>>;

    /// Tells what became of it.
    fn tell(&mut self, result: Result<Parcel, Box<Report>>);
}

/// Many calls of an async process function, one after the other.
pub(crate) type Serving<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// What runs a function: once, or many times.
///
/// Once: arguments in, a function that is ready to run out. Decoding is a step of its own, so that a child can say that it has
/// started between the two. Many times: in one go, so that nothing is boxed for each.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    Async {
        threads: usize,
        prepare: fn(Packet, Limits) -> Result<Running, DecodeError>,
        serve: fn(&mut dyn Calls) -> Serving<'_>,
    },
    Plain {
        prepare: fn(Packet, Limits) -> Result<Ready, DecodeError>,
        run: fn(Given<'_>) -> Result<Parcel, Box<Report>>,
    },
}

impl Body {
    /// What a child can do before it knows what will run.
    pub(crate) const fn ahead(&self) -> Ahead {
        match self {
            Self::Async { threads: 0, .. } => Ahead::Runtime,
            _ => Ahead::Nothing,
        }
    }
}

/// "PROCESSN": what a descriptor starts with.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"PROCESSN");

/// The static descriptor of a process function.
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) magic: u64,
    pub(crate) place: Place,
    pub(crate) signature: fn() -> &'static str,
    pub(crate) body: Body,
}

impl Entry {
    const fn of<F: Function>(body: Body) -> Self {
        Self { magic: MAGIC, place: F::PLACE, signature: type_name::<F>, body }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.place).finish()
    }
}

/// Makes the call of an `async fn`.
pub fn async_call<F: AsyncFunction>(arguments: Encoder) -> Call<F::Output>
where
    F::Output: Message,
{
    let entry = const {
        &Entry::of::<F>(Body::Async { threads: F::THREADS, prepare: prepare_async::<F>, serve: serve::<F> })
    };
    Call::new(entry, arguments)
}

/// Makes the call of a plain `fn`.
pub fn plain_call<F: PlainFunction>(arguments: Encoder) -> Call<F::Output>
where
    F::Output: Message,
{
    let entry = const { &Entry::of::<F>(Body::Plain { prepare: prepare_plain::<F>, run: run_plain::<F> }) };
    Call::new(entry, arguments)
}

fn prepare_async<F: AsyncFunction>(arguments: Packet, limits: Limits) -> Result<Running, DecodeError>
where
    F::Output: Message,
{
    let arguments = arguments_of::<F>(arguments, limits)?;
    Ok(Box::pin(async move { pack(&F::run(arguments).await, &limits).map(Packet::from) }))
}

fn prepare_plain<F: PlainFunction>(arguments: Packet, limits: Limits) -> Result<Ready, DecodeError>
where
    F::Output: Message,
{
    let arguments = arguments_of::<F>(arguments, limits)?;
    Ok(Box::new(move || pack(&F::run(arguments), &limits).map(Packet::from)))
}

fn serve<F: AsyncFunction>(calls: &mut dyn Calls) -> Serving<'_>
where
    F::Output: Message,
{
    Box::pin(async move {
        while let Some(given) = calls.next() {
            let caught = AssertUnwindSafe(run_async::<F>(given)).catch_unwind().await;
            calls.tell(caught.unwrap_or_else(|payload| Err(Box::new(panic::report_of(&*payload)))));
        }
    })
}

async fn run_async<F: AsyncFunction>(given: Given<'_>) -> Result<Parcel, Box<Report>>
where
    F::Output: Message,
{
    let (arguments, limits, room) = given.decode::<F>()?;
    pack_into(room, None, &F::run(arguments).await, &limits).map_err(unencodable)
}

fn run_plain<F: PlainFunction>(given: Given<'_>) -> Result<Parcel, Box<Report>>
where
    F::Output: Message,
{
    let (arguments, limits, room) = given.decode::<F>()?;
    pack_into(room, None, &F::run(arguments), &limits).map_err(unencodable)
}

#[cold]
fn undecodable(error: DecodeError) -> Box<Report> {
    Box::new(Report::Decode(error))
}

#[cold]
fn unencodable(error: EncodeError) -> Box<Report> {
    Box::new(Report::Encode(error))
}

fn arguments_of<F: Function>(packet: Packet, limits: Limits) -> Result<F::Arguments, DecodeError> {
    decoded::<F>(&packet.bytes, packet.handles, limits)
}

#[inline]
fn decoded<F: Function>(
    bytes: &[u8],
    handles: Vec<Arc<OwnedFd>>,
    limits: Limits,
) -> Result<F::Arguments, DecodeError> {
    let mut decoder = Decoder::with_handles(bytes, handles, limits);
    let arguments = F::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(arguments)
}

/// Says, at the argument's type, that it must be able to travel.
pub fn argument<T: Message>() {}

/// Says, at the result's type, that it must be able to travel.
pub fn result<T: Message>() {}
