//! What stands in for a process function that broke a rule, so that its callers are not wrong as well.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Lifetime, Path, Type, TypeImplTrait, TypeInfer, TypeNever, TypeReference, TypeTraitObject,
    parse_quote_spanned,
};

use crate::check::is_unsized;
use crate::model::Function;
use crate::options::Options;

/// ```text
/// #[process]
/// pub async unsafe fn find(name: &str) -> &str { /* ... */ }
/// ```
/// becomes, beside its errors,
/// ```text
/// pub fn find(_: &str) -> ::procession::__private::Call<&'static str> { loop {} }
/// ```
pub(crate) fn process(function: &Function, options: &Options) -> TokenStream {
    let Function { outer_attributes, visibility, signature, .. } = function;
    let krate = &options.krate;
    let name = &signature.ident;
    let (generics, bounds) = (&signature.generics, &signature.generics.where_clause);
    let receiver = function.receiver().map(|receiver| quote_spanned!(Span::mixed_site()=> #receiver,));
    let arguments = function.arguments.iter().map(|argument| accepted(argument.ty()));
    let output = returned(&function.output);
    quote_spanned! {Span::mixed_site()=>
        #(#outer_attributes)*
        #visibility fn #name #generics (#receiver #(_: #arguments),*) -> #krate::__private::Call<#output> #bounds {
            loop {}
        }
    }
}

/// The argument's type, or one that takes whatever callers pass.
fn accepted(ty: &Type) -> TokenStream {
    let mut unusable =
        Unusable { hidden: false, found: is_unsized(ty) || matches!(ty, Type::TraitObject(_)) };
    unusable.visit_type(ty);
    if unusable.found {
        quote_spanned!(Span::mixed_site()=> impl ::core::marker::Sized)
    } else {
        ty.to_token_stream()
    }
}

/// The result's type with nothing borrowed, or `()`.
fn returned(ty: &Type) -> Type {
    let mut unusable = Unusable { hidden: true, found: is_unsized(ty) || matches!(ty, Type::TraitObject(_)) };
    unusable.visit_type(ty);
    if unusable.found {
        return parse_quote_spanned!(Span::mixed_site()=> ());
    }
    let mut ty = ty.clone();
    Unborrowed.visit_type_mut(&mut ty);
    ty
}

/// Finds what cannot stand in the signature of the stand-in.
struct Unusable {
    /// Whether `impl Trait` is among it: as a result it would need a body.
    hidden: bool,
    found: bool,
}

impl<'ast> Visit<'ast> for Unusable {
    fn visit_type_impl_trait(&mut self, _: &'ast TypeImplTrait) {
        self.found |= self.hidden;
    }

    fn visit_type_never(&mut self, _: &'ast TypeNever) {
        self.found = true;
    }

    fn visit_type_infer(&mut self, _: &'ast TypeInfer) {
        self.found = true;
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.found |= path.segments.first().is_some_and(|first| first.ident == "Self");
        visit::visit_path(self, path);
    }
}

/// Makes every lifetime `'static`, also those that are not written.
struct Unborrowed;

impl VisitMut for Unborrowed {
    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        lifetime.ident = syn::Ident::new("static", lifetime.ident.span());
    }

    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        reference.lifetime.get_or_insert_with(|| Lifetime::new("'static", reference.and_token.spans[0]));
        visit_mut::visit_type_reference_mut(self, reference);
    }

    // `for<'a>` declares its own.
    fn visit_type_trait_object_mut(&mut self, _: &mut TypeTraitObject) {}
}
