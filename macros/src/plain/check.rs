//! Every rule of `#[derive(Plain)]`, each with the words that say what to do instead.
//!
//! Whether a field is plain data is not a rule of the macro's: only the compiler knows, by the trait `Plain`.

use super::model::{Kind, Struct, is_plain};
use crate::errors::Errors;

pub(crate) fn plain(item: &Struct, errors: &mut Errors) {
    match &item.kind {
        Kind::Struct => {}
        Kind::Enum(token) => errors.on(
            token,
            "an enum cannot be kept in shared memory, because another process may write a number there that is none \
             of its variants: keep the number, and make the enum of it with `TryFrom`",
        ),
        Kind::Union(token) => errors.on(
            token,
            "a union cannot be kept in shared memory, because nothing says which of its fields is there: \
             keep a struct, or the bytes as an array",
        ),
    }
    for lifetime in item.generics.lifetimes() {
        errors.on(
            lifetime,
            "what is kept in shared memory has no lifetime parameters, because nothing that it could borrow is in other \
             processes: keep the value itself",
        );
    }
    for attribute in item.fields.iter().flat_map(|field| &field.attributes).filter(|other| is_plain(other)) {
        errors.on(attribute, "`plain` stands on the struct, and not on its fields");
    }
}
