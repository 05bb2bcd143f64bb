//! Writes answers: lines and tables for people, JSON for machines.
//!
//! What others wrote — reasons, actors, claims — is shown without control characters, so that nobody can write to an
//! operator's terminal through an audit record.

use std::io::{self, Write};

use serde_json::Value;

use super::Failure;

/// Writes a line to standard output.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Writes a JSON document as one line.
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// A JSON value as a person reads it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(members) => members.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{}={}", printable(name), plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}

/// Whether a value says nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(members) => members.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// The member `name` of an object, as a person reads it; `-` when there is none.
pub(super) fn member(value: &Value, name: &str) -> String {
    plain(value.get(name).unwrap_or(&Value::Null))
}

/// The member `name` of an object, which counts seconds since the epoch, as a date.
pub(super) fn moment(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), date)
}

/// Seconds since the epoch as RFC 3339.
pub(super) fn date(secs: u64) -> String {
    // Beyond the year 9999 the format has no date.
    let secs = secs.min(253_402_300_799);
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs)).to_string()
}

/// `text` with control characters replaced.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Rows under headings, their columns as wide as they need.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The table as text, without a last line's end.
    pub(super) fn text(&self) -> String {
        let widths = self.rows.iter().fold(Vec::new(), |widths, row| wider(widths, row));
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn wider(mut widths: Vec<usize>, row: &[String]) -> Vec<usize> {
    widths.resize(widths.len().max(row.len()), 0);
    for (width, cell) in widths.iter_mut().zip(row) {
        *width = cell.chars().count().max(*width);
    }
    widths
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["ID", "WHY"]);
        table.row(["1".into(), "lost laptop".into()]);
        table.row(["22".into(), String::new()]);
        assert_eq!(table.text(), "ID  WHY\n1   lost laptop\n22");
    }

    #[test]
    fn nobody_writes_to_the_terminal_through_a_reason() {
        assert_eq!(member(&json!({"reason": "a\u{1b}[2Jb\n"}), "reason"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn values_read_plainly() {
        assert_eq!(
            plain(&json!({"user": "alice", "kinds": ["access", "refresh"], "n": 3, "x": null})),
            "kinds=access refresh n=3 user=alice x=-"
        );
        assert_eq!(moment(&json!({"at": 0}), "at"), "1970-01-01T00:00:00Z");
        assert_eq!(moment(&json!({"at": u64::MAX}), "at"), "9999-12-31T23:59:59Z");
    }
}
