//! Names in a scenario file, and finding what they name.
//!
//! Once something with a name was refused, a name that can't be found is no news: the user is told about the first
//! mistake, not about what follows from it.

use std::collections::BTreeMap;

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Refused, Table, Value, suggestion, text};

/// Names of one kind and what they stand for.
pub(super) struct Names<T> {
    kind: &'static str,
    entries: Vec<(String, Span, T)>,
    /// Where in `entries` a name is.
    index: BTreeMap<String, usize>,
    refused: Option<Refused>,
}

impl<T> Names<T> {
    /// No names yet; `kind` is what messages call one of them: "node".
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, entries: Vec::new(), index: BTreeMap::new(), refused: None }
    }

    /// Notes that something is missing here, and that the user knows.
    pub(super) fn refuse(&mut self, refused: Refused) {
        self.refused = Some(refused);
    }

    /// Adds a name that is written at `span`, and refuses it when there is one like it.
    pub(super) fn add(&mut self, table: &Table<'_>, name: &str, span: Span, meaning: T) {
        if let Some(first) = self.index.get(name).map(|at| &self.entries[*at].1) {
            let message = format!("there are two {}s called `{name}`", self.kind);
            let related = (first.clone(), "the other one");
            self.refused = Some(table.refuse_with(span, message, "give one of them another name", related));
        } else {
            self.index.insert(name.to_owned(), self.entries.len());
            self.entries.push((name.to_owned(), span, meaning));
        }
    }

    /// What `name` stands for; `value` is where it is used.
    pub(super) fn find(&self, value: &Value<'_>, name: &str) -> Result<&T, Refused> {
        self.meaning(name).map_err(|unknown| match unknown {
            Ok((message, help)) => value.refuse(message, help),
            Err(refused) => refused,
        })
    }

    /// As [`Names::find`], for a name that was taken out of its value before.
    pub(super) fn find_at(&self, table: &Table<'_>, span: &Span, name: &str) -> Result<&T, Refused> {
        self.meaning(name).map_err(|unknown| match unknown {
            Ok((message, help)) => table.refuse(span.clone(), message, help),
            Err(refused) => refused,
        })
    }

    /// What `name` stands for, or what to tell the user, unless that was told before.
    fn meaning(&self, name: &str) -> Result<&T, Result<(String, String), Refused>> {
        if let Some(at) = self.index.get(name) {
            return Ok(&self.entries[*at].2);
        }
        Err(self.refused.map_or_else(
            || {
                let names = self.entries.iter().map(|(name, ..)| name.as_str());
                let help = suggestion(name, &format!("the {}s are", self.kind), names);
                Ok((format!("there is no {} `{}`", self.kind, name.escape_debug()), help))
            },
            Err,
        ))
    }

    /// Whether everything that the file names is here.
    pub(super) fn complete(&self) -> Result<(), Refused> {
        self.refused.map_or(Ok(()), Err)
    }
}

/// The longest name of a segment or a node, as long as a label of a host name.
const NAME_BYTES_MAX: usize = 63;

/// A name as segments and nodes have them: letters, digits, `-`, `_` and `.`, so that it can stand in a host name, a
/// file name and a column of a report.
pub(super) fn name(value: Value<'_>) -> Result<String, Refused> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(text) = value.as_str()
        && (text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(is_plain))
    {
        let message = format!("`{}` can't be a name", text.escape_debug());
        let help = format!("a name has 1 to {NAME_BYTES_MAX} characters: letters, digits, `-`, `_` and `.`");
        return Err(value.refuse(message, help));
    }
    text(value)
}
