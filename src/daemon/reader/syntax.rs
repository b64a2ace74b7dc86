//! Mistakes in TOML's own grammar, which the `toml` crate finds.
//!
//! It says them in the words of the grammar; the common ones are said here in other words.

use super::super::diagnostic::Problem;

/// What the TOML parser says, in the words of somebody who does not know its grammar by heart.
pub(super) fn problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(text.len()..text.len());
    let place = &text[span.clone()];
    let (what, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let word = bare_word(text, span.start);
    let (message, help) = match what {
        "duplicate key" if text[..span.start].trim_end().ends_with('[') => (
            format!("`{}` is there twice", place.escape_debug()),
            "keep one of the two; every item of a list of tables has its header in double brackets"
                .to_owned(),
        ),
        "duplicate key" => (
            format!("`{}` is given twice in the same table", place.escape_debug()),
            "keep one of the two".to_owned(),
        ),
        "string values must be quoted" if place.trim().is_empty() => {
            ("there is no value after `=`".to_owned(), "write a value, or leave the key out".to_owned())
        }
        "string values must be quoted" => (
            format!("`{}` is not a value", place.escape_debug()),
            format!("text, durations and percentages are written in quotes: \"{}\"", place.escape_debug()),
        ),
        "invalid basic string" | "invalid literal string" if expected == "`\"`" || expected == "`'`" => {
            ("this text has no closing quote".to_owned(), format!("end it with {expected}"))
        }
        _ if what.starts_with("invalid") && !what.contains("key") && word.is_some() => {
            let word = word.unwrap_or_default();
            (format!("`{word}` is not a value"), format!("text is written in quotes: \"{word}\""))
        }
        _ if expected.is_empty() || expected == "nothing" => {
            (what.to_owned(), "the grammar is TOML's: https://toml.io".to_owned())
        }
        _ => (what.to_owned(), format!("expected here: {expected}")),
    };
    Problem { span, message, help, related: None }
}

/// The word without quotes around `offset`, when it stands where a value should.
fn bare_word(text: &str, offset: usize) -> Option<&str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let start = text[..offset].trim_end_matches(is_word).len();
    let word = &text[start..];
    let word = &word[..word.find(|c| !is_word(c)).unwrap_or(word.len())];
    let is_value = text[..start].trim_end().ends_with(['=', ',', '[']);
    (is_value && word.starts_with(char::is_alphabetic)).then_some(word)
}
