//! What the workers do: parse a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use procession::{Failure, process};
use rustix::stdio::{dup2_stderr, dup2_stdout};
use serde::{Deserialize, Serialize};
use syn::visit::{self, Visit};
use syn::{ImplItemFn, Item, TraitItemFn};

/// What is known of a file that could be read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FileReport {
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    /// How long it took to read and to parse it.
    pub(crate) took: Duration,
    pub(crate) parsed: Result<Items, SyntaxError>,
}

/// How many items of each kind there are.
pub(crate) type Items = BTreeMap<Kind, u64>;

/// Why a file is not Rust, to this parser at least.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// A kind of item, in the words of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Fn,
    /// A function in an `impl` or a `trait`.
    Method,
    Struct,
    Enum,
    Union,
    Trait,
    Impl,
    Type,
    Const,
    Static,
    Mod,
    Use,
    /// Of other languages: an `extern` block or an `extern crate`.
    Extern,
    /// A `macro_rules!` and its like.
    Macro,
    /// A macro that is used where an item is expected.
    Invocation,
    /// What the parser lets pass without a name for it.
    Other,
}

// ANCHOR: worker
/// What each worker does first. What a parser says when it dies would run through the progress bar; what it died of is in the outcome.
#[process]
pub(crate) fn be_silent() -> Result<(), Failure> {
    let nobody = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&nobody)?;
    dup2_stderr(&nobody)?;
    Ok(())
}

/// Parses a file. Its number comes back with the report, because reports come as they are done.
///
/// The path is an `OsString`, because a `Path` that is not UTF-8 cannot be serialised.
#[process]
pub(crate) fn parse(number: usize, path: OsString) -> (usize, Result<FileReport, Failure>) {
    (number, report(path.as_ref()))
}
// ANCHOR_END: worker

/// Any error can be a [`Failure`], which can travel: here, that of a file that cannot be read.
fn report(path: &Path) -> Result<FileReport, Failure> {
    let began = Instant::now();
    let content = fs::read(path)?;
    let parsed = items(&content);
    Ok(FileReport { bytes: content.len() as u64, lines: lines(&content), took: began.elapsed(), parsed })
}

fn items(content: &[u8]) -> Result<Items, SyntaxError> {
    let text = str::from_utf8(content).map_err(|error| not_text(&content[..error.valid_up_to()]))?;
    let file = syn::parse_file(text)?;
    let mut counter = Counter::default();
    counter.visit_file(&file);
    Ok(counter.items)
}

/// A last line counts, whether or not it is ended.
fn lines(content: &[u8]) -> u64 {
    let ends = content.iter().filter(|byte| **byte == b'\n').count() as u64;
    ends + u64::from(content.last().is_some_and(|byte| *byte != b'\n'))
}

fn not_text(before: &[u8]) -> SyntaxError {
    let in_line = before.iter().rev().take_while(|byte| **byte != b'\n').count();
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    SyntaxError { line, column: 1 + in_line, message: "this is not UTF-8".into() }
}

impl From<syn::Error> for SyntaxError {
    fn from(error: syn::Error) -> Self {
        let at = error.span().start();
        Self { line: at.line, column: at.column + 1, message: error.to_string() }
    }
}

/// Counts items at any depth: in modules, in other items, and in the bodies of functions.
#[derive(Debug, Default)]
struct Counter {
    items: Items,
}

impl Counter {
    fn count(&mut self, kind: Kind) {
        *self.items.entry(kind).or_default() += 1;
    }
}

impl<'ast> Visit<'ast> for Counter {
    fn visit_item(&mut self, item: &'ast Item) {
        self.count(Kind::of(item));
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, method: &'ast ImplItemFn) {
        self.count(Kind::Method);
        visit::visit_impl_item_fn(self, method);
    }

    fn visit_trait_item_fn(&mut self, method: &'ast TraitItemFn) {
        self.count(Kind::Method);
        visit::visit_trait_item_fn(self, method);
    }
}

impl Kind {
    fn of(item: &Item) -> Self {
        match item {
            Item::Fn(_) => Self::Fn,
            Item::Struct(_) => Self::Struct,
            Item::Enum(_) => Self::Enum,
            Item::Union(_) => Self::Union,
            Item::Trait(_) | Item::TraitAlias(_) => Self::Trait,
            Item::Impl(_) => Self::Impl,
            Item::Type(_) => Self::Type,
            Item::Const(_) => Self::Const,
            Item::Static(_) => Self::Static,
            Item::Mod(_) => Self::Mod,
            Item::Use(_) => Self::Use,
            Item::ExternCrate(_) | Item::ForeignMod(_) => Self::Extern,
            Item::Macro(item) if item.ident.is_some() => Self::Macro,
            Item::Macro(_) => Self::Invocation,
            _ => Self::Other,
        }
    }
}
