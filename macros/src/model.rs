//! A function as the user wrote it, taken apart for the rules and the expansions.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{
    Abi, Attribute, Error, FnArg, Meta, Pat, PatType, Receiver, Result, ReturnType, Signature, Token, Type,
    Visibility, parse_quote_spanned,
};

/// The item below an attribute: a function with a body.
///
/// The body stays as tokens. rustc parses it, so that it may hold whatever rustc knows, with spans untouched.
pub(crate) struct Item {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if !starts_function(&input.fork()) {
            return Err(not_a_function(input));
        }
        let signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(input.error("this function has no body: write the code to run in place of the `;`"));
        }
        let body = body(input)?;
        Ok(Self { attributes, visibility, signature, body })
    }
}

fn body(input: ParseStream<'_>) -> Result<Group> {
    match input.parse()? {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Ok(group),
        // `$body:block` of a macro.
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => body.parse2(group.stream()),
        other => Err(Error::new(other.span(), "expected the function's body")),
    }
}

fn starts_function(input: ParseStream<'_>) -> bool {
    let qualifiers = || -> Result<()> {
        input.parse::<Option<Token![const]>>()?;
        input.parse::<Option<Token![async]>>()?;
        input.parse::<Option<Token![unsafe]>>()?;
        input.parse::<Option<Abi>>()?;
        Ok(())
    };
    qualifiers().is_ok() && input.peek(Token![fn])
}

fn not_a_function(input: ParseStream<'_>) -> Error {
    let message = if input.peek(Token![impl]) {
        "an `impl` block would be an actor, and actors are not supported yet: mark free functions instead"
    } else if input.peek(Token![trait]) {
        "a trait leaves its functions to others: mark free functions, and call them from its implementations"
    } else {
        "this is not a function: mark an `async fn` or a `fn` instead"
    };
    input.error(message)
}

/// A function with `#[process]`.
pub(crate) struct Function {
    /// What callers and documentation see: docs, `#[deprecated]`, lint levels (which hold for all within).
    pub(crate) outer_attributes: Vec<Attribute>,
    /// What is said of the code: `#[inline]`, `#[instrument]`, ...
    pub(crate) body_attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) output: Type,
    pub(crate) body: Group,
}

/// One parameter.
pub(crate) struct Argument {
    /// As written: `(a, b): (u32, u32)`.
    pub(crate) written: PatType,
    /// The parameter of the outer function, which only encodes: the user's name where there is one.
    pub(crate) ident: Ident,
    /// What errors call it.
    pub(crate) name: String,
}

impl Argument {
    pub(crate) fn ty(&self) -> &Type {
        &self.written.ty
    }

    fn new((index, written): (usize, &PatType)) -> Self {
        let (ident, name) = match &*written.pat {
            Pat::Ident(pattern) => (used(&pattern.ident), pattern.ident.unraw().to_string()),
            pattern => {
                let ident = format_ident!("argument_{}", index + 1, span = Span::mixed_site());
                (ident, pattern.to_token_stream().to_string())
            }
        };
        Self { written: written.clone(), ident, name }
    }
}

/// The outer function uses also what the user calls `_unused`; clippy minds, unless the name is the macro's.
fn used(ident: &Ident) -> Ident {
    let mut ident = ident.clone();
    if ident.to_string().starts_with('_') {
        ident.set_span(ident.span().resolved_at(Span::mixed_site()));
    }
    ident
}

impl From<Item> for Function {
    fn from(Item { attributes, visibility, signature, body }: Item) -> Self {
        let (outer_attributes, body_attributes) = attributes.into_iter().partition(is_outer);
        let arguments = typed(&signature).enumerate().map(Argument::new).collect();
        let output = match &signature.output {
            ReturnType::Type(_, ty) => (**ty).clone(),
            ReturnType::Default => parse_quote_spanned!(Span::mixed_site()=> ()),
        };
        Self { outer_attributes, body_attributes, visibility, signature, arguments, output, body }
    }
}

impl Function {
    pub(crate) fn receiver(&self) -> Option<&Receiver> {
        self.signature.receiver()
    }

    pub(crate) fn is_async(&self) -> bool {
        self.signature.asyncness.is_some()
    }

    /// The name that its processes are called after: the function's own.
    pub(crate) fn default_name(&self) -> TokenStream {
        self.signature.ident.unraw().to_string().into_token_stream()
    }
}

fn typed(signature: &Signature) -> impl Iterator<Item = &PatType> {
    signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    })
}

/// Lint levels on the outer function hold inside it too; a second `#[expect]` would be unfulfilled.
///
/// A bare `#[must_use]` is about the value, and would only repeat what `Call` says of itself.
fn is_outer(attribute: &Attribute) -> bool {
    const OUTER: [&str; 9] =
        ["doc", "deprecated", "cfg", "cfg_attr", "allow", "expect", "warn", "deny", "forbid"];
    let is = |name| attribute.path().is_ident(name);
    OUTER.into_iter().any(is) || is("must_use") && !matches!(attribute.meta, Meta::Path(_))
}
