//! `[store]`: where revocations are kept, and what to do when that cannot be read.

use std::time::Duration;

use super::range::{HOUR, SECOND};
use super::table::Table;
use super::value::choice;
use crate::admission::WhenStale;
use crate::store::{Backend, Settings};

/// How long the index may go without proof of being in step, and what follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Staleness {
    /// How long it is believed.
    pub max: Duration,
    /// What follows.
    pub then: WhenStale,
}

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>) -> Option<(Settings, Staleness)> {
    let backend = match table.node("url") {
        Some(node) => super::table::Read::read(&node),
        None => Some(Backend::Sqlite("data/portcullis.db".into())),
    };
    // Followers prove themselves every second; less than two would make every hiccup an outage.
    let max = table.within("max_staleness", 10 * SECOND, 2 * SECOND..=HOUR);
    let then = match table.node("when_stale") {
        Some(node) => choice(&node, &[("reject", WhenStale::Reject), ("allow", WhenStale::Allow)]).unwrap_or_default(),
        None => WhenStale::default(),
    };
    Some((Settings::new(backend?), Staleness { max, then }))
}
