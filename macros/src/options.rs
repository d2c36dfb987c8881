//! What stands in the parentheses: `#[process(threads = 4, name = "sieve", crate = my::procession)]`.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Error, LitInt, LitStr, Path, Result, Token, parse_quote_spanned};

use crate::errors::Errors;

/// The options of `#[process]` and `#[main]`.
pub(crate) struct Options {
    pub(crate) threads: Option<Threads>,
    pub(crate) name: Option<LitStr>,
    /// The path of the crate `procession`.
    pub(crate) krate: Path,
}

/// `threads = 4`
pub(crate) struct Threads {
    pub(crate) key: Ident,
    pub(crate) count: usize,
}

/// Reads the options that `allowed` names; goes on after an error, so that one run tells them all.
pub(crate) fn parse(tokens: TokenStream, allowed: &[&str], errors: &mut Errors) -> Options {
    let mut found = Found::default();
    let read = |input: ParseStream<'_>| {
        while !input.is_empty() {
            if let Err(error) = found.read_option(input, allowed) {
                errors.push(error);
                skip_to_comma(input)?;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    };
    if let Err(error) = read.parse2(tokens) {
        errors.push(error);
    }
    Options {
        threads: found.threads,
        name: found.name,
        krate: found.krate.unwrap_or_else(|| parse_quote_spanned!(Span::mixed_site()=> ::procession)),
    }
}

#[derive(Default)]
struct Found {
    seen: Vec<Ident>,
    threads: Option<Threads>,
    name: Option<LitStr>,
    krate: Option<Path>,
}

impl Found {
    fn read_option(&mut self, input: ParseStream<'_>, allowed: &[&str]) -> Result<()> {
        let key = key(input, allowed)?;
        if self.seen.contains(&key) {
            return Err(Error::new(key.span(), format_args!("`{key}` is given twice: keep one")));
        }
        self.seen.push(key.clone());
        match key.to_string().as_str() {
            "threads" => self.threads = Some(threads(key, input)?),
            "name" => self.name = Some(name(&key, input)?),
            _ => self.krate = Some(krate(&key, input)?),
        }
        if input.is_empty() || input.peek(Token![,]) { Ok(()) } else { Err(input.error("expected `,`")) }
    }
}

fn key(input: ParseStream<'_>, allowed: &[&str]) -> Result<Ident> {
    let expected = || format!("expected `{}`", allowed.join("` or `"));
    let key = input.call(Ident::parse_any).map_err(|error| Error::new(error.span(), expected()))?;
    if allowed.iter().any(|name| key == name) {
        return Ok(key);
    }
    Err(Error::new(key.span(), format_args!("unknown option `{key}`: {}", expected())))
}

fn threads(key: Ident, input: ParseStream<'_>) -> Result<Threads> {
    const HELP: &str =
        "`threads` is the number of worker threads: an integer literal from 1, like `threads = 4`";
    let literal: LitInt = value(&key, input, Parse::parse, HELP)?;
    match literal.base10_parse() {
        Ok(count) if count >= 1 && matches!(literal.suffix(), "" | "usize") => Ok(Threads { key, count }),
        _ => Err(Error::new(literal.span(), HELP)),
    }
}

fn name(key: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    const HELP: &str =
        "`name` is what processes are called: a string literal that is not empty and has no NUL";
    let literal: LitStr = value(key, input, Parse::parse, HELP)?;
    let name = literal.value();
    if name.is_empty() || name.contains('\0') { Err(Error::new(literal.span(), HELP)) } else { Ok(literal) }
}

fn krate(key: &Ident, input: ParseStream<'_>) -> Result<Path> {
    const HELP: &str = "`crate` is the path of procession, without quotes, like `crate = my::procession`";
    value(key, input, Path::parse_mod_style, HELP)
}

/// Reads `= value`; `help` takes the place of syn's words, which tell no more than "expected integer literal".
fn value<T>(
    key: &Ident,
    input: ParseStream<'_>,
    parse: fn(ParseStream<'_>) -> Result<T>,
    help: &str,
) -> Result<T> {
    if input.parse::<Option<Token![=]>>()?.is_none() || input.is_empty() {
        return Err(Error::new(key.span(), help));
    }
    let span = input.span();
    input.call(parse).ok().ok_or_else(|| Error::new(span, help))
}

fn skip_to_comma(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}
