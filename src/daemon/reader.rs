//! Reads TOML tables key by key and remembers every mistake with its place.
//!
//! Keys are taken one by one; a key that nobody asked for is a mistake, so the keys that exist are written down once,
//! where they are read. A wrong value is reported at once and leaves a [`Refused`] behind, which stands for "somebody has
//! told the user": reading goes on, so that all mistakes of a file are found in one go, and whoever needs the value
//! passes the `Refused` on with `?` after the last key of a table.
//!
//! This is for configuration and scenario files alike. What the values mean is not its business.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostics, Problem, Span};

mod kinds;
mod syntax;

use kinds::nearest;
pub use kinds::{
    DURATION_MAX, NotADuration, amount, bandwidth, duration, integer, one_of, parse_duration, quantity,
    suggestion, text, text_up_to, written,
};

/// A mistake was found, and is reported now or when its table ends. Nothing else makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(());

/// A value and its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub span: Span,
}

/// Reads the file `source_name` with the given text: `read` takes what it knows from the top table.
///
/// # Errors
/// Every mistake that was found, whether or not `read` came through.
pub fn read<T>(
    source_name: &str,
    text: &str,
    read: impl FnOnce(&mut Table<'_>) -> Result<T, Refused>,
) -> Result<T, Diagnostics> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<_> = errors.iter().map(|error| syntax::problem(text, error)).collect();
    // What follows a mistake in the grammar is guesswork, so values are looked at only when there is none.
    let mut outcome = Err(Refused(()));
    if problems.is_empty() {
        let reported = Reported::default();
        outcome = Table::read(String::new(), false, 0..0, document.get_ref(), &reported, read);
        problems = reported.problems.into_inner();
    }
    match (outcome, Diagnostics::new(source_name, text, problems)) {
        (_, Some(diagnostics)) => Err(diagnostics),
        (Ok(value), None) => Ok(value),
        (Err(Refused(())), None) => unreachable!("only a report makes a Refused"),
    }
}

/// The keys that `read` takes from each table of a text, by the title of the table ([`Table::title`]): what documentation has to
/// have. The text may be wrong, but for its grammar; of a table that it does not have, nothing is known.
pub fn keys<T>(
    text: &str,
    read: impl FnOnce(&mut Table<'_>) -> Result<T, Refused>,
) -> BTreeMap<String, BTreeSet<&'static str>> {
    let (document, _) = DeTable::parse_recoverable(text);
    let reported = Reported::default();
    // Mistakes are not what is asked for.
    let _ = Table::read(String::new(), false, 0..0, document.get_ref(), &reported, read);
    reported.known.into_inner()
}

/// Where mistakes go, and which keys were asked for.
#[derive(Default)]
struct Reported {
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeMap<String, BTreeSet<&'static str>>>,
}

impl Reported {
    fn add(&self, span: Span, message: String, help: String, related: Option<(Span, String)>) -> Refused {
        self.problems.borrow_mut().push(Problem { span, message, help, related });
        Refused(())
    }
}

/// A table whose keys are being taken.
pub struct Table<'a> {
    /// `node.zre`; empty for the top of the file.
    path: String,
    is_item: bool,
    span: Span,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
    missing: Vec<Missing>,
    reported: &'a Reported,
}

impl<'a> Table<'a> {
    fn read<T>(
        path: String,
        is_item: bool,
        span: Span,
        entries: &'a DeTable<'a>,
        reported: &'a Reported,
        read: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let (known, missing) = (Vec::new(), Vec::new());
        let mut table = Self { path, is_item, span, entries, known, missing, reported };
        let outcome = read(&mut table);
        table.finish().and(outcome)
    }

    /// How messages call the table: `[zre]`, `[[node]]`.
    pub fn title(&self) -> String {
        match (self.path.as_str(), self.is_item) {
            ("", _) => "this file".to_owned(),
            (path, true) => format!("[[{path}]]"),
            (path, false) => format!("[{path}]"),
        }
    }

    /// Where the table is: its header, or all of it when it is written in braces.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Where the value at a path below this table is, or the nearest table around it.
    pub fn span_of(&self, path: &[&str]) -> Span {
        let mut span = self.span();
        let mut entries = Some(self.entries);
        for key in path {
            let Some(value) = entries.and_then(|entries| entries.get(*key)) else { break };
            span = value.span();
            entries = value.get_ref().as_table();
        }
        span
    }

    /// The value of a key that need not be there.
    ///
    /// # Errors
    /// When it is there and `read` refuses it.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, Refused>,
    ) -> Result<Option<Given<T>>, Refused> {
        self.known.push(key);
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let name = format!("`{key}`");
        let span = value.span();
        let value = Value { name, path, span: span.clone(), inner: value.get_ref(), reported: self.reported };
        Ok(Some(Given { value: read(value)?, span }))
    }

    /// The value of a key that must be there; `example` is how the file could have it.
    ///
    /// # Errors
    /// When it is not there, or `read` refuses it.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(Value<'a>) -> Result<T, Refused>,
    ) -> Result<Given<T>, Refused> {
        self.optional(key, read)?.ok_or_else(|| {
            let help = format!("add it, for example `{example}`");
            self.refuse_missing(&[key], format!("{} has no `{key}`", self.title()), help)
        })
    }

    /// Reports that none of `keys` is there, at the end and unless one of them turns out to be there with a typing mistake.
    pub fn refuse_missing(
        &mut self,
        keys: &[&'static str],
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Refused {
        self.missing.push(Missing { keys: keys.to_vec(), message: message.into(), help: help.into() });
        Refused(())
    }

    /// Which of these keys are there, with their places, in the order of the file.
    pub fn present(&mut self, keys: &[&'static str]) -> Vec<Given<&'static str>> {
        self.known.extend(keys);
        let found = keys.iter().filter_map(|key| {
            let (at, _) = self.entries.get_key_value(*key)?;
            Some(Given { value: *key, span: at.span() })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|key| key.span.start);
        found
    }

    /// Reports a mistake at `span`.
    pub fn refuse(&self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Refused {
        self.reported.add(span, message.into(), help.into(), None)
    }

    /// Reports a mistake at `span` that has to do with another place.
    pub fn refuse_with(
        &self,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
        related: (Span, &str),
    ) -> Refused {
        self.reported.add(span, message.into(), help.into(), Some((related.0, related.1.to_owned())))
    }

    /// Reports what nobody asked for, and what is missing.
    fn finish(self) -> Result<(), Refused> {
        let mut known = Vec::new();
        for key in &self.known {
            if !known.contains(key) {
                known.push(*key);
            }
        }
        self.reported.known.borrow_mut().entry(self.title()).or_default().extend(&known);
        let mut outcome = Ok(());
        let mut mistyped = Vec::new();
        for key in self.entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            mistyped.extend(nearest(key.get_ref(), known.iter().copied()));
            let message = format!("unknown key `{}` in {}", key.get_ref().escape_debug(), self.title());
            let help = suggestion(key.get_ref(), "the keys here are", known.iter().copied());
            outcome = Err(self.refuse(key.span(), message, help));
        }
        for Missing { keys, message, help } in &self.missing {
            if !keys.iter().any(|key| mistyped.contains(key)) {
                outcome = Err(self.refuse(self.span(), message, help));
            }
        }
        outcome
    }
}

/// Keys that are not there, at least one of which has to be.
struct Missing {
    keys: Vec<&'static str>,
    message: String,
    help: String,
}

/// A value that is being read.
#[derive(Clone)]
pub struct Value<'a> {
    /// How messages call it: "`port`", "an item of `groups`".
    name: String,
    path: String,
    span: Span,
    inner: &'a DeValue<'a>,
    reported: &'a Reported,
}

impl<'a> Value<'a> {
    /// How messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Reports that this value is wrong.
    pub fn refuse(&self, message: impl Into<String>, help: impl Into<String>) -> Refused {
        self.reported.add(self.span(), message.into(), help.into(), None)
    }

    /// Reports a mistake at `span`, a place that belongs to this value.
    pub fn refuse_at(&self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Refused {
        self.reported.add(span, message.into(), help.into(), None)
    }

    /// Reports that this value is not `what`.
    pub fn refuse_kind(&self, what: &str, help: impl Into<String>) -> Refused {
        let is = match self.inner {
            DeValue::String(text) => format!("the text \"{}\"", text.escape_debug()),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(value) => format!("the date or time {value}"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.refuse(format!("{} must be {what}, not {is}", self.name), help)
    }

    /// The text, when it is one.
    pub fn as_str(&self) -> Option<&'a str> {
        self.inner.as_str()
    }

    /// The text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self) -> Result<&'a str, Refused> {
        self.as_str().ok_or_else(|| self.refuse_kind("text", "write it in quotes"))
    }

    /// Whether it is true or false, when it is one of them.
    pub fn as_bool(&self) -> Option<bool> {
        self.inner.as_bool()
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.inner.is_array()
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        self.inner.is_table()
    }

    /// A table, from which `read` takes what it knows.
    ///
    /// # Errors
    /// When it is not a table, or `read` comes to nothing.
    pub fn table<T>(self, read: impl FnOnce(&mut Table<'a>) -> Result<T, Refused>) -> Result<T, Refused> {
        match self.inner {
            DeValue::Table(entries) => Table::read(self.path, false, self.span, entries, self.reported, read),
            DeValue::Array(_) => {
                Err(self
                    .refuse(format!("there is only one {}", self.name), format!("write `[{}]`", self.path)))
            }
            _ => Err(self.refuse_kind("a table", format!("write `[{}]` and its keys below", self.path))),
        }
    }

    /// A list of tables, from each of which `read` takes what it knows. Items that come to nothing are in the list too.
    ///
    /// # Errors
    /// When it is not a list of tables.
    pub fn tables<T>(
        self,
        mut read: impl FnMut(&mut Table<'a>) -> Result<T, Refused>,
    ) -> Result<Vec<Result<T, Refused>>, Refused> {
        let help = format!("write `[[{}]]`, once for each", self.path);
        let DeValue::Array(items) = self.inner else {
            return Err(self.refuse_kind("a list of tables", help));
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items.iter() {
            let DeValue::Table(entries) = item.get_ref() else {
                return Err(self.refuse_kind("a list of tables", help));
            };
            let path = self.path.clone();
            values.push(Table::read(path, true, item.span(), entries, self.reported, &mut read));
        }
        Ok(values)
    }

    /// A list, each item of which `read` makes something of.
    ///
    /// # Errors
    /// When it is not a list, or an item is refused.
    pub fn list<T>(
        self,
        what: &str,
        example: &str,
        mut read: impl FnMut(Self) -> Result<T, Refused>,
    ) -> Result<Vec<Given<T>>, Refused> {
        let DeValue::Array(items) = self.inner else {
            return Err(self.refuse_kind(what, format!("write it in brackets, for example {example}")));
        };
        let items = items.iter().map(|item| {
            let (name, path) = (format!("an item of {}", self.name), self.path.clone());
            let span = item.span();
            let value =
                Self { name, path, span: span.clone(), inner: item.get_ref(), reported: self.reported };
            Ok(Given { value: read(value)?, span })
        });
        // Every item is looked at before the first refusal ends the list.
        items.collect::<Vec<_>>().into_iter().collect()
    }

    /// A table with keys of the user's own choice, each of which `read` makes something of.
    ///
    /// # Errors
    /// When it is not a table, or a key or a value is refused.
    pub fn entries<T>(
        self,
        mut read: impl FnMut(Given<&'a str>, Self) -> Result<T, Refused>,
    ) -> Result<Vec<T>, Refused> {
        let DeValue::Table(entries) = self.inner else {
            return Err(self.refuse_kind("a table", format!("write `[{}]` and its keys below", self.path)));
        };
        let items = entries.iter().map(|(key, value)| {
            let name = format!("`{}`", key.get_ref().escape_debug());
            let key = Given { value: key.get_ref().as_ref(), span: key.span() };
            let (path, span, reported) = (self.path.clone(), value.span(), self.reported);
            read(key, Self { name, path, span, inner: value.get_ref(), reported })
        });
        items.collect::<Vec<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_table_are_those_that_are_asked_for_whatever_the_text_has() {
        let text = "[house]\nrooms = \"many\"\nattic = true\n[[house.door]]\n[[house.door]]\nwidth = 1\n";
        let found = keys(text, |file| {
            file.required("house", "[house]", |value| {
                value.table(|table| {
                    let rooms = table.required("rooms", "rooms = 3", integer(1..=9, 3));
                    table.present(&["garden", "yard"]);
                    let doors = table.optional("door", |value| {
                        value.tables(|door| door.optional("lock", |value| value.text().map(drop)))
                    });
                    rooms.and(doors)
                })
            })
        });
        let expected = [
            ("[[house.door]]", vec!["lock"]),
            ("[house]", vec!["door", "garden", "rooms", "yard"]),
            ("this file", vec!["house"]),
        ];
        let expected = expected.map(|(title, keys)| (title.to_owned(), keys.into_iter().collect()));
        assert_eq!(found, BTreeMap::from(expected));
    }
}
