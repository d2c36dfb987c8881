//! A struct as the user wrote it, taken apart for the rules and the expansion.

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::{Attribute, Data, DeriveInput, Field, Fields, Generics, Index, Meta, Path, Token, Type};

use crate::errors::Errors;
use crate::options;

/// What stands below `#[derive(Plain)]`.
pub(crate) struct Struct {
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
    pub(crate) kind: Kind,
    pub(crate) fields: Vec<Member>,
    /// The path of the crate `procession`.
    pub(crate) krate: Path,
}

/// What it is, with the keyword that says so where it is none.
pub(crate) enum Kind {
    Struct,
    Enum(Token![enum]),
    Union(Token![union]),
}

/// One field.
pub(crate) struct Member {
    /// Its name, or its number.
    pub(crate) name: TokenStream,
    pub(crate) ty: Type,
    pub(crate) attributes: Vec<Attribute>,
}

impl Member {
    fn new((index, field): (usize, Field)) -> Self {
        let name = match field.ident {
            Some(ident) => ident.into_token_stream(),
            None => Index::from(index).into_token_stream(),
        };
        Self { name, ty: field.ty, attributes: field.attrs }
    }
}

impl Struct {
    pub(crate) fn new(item: DeriveInput, errors: &mut Errors) -> Self {
        let krate = krate(&item.attrs, errors);
        let (kind, fields) = match item.data {
            Data::Struct(data) => (Kind::Struct, data.fields),
            Data::Enum(data) => (Kind::Enum(data.enum_token), Fields::Unit),
            Data::Union(data) => (Kind::Union(data.union_token), Fields::Unit),
        };
        let fields = fields.into_iter().enumerate().map(Member::new).collect();
        Self { ident: item.ident, generics: item.generics, kind, fields, krate }
    }
}

pub(crate) fn is_plain(attribute: &Attribute) -> bool {
    attribute.path().is_ident("plain")
}

/// `#[plain(crate = my::procession)]`
fn krate(attributes: &[Attribute], errors: &mut Errors) -> Path {
    let mut tokens = TokenStream::new();
    for attribute in attributes.iter().filter(|attribute| is_plain(attribute)) {
        match &attribute.meta {
            Meta::List(list) => tokens.extend(list.tokens.clone()),
            other => errors.on(other, "`plain` has options in parentheses, like `crate = my::procession`"),
        }
    }
    options::parse(tokens, &["crate"], errors).krate
}
