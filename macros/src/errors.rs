//! All that is wrong with one use of an attribute, told at once.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::Error;

/// Errors found so far, each on the tokens that caused it.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    /// Adds an error that underlines `tokens`.
    pub(crate) fn on(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(Error::new_spanned(tokens, message));
    }

    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn with(mut self, error: Error) -> Self {
        self.push(error);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// One `compile_error!` per error, and then the item, so that nothing else is wrong without it.
    pub(crate) fn beside(self, item: TokenStream) -> TokenStream {
        let mut tokens = self.0.map(Error::into_compile_error).unwrap_or_default();
        tokens.extend(item);
        tokens
    }
}
