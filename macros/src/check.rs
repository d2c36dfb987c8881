//! Every rule of `#[process]` and `#[main]`, each with the words that say what to do instead.
//!
//! Whether a type can travel is not a rule of the macro's: only the compiler knows, by the trait `Message`.

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Generics, Lifetime, Path, Safety, Signature, Type, TypeFnPtr, TypeImplTrait, TypeInfer,
    TypeNever, TypePtr, TypeReference, TypeTraitObject,
};

use crate::errors::Errors;
use crate::model::{Argument, Function, Item};
use crate::options::Options;

/// The rules of `#[process]`.
pub(crate) fn process(function: &Function, options: &Options, errors: &mut Errors) {
    attributes(&function.body_attributes, errors);
    threads(function, options, errors);
    qualifiers(&function.signature, errors);
    lifetime_parameters(&function.signature.generics, errors);
    receiver(function, errors);
    for argument in &function.arguments {
        conditional(argument, errors);
        travels(argument.ty(), Position::Argument, errors);
    }
    travels(&function.output, Position::Result, errors);
}

/// The rules of `#[main]`.
pub(crate) fn main(item: &Item, errors: &mut Errors) {
    let signature = &item.signature;
    if signature.ident != "main" {
        errors.on(
            &signature.ident,
            "this attribute is for the program's `main`; elsewhere call `procession::init()`",
        );
    }
    if !signature.inputs.is_empty() {
        errors.on(&signature.inputs, "`main` has no arguments: read them from `std::env::args()`");
    }
    if !signature.generics.params.is_empty() {
        errors.on(&signature.generics, "`main` cannot be generic: nobody calls it with a type");
    }
    qualifiers(signature, errors);
    for attribute in &item.attributes {
        if signature.asyncness.is_some() && last_segment_is(attribute.path(), &["main"]) {
            errors.on(
                attribute,
                "an async `main` has a runtime of its own already: remove one of the two attributes",
            );
        }
    }
}

fn attributes(attributes: &[Attribute], errors: &mut Errors) {
    for attribute in attributes {
        if last_segment_is(attribute.path(), &["process", "main", "test", "bench"]) {
            errors.on(
                attribute,
                "this attribute cannot stand on a process function: put it on a function that calls this one",
            );
        }
    }
}

fn last_segment_is(path: &Path, names: &[&str]) -> bool {
    path.segments.last().is_some_and(|segment| names.iter().any(|name| segment.ident == name))
}

fn threads(function: &Function, options: &Options, errors: &mut Errors) {
    if let (false, Some(threads)) = (function.is_async(), &options.threads) {
        errors.on(
            &threads.key,
            "a plain `fn` has no runtime, so no worker threads: make it an `async fn`, or remove `threads`",
        );
    }
}

fn qualifiers(signature: &Signature, errors: &mut Errors) {
    if let Some(token) = &signature.constness {
        errors
            .on(token, "this function cannot be `const`, because it needs a running process: remove `const`");
    }
    if let Safety::Unsafe(token) = &signature.safety {
        errors.on(
            token,
            "this function cannot be `unsafe`, because its caller is not who runs it: \
                          put the `unsafe` block in its body",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.on(abi, "this function cannot be `extern`: call it from an `extern` function");
    }
    if let Some(variadic) = &signature.variadic {
        errors.on(variadic, "variadic arguments cannot travel to another process: take a `Vec`");
    }
}

fn lifetime_parameters(generics: &Generics, errors: &mut Errors) {
    for lifetime in generics.lifetimes() {
        errors.on(
            lifetime,
            "a process function has no lifetime parameters, because nothing borrowed can travel to \
                             another process: take and return owned values",
        );
    }
}

fn receiver(function: &Function, errors: &mut Errors) {
    if let Some(receiver) = function.receiver() {
        errors.on(
            receiver,
            "a process function has no `self`: make it a free function that takes what it needs",
        );
    }
}

fn conditional(argument: &Argument, errors: &mut Errors) {
    for attribute in &argument.written.attrs {
        if last_segment_is(attribute.path(), &["cfg", "cfg_attr"]) {
            errors.on(attribute, "an argument cannot be conditional: write one function for each condition");
        }
    }
}

/// Tells everything in the type that could not travel, whatever it implements.
fn travels(ty: &Type, position: Position, errors: &mut Errors) {
    if is_unsized(ty) {
        let (noun, take, owned) = (position.noun(), position.do_this(), owned(ty));
        errors.on(ty, format_args!("a type without a size cannot be {noun}: {take} `{owned}`"));
    } else {
        Travel { position, errors }.visit_type(ty);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Position {
    Argument,
    Result,
}

impl Position {
    fn noun(self) -> &'static str {
        match self {
            Self::Argument => "an argument",
            Self::Result => "a result",
        }
    }

    fn do_this(self) -> &'static str {
        match self {
            Self::Argument => "take",
            Self::Result => "return",
        }
    }
}

struct Travel<'a> {
    position: Position,
    errors: &'a mut Errors,
}

impl<'ast> Visit<'ast> for Travel<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let (noun, take, owned) = (self.position.noun(), self.position.do_this(), owned(&reference.elem));
        self.errors.on(
            reference,
            format_args!("{noun} cannot borrow, because it travels to another process: {take} `{owned}`"),
        );
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        // `Cow<'static, str>` owns what it read.
        if lifetime.ident != "static" {
            let (noun, take) = (self.position.noun(), self.position.do_this());
            self.errors.on(
                lifetime,
                format_args!(
                    "{noun} cannot borrow, because it travels to another process: {take} an owned value"
                ),
            );
        }
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        let help = match self.position {
            Position::Argument => {
                "make it a type parameter, like `fn f<T: Trait + procession::Message>(value: T)`"
            }
            Position::Result => "write the type's name",
        };
        self.errors.on(ty, format_args!("`impl Trait` hides what travels to another process: {help}"));
    }

    fn visit_type_trait_object(&mut self, ty: &'ast TypeTraitObject) {
        self.errors
            .on(ty, "a trait object cannot travel to another process: use a struct, or an enum of all cases");
    }

    fn visit_type_ptr(&mut self, ty: &'ast TypePtr) {
        self.errors.on(ty, "a pointer means nothing in another process: send what it points to");
    }

    fn visit_type_never(&mut self, ty: &'ast TypeNever) {
        self.errors
            .on(ty, "a process function returns: remove `-> !`, and let a caller stop it by its `Process`");
    }

    fn visit_type_infer(&mut self, ty: &'ast TypeInfer) {
        self.errors.on(ty, "the type that travels to another process cannot be inferred: write its name");
    }

    fn visit_path(&mut self, path: &'ast Path) {
        match path.segments.first() {
            Some(first) if first.ident == "Self" => {
                self.errors
                    .on(&first.ident, "`Self` has no meaning in a process function: write the type's name");
            }
            _ => visit::visit_path(self, path),
        }
    }

    // Its references are no borrows; whether it can travel is for the compiler to say.
    fn visit_type_fn_ptr(&mut self, _: &'ast TypeFnPtr) {}
}

/// `str`, `[T]`.
pub(crate) fn is_unsized(ty: &Type) -> bool {
    match ty {
        Type::Slice(_) => true,
        Type::Path(ty) => ty.path.is_ident("str"),
        Type::Paren(ty) => is_unsized(&ty.elem),
        Type::Group(ty) => is_unsized(&ty.elem),
        _ => false,
    }
}

/// What to write in place of `&ty`.
fn owned(ty: &Type) -> String {
    match ty {
        Type::Slice(slice) => format!("Vec<{}>", written(&slice.elem)),
        Type::Path(ty) if ty.path.is_ident("str") => "String".to_owned(),
        Type::Path(ty) if last_segment_is(&ty.path, &["Path"]) => "PathBuf".to_owned(),
        Type::Path(ty) if last_segment_is(&ty.path, &["OsStr"]) => "OsString".to_owned(),
        Type::Paren(ty) => owned(&ty.elem),
        Type::Group(ty) => owned(&ty.elem),
        Type::Reference(reference) => owned(&reference.elem),
        other => written(other),
    }
}

/// The type in its usual spacing, which token streams do not keep.
fn written(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    text.replace(" < ", "<").replace(" >", ">").replace(" :: ", "::").replace(" ,", ",").replace("& ", "&")
}
