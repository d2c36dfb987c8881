//! What the errors of reading and writing have in common.

use std::fmt::{self, Display, Write};

/// The most bytes kept of a text that is not ours: a type's own error may quote the whole message.
const MAX_REASON: usize = 1024;

/// What an error is about.
pub(super) fn subject(argument: Option<&str>, type_name: &str) -> String {
    match argument {
        Some(name) => format!("argument `{name}` of type `{type_name}`"),
        None => format!("a value of type `{type_name}`"),
    }
}

/// The beginning of a text that is not ours.
pub(super) fn brief(text: impl Display) -> String {
    let mut brief = Brief(String::new());
    // An error means that the text is cut, or that it cannot say more.
    if write!(brief, "{text}").is_err() {
        brief.0.push_str("...");
    }
    brief.0
}

struct Brief(String);

impl Write for Brief {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_REASON - self.0.len();
        let fitting = text.floor_char_boundary(room);
        self.0.push_str(&text[..fitting]);
        if fitting == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let brief = brief(format_args!("{}{}", "x".repeat(MAX_REASON - 1), "é".repeat(1 << 20)));
        assert_eq!(brief, format!("{}...", "x".repeat(MAX_REASON - 1)));
    }

    #[test]
    fn a_short_text_is_kept() {
        assert_eq!(brief("é".repeat(MAX_REASON / 2)), "é".repeat(MAX_REASON / 2));
    }
}
