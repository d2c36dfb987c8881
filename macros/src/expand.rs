//! The code of a process function.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote_spanned};
use syn::spanned::Spanned;
use syn::{GenericParam, Generics, Path, ReturnType, Signature, Type, parse_quote_spanned};

use crate::model::{Argument, Function};
use crate::options::Options;

/// Local names of these tokens cannot meet the user's.
fn here() -> Span {
    Span::mixed_site()
}

/// Turns a function into one that makes a call, with the user's function inside.
///
/// ```text
/// /// Counts the primes below `n`.
/// #[process]
/// pub async fn primes_below(n: u64) -> u64 { /* ... */ }
/// ```
/// becomes
/// ```text
/// /// Counts the primes below `n`.
/// pub fn primes_below(n: u64) -> ::procession::__private::Call<u64> {
///     async fn __body(n: u64) -> u64 { /* ... */ }
///     struct __Function;
///     impl ::procession::__private::Function for __Function { /* `function_impl` */ }
///     impl ::procession::__private::AsyncFunction for __Function { /* `run_impl` */ }
///     /* `call` */
/// }
/// ```
pub(crate) fn process(function: &Function, options: &Options) -> TokenStream {
    let Function { outer_attributes, visibility, signature, arguments, output, .. } = function;
    let krate = &options.krate;
    let (fn_token, name) = (&signature.fn_token, &signature.ident);
    let idents = arguments.iter().map(|argument| &argument.ident);
    let types = arguments.iter().map(Argument::ty);
    let generics = outliving(&signature.generics);
    let (parameters, _, bounds) = generics.split_for_impl();
    let items = [
        body(function),
        descriptor(&signature.generics),
        function_impl(function, options),
        run_impl(function, options),
    ];
    let call = call(function, krate);
    let returned = quote_spanned!(end_of(signature)=> -> #krate::__private::Call<#output>);
    // The user's tokens at both ends: lints look there to tell what the user wrote, like an unused function.
    let mut block = Group::new(Delimiter::Brace, quote_spanned!(here()=> #(#items)* #call));
    block.set_span(function.body.span());
    quote_spanned! {here()=>
        #(#outer_attributes)*
        #visibility #fn_token #name #parameters (#(#idents: #types),*) #returned #bounds #block
    }
}

fn end_of(signature: &Signature) -> Span {
    let end = match &signature.output {
        ReturnType::Type(_, ty) => ends(ty.to_token_stream()).1,
        ReturnType::Default => signature.paren_token.span.close(),
    };
    here().located_at(end)
}

/// `async fn __body(n: u64) -> u64 { /* as written */ }`
///
/// Its name is not the user's, so that a recursive function makes calls too.
fn body(function: &Function) -> TokenStream {
    let Function { body_attributes, signature, body, .. } = function;
    let (generics, bounds) = (&signature.generics, &signature.generics.where_clause);
    let (asyncness, inputs, output) = (&signature.asyncness, &signature.inputs, &signature.output);
    quote_spanned! {here()=>
        #(#body_attributes)*
        #asyncness fn __body #generics (#inputs) #output #bounds #body
    }
}

/// `struct __Function<T: ?Sized + 'static, const N: usize>(PhantomData<fn() -> (PhantomData<T>,)>);`
///
/// One type per instance of a generic function; `fn()` makes it `Send`, `Sync` and `'static` enough.
fn descriptor(generics: &Generics) -> TokenStream {
    let parameters = generics.params.iter().filter_map(|parameter| match parameter {
        GenericParam::Type(parameter) => {
            let ident = &parameter.ident;
            Some(quote_spanned!(here()=> #ident: ?::core::marker::Sized + 'static))
        }
        GenericParam::Const(parameter) => {
            let (ident, ty) = (&parameter.ident, &parameter.ty);
            Some(quote_spanned!(here()=> const #ident: #ty))
        }
        GenericParam::Lifetime(_) => None,
    });
    let types = generics.type_params().map(|parameter| &parameter.ident);
    quote_spanned! {here()=>
        struct __Function<#(#parameters),*>(
            ::core::marker::PhantomData<fn() -> (#(::core::marker::PhantomData<#types>,)*)>,
        );
    }
}

/// ```text
/// impl ::procession::__private::Function for __Function {
///     type Arguments = (u64,);
///     type Output = u64;
///     const PLACE: ::procession::__private::Place = /* name, module, file, line, column */;
///     fn decode(decoder: &mut ::procession::__private::Decoder<'_>) -> Result<Self::Arguments, ..> {
///         ::procession::__private::argument::<u64>();
///         Ok((decoder.argument::<u64>("n")?,))
///     }
/// }
/// ```
fn function_impl(function: &Function, options: &Options) -> TokenStream {
    let Function { signature, arguments, output, .. } = function;
    let krate = &options.krate;
    let (parameters, instance, bounds) = signature.generics.split_for_impl();
    let types = arguments.iter().map(Argument::ty);
    let place = place(function, options);
    let decoder = if arguments.is_empty() {
        format_ident!("_decoder")
    } else {
        format_ident!("decoder", span = here())
    };
    let checks = arguments.iter().map(|argument| travels(argument, krate));
    let values = arguments.iter().map(|argument| {
        let (ty, name) = (argument.ty(), &argument.name);
        quote_spanned!(at(ty)=> #decoder.argument::<#ty>(#name)?)
    });
    quote_spanned! {here()=>
        impl #parameters #krate::__private::Function for __Function #instance #bounds {
            type Arguments = (#(#types,)*);
            type Output = #output;
            const PLACE: #krate::__private::Place = #place;
            fn decode(
                #decoder: &mut #krate::__private::Decoder<'_>,
            ) -> ::core::result::Result<Self::Arguments, #krate::__private::DecodeError> {
                #(#checks)*
                ::core::result::Result::Ok((#(#values,)*))
            }
        }
    }
}

fn place(function: &Function, options: &Options) -> TokenStream {
    let krate = &options.krate;
    let default = function.default_name();
    let name = options.name.as_ref().map_or(default, |name| quote_spanned!(here()=> #name));
    quote_spanned! {here()=>
        #krate::__private::Place {
            name: #name,
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
            column: ::core::column!(),
        }
    }
}

/// ```text
/// impl ::procession::__private::AsyncFunction for __Function {
///     const THREADS: usize = 0;
///     fn run((n,): Self::Arguments) -> impl ::core::future::Future<Output = Self::Output> {
///         __body(n)
///     }
/// }
/// ```
/// A plain `fn` has the like, as a `PlainFunction` whose `run` returns the value.
fn run_impl(function: &Function, options: &Options) -> TokenStream {
    let krate = &options.krate;
    let (parameters, instance, bounds) = function.signature.generics.split_for_impl();
    let turbofish = instance.as_turbofish();
    let values: Vec<Ident> = numbered(function.arguments.len());
    let body = quote_spanned!(here()=> { __body #turbofish (#(#values),*) });
    let (kind, threads, returned) = if function.is_async() {
        let threads = options.threads.as_ref().map_or(0, |threads| threads.count);
        (
            quote_spanned!(here()=> AsyncFunction),
            quote_spanned!(here()=> const THREADS: ::core::primitive::usize = #threads;),
            quote_spanned!(here()=> impl ::core::future::Future<Output = Self::Output>),
        )
    } else {
        (quote_spanned!(here()=> PlainFunction), TokenStream::new(), quote_spanned!(here()=> Self::Output))
    };
    quote_spanned! {here()=>
        impl #parameters #krate::__private::#kind for __Function #instance #bounds {
            #threads
            fn run((#(#values,)*): Self::Arguments) -> #returned #body
        }
    }
}

/// ```text
/// let mut encoder = ::procession::__private::Encoder::arguments();
/// ::procession::__private::argument::<u64>();
/// encoder.argument::<u64>("n", &{ n });
/// ::procession::__private::result::<u64>();
/// ::procession::__private::async_call::<__Function>(encoder)
/// ```
fn call(function: &Function, krate: &Path) -> TokenStream {
    let Function { arguments, output, .. } = function;
    let mutability = (!arguments.is_empty()).then(|| quote_spanned!(here()=> mut));
    let encoder = format_ident!("encoder", span = here());
    // Moved into a block, or clippy would advise to take `&str` for a `String` that is only read.
    let encoded = arguments.iter().map(|argument| {
        let (check, ty, name, ident) =
            (travels(argument, krate), argument.ty(), &argument.name, &argument.ident);
        quote_spanned!(at(ty)=> #check #encoder.argument::<#ty>(#name, &{ #ident });)
    });
    let call = if function.is_async() { "async_call" } else { "plain_call" };
    let call = Ident::new(call, here());
    let result = quote_spanned!(at(output)=> #krate::__private::result::<#output>(););
    let made = instance_at(output, &function.signature.generics);
    quote_spanned! {here()=>
        let #mutability #encoder = #krate::__private::Encoder::arguments();
        #(#encoded)*
        #result
        #krate::__private::#call::<#made>(#encoder)
    }
}

/// `__Function<T, N>`, with the span of the result's type: there the compiler has told already that it cannot
/// travel, and does not tell again.
fn instance_at(output: &Type, generics: &Generics) -> TokenStream {
    let (first, last) = ends(output.to_token_stream());
    let name = Ident::new("__Function", first);
    let arguments = generics.params.iter().filter_map(|parameter| match parameter {
        GenericParam::Type(parameter) => Some(&parameter.ident),
        GenericParam::Const(parameter) => Some(&parameter.ident),
        GenericParam::Lifetime(_) => None,
    });
    let close = quote_spanned!(last=> >);
    quote_spanned!(here()=> #name<#(#arguments),* #close)
}

/// The spans of the first and the last token; joining them takes an unstable compiler.
fn ends(tokens: TokenStream) -> (Span, Span) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    match (tokens.first(), tokens.last()) {
        (Some(TokenTree::Group(group)), _) if group.delimiter() == Delimiter::None => ends(group.stream()),
        (Some(first), Some(TokenTree::Group(last))) => (first.span(), last.span_close()),
        (Some(first), Some(last)) => (first.span(), last.span()),
        _ => (here(), here()),
    }
}

/// The first mention of a type's bound, in each of the two bodies: two equal errors on the user's type, of
/// which the compiler shows one, and none for the later mentions.
fn travels(argument: &Argument, krate: &Path) -> TokenStream {
    let ty = argument.ty();
    quote_spanned!(at(ty)=> #krate::__private::argument::<#ty>();)
}

fn at(tokens: &impl Spanned) -> Span {
    here().located_at(tokens.span())
}

fn numbered(count: usize) -> Vec<Ident> {
    (1..=count).map(|number| format_ident!("argument_{number}", span = here())).collect()
}

/// The generics with every type `'static`, as the descriptor asks.
///
/// Where the user wrote no bounds at all, none is added: such a `T` cannot travel, and the compiler's advice
/// to write `T: Message` needs the place where our bound would be.
fn outliving(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    let mut unbounded = Vec::new();
    for parameter in generics.type_params_mut() {
        if parameter.bounds.is_empty() {
            unbounded.push(parameter.ident.clone());
        } else {
            parameter.bounds.push(parse_quote_spanned!(here()=> 'static));
        }
    }
    if let Some(bounds) = &mut generics.where_clause {
        for ident in unbounded {
            bounds.predicates.insert(0, parse_quote_spanned!(here()=> #ident: 'static));
        }
    }
    generics
}
