//! The code of `#[derive(Plain)]`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Path, WherePredicate, parse_quote_spanned};

use super::model::{Member, Struct};

/// ```text
/// #[derive(Clone, Copy, Plain)]
/// struct Sample<T> {
///     at: u64,
///     value: T,
/// }
/// ```
/// becomes
/// ```text
/// impl<T: Plain> ::procession::shared::Plain for Sample<T>
/// where
///     u64: ::procession::shared::Plain,
///     T: ::procession::shared::Plain,
/// {
///     const SIZE: usize = ::procession::__private::Shape::EMPTY.with::<u64>().with::<T>().size();
///     const ALIGN: usize = ::procession::__private::Shape::EMPTY.with::<u64>().with::<T>().align();
///     fn load(from: ::procession::shared::Cells<'_>) -> Self {
///         let mut fields = ::procession::__private::Fields::of(from);
///         Self { at: fields.load(), value: fields.load() }
///     }
///     fn store(self, to: ::procession::shared::Cells<'_>) {
///         let mut fields = ::procession::__private::Fields::of(to);
///         fields.store(self.at);
///         fields.store(self.value);
///     }
/// }
/// ```
/// The bound of a field that is not plain is where the compiler tells so; within the `impl` it then holds, so that nothing is
/// told twice.
pub(crate) fn plain(item: &Struct) -> TokenStream {
    let Struct { fields, krate, .. } = item;
    let generics = bounded(item);
    let types = fields.iter().map(|field| &field.ty);
    let shape = quote_spanned!(here()=> #krate::__private::Shape::EMPTY #(.with::<#types>())*);
    let (from, load) = load(fields, krate);
    let (to, store) = store(fields, krate);
    let body = quote_spanned! {here()=>
        const SIZE: ::core::primitive::usize = #shape.size();
        const ALIGN: ::core::primitive::usize = #shape.align();
        #[inline]
        fn load(#from: #krate::shared::Cells<'_>) -> Self {
            #load
        }
        #[inline]
        fn store(self, #to: #krate::shared::Cells<'_>) {
            #store
        }
    };
    implementation(item, &generics, &body)
}

/// What stands in for the code of what broke a rule, so that what uses it is not wrong as well.
///
/// Its bound is one that the compiler does not look into before it is used: what is not even `Copy` is another matter.
pub(crate) fn stub(item: &Struct) -> TokenStream {
    let Struct { ident, krate, .. } = item;
    let mut generics = item.generics.clone();
    let (_, arguments, _) = item.generics.split_for_impl();
    let bound = parse_quote_spanned! {here()=>
        for<'plain> #ident #arguments:
            ::core::marker::Copy + ::core::marker::Send + ::core::marker::Sync + 'static
    };
    generics.make_where_clause().predicates.push(bound);
    let body = quote_spanned! {here()=>
        const SIZE: ::core::primitive::usize = 0;
        const ALIGN: ::core::primitive::usize = 1;
        fn load(_: #krate::shared::Cells<'_>) -> Self {
            loop {}
        }
        fn store(self, _: #krate::shared::Cells<'_>) {}
    };
    implementation(item, &generics, &body)
}

fn implementation(item: &Struct, generics: &Generics, body: &TokenStream) -> TokenStream {
    let Struct { ident, krate, .. } = item;
    let (parameters, _, bounds) = generics.split_for_impl();
    let (_, arguments, _) = item.generics.split_for_impl();
    quote_spanned! {here()=>
        #[automatically_derived]
        impl #parameters #krate::shared::Plain for #ident #arguments #bounds {
            #body
        }
    }
}

/// The generics, with every type parameter and every field plain.
fn bounded(item: &Struct) -> Generics {
    let krate = &item.krate;
    let mut generics = item.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote_spanned!(here()=> #krate::shared::Plain));
    }
    let bounds = item.fields.iter().map(|field| -> WherePredicate {
        let (ty, at) = (&field.ty, here().located_at(field.ty.span()));
        let krate = moved(krate.to_token_stream(), at);
        parse_quote_spanned!(at=> #ty: #krate::shared::Plain)
    });
    generics.make_where_clause().predicates.extend(bounds);
    generics
}

/// The same tokens, where the compiler is to point.
fn moved(tokens: TokenStream, to: Span) -> TokenStream {
    let token = |mut token: TokenTree| {
        token.set_span(token.span().located_at(to));
        token
    };
    tokens.into_iter().map(token).collect()
}

/// The name of the parameter, and the body.
fn load(fields: &[Member], krate: &Path) -> (TokenStream, TokenStream) {
    if fields.is_empty() {
        return (quote_spanned!(here()=> _), quote_spanned!(here()=> Self {}));
    }
    let names = fields.iter().map(|field| &field.name);
    let body = quote_spanned! {here()=>
        let mut fields = #krate::__private::Fields::of(from);
        Self { #(#names: fields.load(),)* }
    };
    (quote_spanned!(here()=> from), body)
}

/// The name of the parameter, and the body.
fn store(fields: &[Member], krate: &Path) -> (TokenStream, TokenStream) {
    if fields.is_empty() {
        return (quote_spanned!(here()=> _), TokenStream::new());
    }
    let names = fields.iter().map(|field| &field.name);
    let body = quote_spanned! {here()=>
        let mut fields = #krate::__private::Fields::of(to);
        #(fields.store(self.#names);)*
    };
    (quote_spanned!(here()=> to), body)
}

fn here() -> Span {
    Span::mixed_site()
}
