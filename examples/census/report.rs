//! Printing the census for people.

use std::fmt::{self, Display, Formatter};

use indicatif::{DecimalBytes, HumanCount};

use crate::census::{Census, Lost, Ranked};
use crate::parse::{Kind, SyntaxError};

impl Display for Census {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (files, lines) = (HumanCount(self.files()), HumanCount(self.lines));
        writeln!(f, "{files} files, {lines} lines, {}", DecimalBytes(self.bytes))?;
        self.items(f)?;
        top(f, "largest", &self.largest, |file| DecimalBytes(file.bytes).to_string())?;
        top(f, "slowest", &self.slowest, |file| format!("{:.1} ms", file.took.as_secs_f64() * 1e3))?;
        self.unparsed(f)?;
        lost(f, "not read", &self.unread)?;
        lost(f, "lost with their process", &self.lost)?;
        self.effort(f)?;
        self.pool.as_ref().map_or(Ok(()), |pool| writeln!(f, "\n{pool}"))
    }
}

impl Census {
    fn items(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nitems in the {} files that were parsed", HumanCount(self.parsed))?;
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by_key(|(_kind, count)| std::cmp::Reverse(**count));
        for (kind, count) in items {
            writeln!(f, "{:>12}  {}", HumanCount(*count).to_string(), kind.name())?;
        }
        Ok(())
    }

    fn unparsed(&self, f: &mut Formatter<'_>) -> fmt::Result {
        heading(f, "not parsed", self.unparsed.len())?;
        for file in &self.unparsed {
            let SyntaxError { line, column, message } = &file.error;
            writeln!(f, "  {}:{line}:{column}: {message}", file.path)?;
        }
        Ok(())
    }

    fn effort(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (took, processes) = (self.took.as_secs_f64(), HumanCount(self.processes));
        write!(f, "\n{took:.2} s in {processes} processes, {} at a time: ", self.jobs)?;
        writeln!(f, "{:.0} files/s, {:.1} MB/s", self.files_per_second, self.megabytes_per_second)
    }
}

fn top(
    f: &mut Formatter<'_>,
    name: &str,
    files: &[Ranked],
    value: impl Fn(&Ranked) -> String,
) -> fmt::Result {
    writeln!(f, "\n{name} files")?;
    files.iter().try_for_each(|file| writeln!(f, "{:>12}  {}", value(file), file.path))
}

fn lost(f: &mut Formatter<'_>, what: &str, files: &[Lost]) -> fmt::Result {
    heading(f, what, files.len())?;
    files.iter().try_for_each(|file| writeln!(f, "  {}: {}", file.path, file.cause))
}

/// Nothing, where nothing follows.
fn heading(f: &mut Formatter<'_>, what: &str, count: usize) -> fmt::Result {
    if count == 0 { Ok(()) } else { writeln!(f, "\n{what}: {}", HumanCount(count as u64)) }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Fn => "fn",
            Self::Method => "fn in an impl or a trait",
            Self::Struct => "struct",
            Self::Enum => "enum",
            Self::Union => "union",
            Self::Trait => "trait",
            Self::Impl => "impl",
            Self::Type => "type",
            Self::Const => "const",
            Self::Static => "static",
            Self::Mod => "mod",
            Self::Use => "use",
            Self::Extern => "extern",
            Self::Macro => "macro",
            Self::Invocation => "macro invocation",
            Self::Other => "other",
        }
    }
}
