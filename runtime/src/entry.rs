//! How a child finds its function: one static descriptor per function, and per instance of a generic one.
//!
//! The macro writes a type that implements [`Function`]; [`async_call`] and [`plain_call`] turn it into a
//! [`Call`] that carries `&'static Entry`. The parent sends the distance of that static from an anchor in the
//! same image, and the child, which runs the same image, checks the descriptor before it calls it.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::call::Call;
use crate::fork_server::Ahead;
use crate::wire::{DecodeError, Decoder, EncodeError, Encoder, Limits, Message, Packet, pack};

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

/// Arguments in, a function that is ready to run out: decoding is a step of its own, so that a child can say
/// that it has started between the two.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    Async { threads: usize, prepare: fn(Packet, Limits) -> Result<Running, DecodeError> },
    Plain { prepare: fn(Packet, Limits) -> Result<Ready, DecodeError> },
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
    let entry = const { &Entry::of::<F>(Body::Async { threads: F::THREADS, prepare: prepare_async::<F> }) };
    Call::new(entry, arguments)
}

/// Makes the call of a plain `fn`.
pub fn plain_call<F: PlainFunction>(arguments: Encoder) -> Call<F::Output>
where
    F::Output: Message,
{
    let entry = const { &Entry::of::<F>(Body::Plain { prepare: prepare_plain::<F> }) };
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

fn arguments_of<F: Function>(packet: Packet, limits: Limits) -> Result<F::Arguments, DecodeError> {
    let mut decoder = Decoder::with_handles(&packet.bytes, packet.handles, limits);
    let arguments = F::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(arguments)
}

/// Says, at the argument's type, that it must be able to travel.
pub fn argument<T: Message>() {}

/// Says, at the result's type, that it must be able to travel.
pub fn result<T: Message>() {}
