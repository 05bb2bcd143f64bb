//! `[log]`: what is written about the gateway's own doings, and about each answer.

use super::table::Table;
use super::value::choice;
use crate::telemetry::{Format, Settings, access_log};

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>) -> Option<(Settings, access_log::Settings)> {
    let usual = Settings::default();
    let format = match table.node("format") {
        Some(node) => choice(&node, &[("human", Format::Human), ("json", Format::Json)]).unwrap_or(usual.format),
        None => usual.format,
    };
    let filter = table.or("level", usual.filter);
    let enabled = table.or("access", true);
    let sample = table.within("access_sample", 1.0, 0.0..=1.0);
    Some((Settings { format, filter }, access_log::Settings { enabled, sample }))
}
