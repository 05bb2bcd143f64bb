//! Everything that is wrong with a configuration file, collected instead of thrown: whoever mends one fault should not
//! have to start again to learn of the next. A fault names its place by path and line; it never repeats a secret.

use std::fmt;
use std::path::{Path, PathBuf};

/// The most faults that are kept: beyond them the file is not a configuration at all.
const MAX_FAULTS: usize = 200;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    path: String,
    line: Option<usize>,
    text: String,
}

impl Fault {
    /// A fault at the key `path`, which stands in `line`.
    #[must_use]
    pub fn new(path: impl Into<String>, line: Option<usize>, text: impl Into<String>) -> Self {
        Self { path: path.into(), line, text: text.into() }
    }

    /// The key, such as `routes[2].path`; empty when the file as a whole is meant.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The line of the file, counted from 1.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        self.line
    }

    /// What is wrong, and what would be right.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

/// All that is wrong with one file; never empty.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Faults {
    file: PathBuf,
    list: Vec<Fault>,
}

impl Faults {
    /// The faults of `file`, in the order of their lines.
    #[must_use]
    pub(super) fn new(file: &Path, mut list: Vec<Fault>) -> Self {
        list.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        list.dedup();
        list.truncate(MAX_FAULTS);
        Self { file: file.to_owned(), list }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.list.iter()
    }

    /// One line for each, as compilers write them: `FILE:LINE: PATH: TEXT`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let file = self.file.display();
        self.list.iter().map(move |fault| match fault.line {
            Some(line) => format!("{file}:{line}: {fault}"),
            None => format!("{file}: {fault}"),
        })
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.lines();
        f.write_str(&lines.next().unwrap_or_default())?;
        lines.try_for_each(|line| write!(f, "\n{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_like_a_compilers() {
        let list = vec![
            Fault::new("routes[0].path", Some(9), "must begin with a slash"),
            Fault::new("", None, "no route is configured"),
            Fault::new("store.url", Some(2), "is missing"),
        ];
        let text = Faults::new(Path::new("gate.toml"), list).to_string();
        let expected = "gate.toml:2: store.url: is missing\n\
                        gate.toml:9: routes[0].path: must begin with a slash\n\
                        gate.toml: no route is configured";
        assert_eq!(text, expected);
    }
}
