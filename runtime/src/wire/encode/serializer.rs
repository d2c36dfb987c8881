//! postcard's serializer behind one that refuses what could not be read back.

use std::any::type_name;
use std::fmt::{self, Display, Write as _};

use postcard::ser_flavors::Flavor;
use serde::ser::{self, Serialize, Serializer};

use super::output::Output;
use crate::wire::aside::ASIDE;
use crate::wire::beside::{self, HANDLE, Outgoing};
use crate::wire::reason::brief;

/// Why a value was refused. Boxed, because every step of writing returns it.
#[derive(Debug)]
pub(super) struct Fault(Box<Reason>);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(
        "field `{field}` of `{owner}` is left out by `skip_serializing_if`, and the bytes do not say which \
         fields they have; remove the attribute, or `skip` the field always"
    )]
    Skipped { owner: &'static str, field: &'static str },
    #[error(
        "it has a map whose length is unknown before it is written, as `#[serde(flatten)]` makes; \
         make the flattened field an ordinary one, or collect the entries first"
    )]
    MapLength,
    #[error("it has a sequence whose length is unknown before it is written; collect it into a `Vec` first")]
    SeqLength,
    #[error(
        "its `Serialize` announces {announced} elements and writes {more_or_less} (of type `{element}`); \
         announce as many as it writes"
    )]
    Count { announced: usize, more_or_less: &'static str, element: &'static str },
    #[error("a path is not UTF-8; send it as an `OsString`, which may hold any bytes")]
    Path,
    #[error("its `Display`, which stands for it, failed; send its parts instead")]
    Display,
    #[error("{0}")]
    Custom(String),
}

impl From<Reason> for Fault {
    #[cold]
    fn from(reason: Reason) -> Self {
        Self(Box::new(reason))
    }
}

impl From<postcard::Error> for Fault {
    #[cold]
    fn from(error: postcard::Error) -> Self {
        Reason::Custom(error.to_string()).into()
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        match brief(message) {
            // The text of serde's own `Serialize for Path`.
            text if text == "path contains invalid UTF-8 characters" => Reason::Path,
            text => Reason::Custom(text),
        }
        .into()
    }
}

/// Writes a value in postcard's format.
pub(super) struct Writer<'s> {
    postcard: postcard::Serializer<Output<'s>>,
    /// The handles beside it, if it may have any.
    handles: Option<Outgoing>,
}

impl<'s> Writer<'s> {
    #[inline]
    pub(super) fn new(output: Output<'s>, handles: Option<Outgoing>) -> Self {
        Self { postcard: postcard::Serializer { output }, handles }
    }

    #[inline]
    pub(super) fn into_parts(self) -> (Output<'s>, Outgoing) {
        (self.postcard.output, self.handles.unwrap_or_default())
    }

    /// Writes what a handle has to say, with the table open for it.
    #[cold]
    fn handle<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let mut handles = self.handles.take();
        let written = beside::while_writing(&mut handles, || value.serialize(&mut *self));
        self.handles = handles;
        written
    }

    /// Writes bytes behind their length, or aside if they are long and may stand there.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() >= ASIDE && self.postcard.output.takes_aside() {
            self.length(bytes.len())?;
            self.postcard.output.put_aside(bytes);
            return Ok(());
        }
        Ok(self.postcard.serialize_bytes(bytes)?)
    }

    #[inline]
    fn length(&mut self, length: usize) -> Result<(), Fault> {
        self.serialize_u64(length as u64)
    }
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(&self.postcard.output).finish()
    }
}

/// Methods that postcard's serializer does right.
macro_rules! by_postcard {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $($argument: $type),*) -> Result<(), Fault> {
            Ok(self.postcard.$method($($argument),*)?)
        }
    )*};
}

/// Numbers that are one byte where they are small, which most are: postcard puts them together elsewhere, and copies them.
macro_rules! small_by_byte {
    ($($method:ident($type:ty);)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), Fault> {
            if value < 0x80 {
                return Ok(self.postcard.output.try_push(value as u8)?);
            }
            Ok(self.postcard.$method(value)?)
        }
    )*};
}

impl<'a, 's> Serializer for &'a mut Writer<'s> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Counted<'a, 's>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Counted<'a, 's>;
    type SerializeStruct = Fields<'a, 's>;
    type SerializeStructVariant = Fields<'a, 's>;

    by_postcard! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    small_by_byte! {
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Fault> {
        self.bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Fault> {
        self.bytes(value)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        self.serialize_u8(1)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        if name == HANDLE {
            return self.handle(value);
        }
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.serialize_u32(index)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Counted<'a, 's>, Fault> {
        Counted::new(self, length.ok_or(Reason::SeqLength)?)
    }

    #[inline]
    fn serialize_tuple(self, _length: usize) -> Result<Self, Fault> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, Fault> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Fault> {
        self.serialize_u32(index)?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Counted<'a, 's>, Fault> {
        Counted::new(self, length.ok_or(Reason::MapLength)?)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Fields<'a, 's>, Fault> {
        Ok(Fields { writer: self, owner: name })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Fields<'a, 's>, Fault> {
        self.serialize_u32(index)?;
        Ok(Fields { writer: self, owner: variant })
    }

    /// postcard formats twice, once for the length; a `Display` need not say the same thing twice.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Fault> {
        let mut text = String::new();
        if write!(text, "{value}").is_err() {
            return Err(Reason::Display.into());
        }
        self.serialize_str(&text)
    }
}

/// A sequence or map, which must turn out as long as its length says.
pub(super) struct Counted<'a, 's> {
    writer: &'a mut Writer<'s>,
    length: usize,
    /// Elements, or keys, still to come.
    left: usize,
    /// Keys that still lack their value.
    open: usize,
    /// The type of an element or a key, once there is one.
    element: &'static str,
}

impl<'a, 's> Counted<'a, 's> {
    #[inline]
    fn new(writer: &'a mut Writer<'s>, length: usize) -> Result<Self, Fault> {
        writer.length(length)?;
        Ok(Self { writer, length, left: length, open: 0, element: "unknown" })
    }

    #[inline]
    fn next<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element = type_name::<T>();
        self.left = self.left.checked_sub(1).ok_or_else(|| self.fault("more"))?;
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn close(self) -> Result<(), Fault> {
        if self.left == 0 && self.open == 0 { Ok(()) } else { Err(self.fault("fewer")) }
    }

    #[cold]
    fn fault(&self, more_or_less: &'static str) -> Fault {
        Reason::Count { announced: self.length, more_or_less, element: self.element }.into()
    }
}

impl ser::SerializeSeq for Counted<'_, '_> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.next(value)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}

impl ser::SerializeMap for Counted<'_, '_> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.open += 1;
        self.next(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.open = self.open.checked_sub(1).ok_or_else(|| self.fault("more"))?;
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}

/// The fields of a struct or struct variant, all of which must be written.
pub(super) struct Fields<'a, 's> {
    writer: &'a mut Writer<'s>,
    owner: &'static str,
}

/// Field by field, with `skip_field` refused.
macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Fields<'_, '_> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn serialize_field<T>(&mut self, _field: &'static str, value: &T) -> Result<(), Fault>
            where
                T: Serialize + ?Sized,
            {
                value.serialize(&mut *self.writer)
            }

            #[cold]
            fn skip_field(&mut self, field: &'static str) -> Result<(), Fault> {
                Err(Reason::Skipped { owner: self.owner, field }.into())
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                Ok(())
            }
        }
    )*};
}

fields!(SerializeStruct SerializeStructVariant);

/// Tuples of all kinds: their elements, one after the other.
macro_rules! elements {
    ($($trait:ident $method:ident)*) => {$(
        impl ser::$trait for &mut Writer<'_> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                value.serialize(&mut **self)
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                Ok(())
            }
        }
    )*};
}

elements!(SerializeTuple serialize_element SerializeTupleStruct serialize_field SerializeTupleVariant serialize_field);
