//! What is wrong in a file, said so that the person who wrote it can put it right.
//!
//! Every [`Problem`] points at a place, says what is wrong there, and says what would be right. [`Diagnostics`] is all
//! the problems of one file together, with its text, and draws them. Finding problems is the business of `reader` and of
//! whoever checks values.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Byte offsets in a file's text.
pub type Span = Range<usize>;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub span: Span,
    /// What is wrong, in the words of the person who wrote the file.
    pub message: String,
    /// What would be right.
    pub help: String,
    /// Another place that the mistake has to do with, and what it is.
    pub related: Option<(Span, String)>,
}

/// What is wrong in one file: at least one problem, in the order of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostics {
    source_name: String,
    text: String,
    problems: Vec<Problem>,
}

impl Diagnostics {
    /// The problems of the file `source_name` with the given text; `None` when there are none.
    pub fn new(source_name: &str, text: &str, mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        let (source_name, text) = (source_name.to_owned(), text.to_owned());
        (!problems.is_empty()).then_some(Self { source_name, text, problems })
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Line and column of a problem, both counted from 1, the column in characters.
    pub fn position(&self, problem: &Problem) -> (usize, usize) {
        position(&self.text, problem.span.start)
    }

    /// The problems with the lines they are about: for a terminal with colours, or plain.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let drawn = self.problems.iter().map(|problem| {
            let mut snippet = Snippet::source(self.text.as_str())
                .path(self.source_name.as_str())
                .annotation(AnnotationKind::Primary.span(problem.span.clone()));
            if let Some((span, label)) = &problem.related {
                snippet =
                    snippet.annotation(AnnotationKind::Context.span(span.clone()).label(label.as_str()));
            }
            let title = Level::ERROR.primary_title(problem.message.as_str());
            renderer.render(&[title.element(snippet).element(Level::HELP.message(problem.help.as_str()))])
        });
        drawn.collect::<Vec<_>>().join("\n\n")
    }
}

/// Line and column of a byte offset, both counted from 1, the column in characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.char_indices().take_while(|(at, _)| *at < offset);
    before.fold((1, 1), |(line, column), (_, c)| if c == '\n' { (line + 1, 1) } else { (line, column + 1) })
}

impl fmt::Display for Diagnostics {
    /// The plain rendering.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Diagnostics {}

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read: it is missing, is not ours to read, or is not UTF-8.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file was read, and its author has to put something right.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

impl LoadError {
    /// Reads the file at `path` and hands its name and text to `parse`.
    ///
    /// # Errors
    /// [`LoadError::Read`] when it can't be read; [`LoadError::Invalid`] with what `parse` says.
    pub fn load<T>(path: &Path, parse: impl FnOnce(&str, &str) -> Result<T, Diagnostics>) -> Result<T, Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Self::Read { path: path.to_owned(), source })?;
        Ok(parse(&path.display().to_string(), &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(span: Span, message: &str, related: Option<(Span, String)>) -> Problem {
        Problem { span, message: message.to_owned(), help: "write it otherwise".to_owned(), related }
    }

    #[test]
    fn problems_are_drawn_in_the_order_of_the_file_with_the_lines_they_are_about() {
        let text = "[zre]\nname = \"é\" # tab\tand wide\nport = 0\n";
        let second = text.find('0').unwrap();
        let problems = vec![
            problem(second..second + 1, "second", Some((1..4, "in this table".to_owned()))),
            problem(13..17, "first", None),
        ];
        let found = Diagnostics::new("dir/hailer.toml", text, problems).unwrap();
        assert_eq!(
            found.to_string(),
            "\
error: first
 --> dir/hailer.toml:2:8
  |
2 | name = \"é\" # tab    and wide
  |        ^^^
  |
  = help: write it otherwise

error: second
 --> dir/hailer.toml:3:8
  |
1 | [zre]
  |  --- in this table
2 | name = \"é\" # tab    and wide
3 | port = 0
  |        ^
  |
  = help: write it otherwise"
        );
        let positions: Vec<_> = found.problems().iter().map(|problem| found.position(problem)).collect();
        assert_eq!(positions, [(2, 8), (3, 8)]);
        assert!(found.render(true).contains('\u{1b}'));
        assert!(!found.render(false).contains('\u{1b}'));
    }

    #[test]
    fn a_problem_at_the_end_of_the_text_can_be_drawn() {
        for text in ["", "a", "a\n", "é"] {
            let found =
                Diagnostics::new("f", text, vec![problem(text.len()..text.len(), "cut", None)]).unwrap();
            assert!(found.to_string().starts_with("error: cut\n"), "{text:?}");
        }
        assert_eq!(Diagnostics::new("f", "", Vec::new()), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = LoadError::load(Path::new("/nowhere/hailer.toml"), |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/hailer.toml");
    }
}
