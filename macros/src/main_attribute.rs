//! The code of `#[main]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use crate::model::Item;
use crate::options::Options;

/// Puts `init` before everything else, and an async `main` on a runtime.
///
/// ```text
/// #[procession::main]
/// async fn main() -> Result<(), Failure> { /* ... */ }
/// ```
/// becomes
/// ```text
/// fn main() -> Result<(), Failure> {
///     async fn __main() -> Result<(), Failure> { /* ... */ }
///     ::procession::init();
///     ::procession::__private::block_on_main(__main())
/// }
/// ```
/// and a plain `fn main` the same with `run_main(__main)` as its last line.
pub(crate) fn main(item: &Item, options: &Options) -> TokenStream {
    let Item { attributes, visibility, signature, body } = item;
    let krate = &options.krate;
    let (asyncness, name, output) = (&signature.asyncness, &signature.ident, &signature.output);
    let here = Span::mixed_site();
    let run = match asyncness {
        Some(_) => quote_spanned!(here=> #krate::__private::block_on_main(__main())),
        None => quote_spanned!(here=> #krate::__private::run_main(__main)),
    };
    quote_spanned! {here=>
        #(#attributes)*
        #visibility fn #name() #output {
            #asyncness fn __main() #output #body
            #krate::init();
            #run
        }
    }
}

/// What stands in for a `main` that broke a rule: a program has one.
pub(crate) fn stub(item: &Item) -> TokenStream {
    let (name, output) = (&item.signature.ident, &item.signature.output);
    quote!(fn #name() #output { loop {} })
}
