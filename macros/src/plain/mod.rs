//! `#[derive(Plain)]`.

mod check;
mod expand;
mod model;

use proc_macro2::TokenStream;
use syn::DeriveInput;

use self::model::Struct;
use crate::errors::Errors;

pub(crate) fn derive(item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let item: DeriveInput = match syn::parse2(item) {
        Ok(item) => item,
        Err(error) => return errors.with(error).beside(TokenStream::new()),
    };
    let model = Struct::new(item, &mut errors);
    check::plain(&model, &mut errors);
    if errors.is_empty() { expand::plain(&model) } else { errors.beside(expand::stub(&model)) }
}
