//! serde's view of a [`Reader`]: postcard's format, level by level.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::fault::{Fault, Malformed, Reason};
use super::reader::{Bytes, Reader, Text};
use crate::wire::beside::HANDLE;

/// Values that one expression reads.
macro_rules! values {
    ($($method:ident: |$reader:ident, $visitor:ident| $value:expr;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $visitor: V) -> Result<V::Value, Fault> {
            let $reader = self;
            $value
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Fault;

    values! {
        deserialize_bool: |reader, visitor| match reader.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            other => Err(Malformed::Bool(other).into()),
        };
        deserialize_u8: |reader, visitor| visitor.visit_u8(reader.byte()?);
        deserialize_u16: |reader, visitor| visitor.visit_u16(reader.varint_u16()?);
        deserialize_u32: |reader, visitor| visitor.visit_u32(reader.varint_u32()?);
        deserialize_u64: |reader, visitor| visitor.visit_u64(reader.varint_u64()?);
        deserialize_u128: |reader, visitor| visitor.visit_u128(reader.varint_u128()?);
        deserialize_i8: |reader, visitor| visitor.visit_i8(reader.byte()?.cast_signed());
        deserialize_i16: |reader, visitor| {
            let zigzag = reader.varint_u16()?;
            visitor.visit_i16((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
        };
        deserialize_i32: |reader, visitor| {
            let zigzag = reader.varint_u32()?;
            visitor.visit_i32((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
        };
        deserialize_i64: |reader, visitor| {
            let zigzag = reader.varint_u64()?;
            visitor.visit_i64((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
        };
        deserialize_i128: |reader, visitor| {
            let zigzag = reader.varint_u128()?;
            visitor.visit_i128((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
        };
        deserialize_f32: |reader, visitor| visitor.visit_f32(f32::from_le_bytes(reader.array()?));
        deserialize_f64: |reader, visitor| visitor.visit_f64(f64::from_le_bytes(reader.array()?));
        deserialize_char: |reader, visitor| visitor.visit_char(reader.char()?);
        deserialize_unit: |_reader, visitor| visitor.visit_unit();
        deserialize_option: |reader, visitor| match reader.byte()? {
            0 => visitor.visit_none(),
            1 => reader.nested(|reader| visitor.visit_some(reader)),
            other => Err(Malformed::Option(other).into()),
        };
        deserialize_seq: |reader, visitor| reader.nested(|reader| visitor.visit_seq(Elements::declared(reader)?));
        deserialize_map: |reader, visitor| reader.nested(|reader| {
            visitor.visit_map(Entries { keys: Elements::declared(reader)?, paid: 0 })
        });
        deserialize_any: |_reader, _visitor| Err(Reason::SelfDescribing.into());
        deserialize_ignored_any: |_reader, _visitor| Err(Reason::SelfDescribing.into());
        deserialize_identifier: |_reader, _visitor| Err(Reason::SelfDescribing.into());
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_string(visitor)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text()? {
            Text::Within(text) => visitor.visit_borrowed_str(text),
            Text::Aside(text) => visitor.visit_string(text),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_byte_buf(visitor)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.bytes()? {
            Bytes::Within(bytes) => visitor.visit_borrowed_bytes(bytes),
            Bytes::Aside(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == HANDLE {
            return self.handle(|reader| visitor.visit_newtype_struct(reader));
        }
        self.nested(|reader| visitor.visit_newtype_struct(reader))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        self.nested(|reader| visitor.visit_seq(Fields { reader, left: length }))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(length, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.nested(|reader| visitor.visit_enum(reader))
    }
}

impl<'de> EnumAccess<'de> for &mut Reader<'de> {
    type Error = Fault;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let index = self.varint_u32()?;
        let variant = seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(index))?;
        Ok((variant, self))
    }
}

/// What a variant holds stands on the level of its enum.
impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = Fault;

    #[inline]
    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Fields { reader: self, left: length })
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(Fields { reader: self, left: fields.len() })
    }
}

/// Fields of a struct or tuple: their number is the type's, and their memory is the container's.
struct Fields<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// Elements of a sequence, or keys of a map: as many as the message declares.
struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
    /// Bytes of memory already charged for each element that is left.
    paid: usize,
}

impl<'a, 'de> Elements<'a, 'de> {
    /// Charges one byte for each: their size is known when the first one is asked for.
    #[inline]
    fn declared(reader: &'a mut Reader<'de>) -> Result<Self, Fault> {
        let left = reader.length()?;
        reader.charge(left, 1)?;
        Ok(Self { reader, left, paid: 1 })
    }
}

/// Charges what `count` elements of type `T` take beyond what has been `paid` for each.
#[inline]
fn pay<T>(reader: &mut Reader<'_>, count: usize, paid: &mut usize) -> Result<(), Fault> {
    let size = size_of::<T>();
    if size > *paid {
        reader.charge(count, size - *paid)?;
        *paid = size;
    }
    Ok(())
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        // The compiler knows the answer; a byte is what `declared` has paid.
        if size_of::<S::Value>() > 1 {
            pay::<S::Value>(self.reader, self.left, &mut self.paid)?;
        }
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    /// What a collection may reserve: no more than there are bytes, though elements may take none.
    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reader.remaining()))
    }
}

/// Entries of a map.
struct Entries<'a, 'de> {
    keys: Elements<'a, 'de>,
    /// Bytes of memory already charged for the value of each entry.
    paid: usize,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.keys.next_element_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        // The entry whose value this is has already been counted with its key.
        pay::<S::Value>(self.keys.reader, self.keys.left.saturating_add(1), &mut self.paid)?;
        seed.deserialize(&mut *self.keys.reader)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.keys.size_hint()
    }
}
