//! Reads the tables of a configuration file key by key, noting faults and going on.
//!
//! A reader asks for the keys it knows; what is left when it is done is unknown, and a fault. So the code that reads a
//! section is at the same time the list of its keys.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::Source;

/// One value of the file, and its path.
#[derive(Clone)]
pub(super) struct Node<'a> {
    source: &'a Source<'a>,
    path: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Node<'a> {
    /// Notes that this value is wrong.
    pub(super) fn fault(&self, text: impl Into<String>) {
        self.source.fault(&self.path, Some(self.line()), text);
    }

    /// The value as the file has it.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    fn line(&self) -> usize {
        self.source.line(self.value.span().start)
    }

    /// Notes that this value is of the wrong type.
    pub(super) fn expected(&self, what: &str) {
        self.fault(format!("must be {what}, not {}", article(self.value().type_str())));
    }

    /// The string, with its variables replaced; `what` is said when it is none.
    pub(super) fn text(&self, what: &str) -> Option<String> {
        let DeValue::String(text) = self.value() else {
            self.expected(what);
            return None;
        };
        self.source.expand(text).map_err(|fault| self.fault(fault)).ok()
    }

    /// The string, made into something else.
    pub(super) fn parse<T>(&self, what: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parse(&self.text(what)?).map_err(|fault| self.fault(fault)).ok()
    }

    /// The members of an array.
    pub(super) fn members(&self) -> Option<Vec<Node<'a>>> {
        let DeValue::Array(members) = self.value() else {
            self.expected("an array");
            return None;
        };
        let member = |(at, value)| Node { source: self.source, path: format!("{}[{at}]", self.path), value };
        Some(members.iter().enumerate().map(member).collect())
    }

    /// Reads a table with `settle`; keys it did not ask for are faults.
    pub(super) fn table<T>(&self, settle: impl FnOnce(&mut Table<'a>) -> Option<T>) -> Option<T> {
        let DeValue::Table(entries) = self.value() else {
            self.expected("a table");
            return None;
        };
        let mut table = Table::new(self.source, self.path.clone(), Some(self.line()), entries);
        let settled = settle(&mut table);
        table.finish();
        settled
    }
}

fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

/// Where something stands, for faults that show only when other sections are known.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    path: String,
    line: Option<usize>,
}

/// A value that can be read from the file.
pub(super) trait Read: Sized {
    /// Reads it; notes the fault and answers `None` when it is wrong.
    fn read(node: &Node<'_>) -> Option<Self>;
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node<'_>) -> Option<Self> {
        let members = node.members()?;
        // All are read before any is missed, so that each fault is noted.
        let read: Vec<_> = members.iter().map(T::read).collect();
        read.into_iter().collect()
    }
}

/// A table, and which of its keys were asked for.
pub(super) struct Table<'a> {
    source: &'a Source<'a>,
    path: String,
    line: Option<usize>,
    left: Vec<(&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)>,
    known: Vec<&'static str>,
    lines: Vec<(&'static str, usize)>,
    forgiving: bool,
}

impl<'a> Table<'a> {
    /// The reader of `entries`, which stand under `path`.
    pub(super) fn new(source: &'a Source<'a>, path: String, line: Option<usize>, entries: &'a DeTable<'a>) -> Self {
        Self {
            source,
            path,
            line,
            left: entries.iter().collect(),
            known: Vec::new(),
            lines: Vec::new(),
            forgiving: false,
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a fault of the key `key`, or of the table when `key` is empty.
    pub(super) fn fault(&self, key: &str, text: impl Into<String>) {
        self.fault_at(&self.spot(key), text);
    }

    /// Notes a fault at a spot, of any table of the file.
    pub(super) fn fault_at(&self, spot: &Spot, text: impl Into<String>) {
        self.source.fault(&spot.path, spot.line, text);
    }

    /// Where the key `key` stands, or the table when `key` is empty or not there.
    pub(super) fn spot(&self, key: &str) -> Spot {
        let path = if key.is_empty() { self.path.clone() } else { self.path_of(key) };
        let own = self.lines.iter().find(|(known, _)| *known == key).map(|(_, line)| *line);
        Spot { path, line: own.or(self.line) }
    }

    /// Whether `key` was read and is there.
    pub(super) fn was_given(&self, key: &str) -> bool {
        self.lines.iter().any(|(known, _)| *known == key)
    }

    /// The value of `key`, if it is there.
    pub(super) fn node(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.known.push(key);
        let at = self.left.iter().position(|(name, _)| name.get_ref() == key)?;
        let (_, value) = self.left.swap_remove(at);
        let node = Node { source: self.source, path: self.path_of(key), value };
        self.lines.push((key, node.line()));
        Some(node)
    }

    /// The value of `key`; `None` when it is missing or wrong.
    pub(super) fn optional<T: Read>(&mut self, key: &'static str) -> Option<T> {
        T::read(&self.node(key)?)
    }

    /// The value of `key`, which must be there.
    pub(super) fn required<T: Read>(&mut self, key: &'static str) -> Option<T> {
        let Some(node) = self.node(key) else {
            self.fault(key, "is missing");
            return None;
        };
        T::read(&node)
    }

    /// The value of `key`, or `default` when it is missing. Also when it is wrong: the fault is noted, reading goes on.
    pub(super) fn or<T: Read>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The value of `key` if it lies in `range`; else as [`Table::or`].
    pub(super) fn within<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Read + PartialOrd + Shown,
    {
        self.optional_within(key, range).unwrap_or(default)
    }

    /// The value of `key` if it is there and lies in `range`.
    pub(super) fn optional_within<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: Read + PartialOrd + Shown,
    {
        let node = self.node(key)?;
        let value = T::read(&node)?;
        if range.contains(&value) {
            return Some(value);
        }
        node.fault(format!("must lie between {} and {}", range.start().shown(), range.end().shown()));
        None
    }

    /// Reads the table `key` with `settle`, which sees an empty one when it is missing.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        settle: impl FnOnce(&mut Table<'_>) -> Option<T>,
    ) -> Option<T> {
        if let Some(node) = self.node(key) {
            return node.table(settle);
        }
        let none = DeTable::new();
        settle(&mut Table::new(self.source, self.path_of(key), self.line, &none))
    }

    /// Reads the table `key` with `settle`, if it is there.
    pub(super) fn optional_section<T>(
        &mut self,
        key: &'static str,
        settle: impl FnOnce(&mut Table<'_>) -> Option<T>,
    ) -> Option<T> {
        self.node(key)?.table(settle)
    }

    /// Reads each table of the array `key` with `settle`; none when it is missing. The faulty are left out.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut settle: impl FnMut(&mut Table<'_>) -> Option<T>,
    ) -> Vec<T> {
        let members = self.node(key).and_then(|node| node.members()).unwrap_or_default();
        members.iter().filter_map(|member| member.table(&mut settle)).collect()
    }

    /// Lets keys pass that nobody asked for so far, and will not ask for.
    pub(super) fn forgive(&mut self) {
        self.forgiving = true;
    }

    /// Notes every key nobody asked for.
    pub(super) fn finish(self) {
        if self.forgiving {
            return;
        }
        for (key, _) in &self.left {
            let line = self.source.line(key.span().start);
            let hint = nearest(key.get_ref(), &self.known).map(|near| format!("; did you mean {near}?"));
            let text = format!("is not a key of this version{}", hint.unwrap_or_default());
            self.source.fault(&self.path_of(key.get_ref()), Some(line), text);
        }
    }
}

/// How a bound is shown in a fault.
pub(super) trait Shown {
    /// As it would stand in the file.
    fn shown(&self) -> String;
}

macro_rules! shown_as_displayed {
    ($($number:ty),+) => {
        $(impl Shown for $number {
            fn shown(&self) -> String {
                display(self)
            }
        })+
    };
}

shown_as_displayed!(u32, u64, usize, f64);

fn display(value: &impl Display) -> String {
    value.to_string()
}

/// The known key that was probably meant.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = key.to_lowercase();
    let candidates = known.iter().map(|name| (distance(&key, name), *name));
    let (distance, name) = candidates.min()?;
    (distance <= name.len().max(3) / 3).then_some(name)
}

/// Levenshtein's distance; keys beyond 64 characters are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.chars().zip(row.iter().skip(1)) {
            left = (corner + usize::from(x != y)).min(above + 1).min(left + 1);
            corner = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        let known = ["listen", "timeouts", "max_staleness"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("timeout", &known), Some("timeouts"));
        assert_eq!(nearest("Max_Stalenes", &known), Some("max_staleness"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
