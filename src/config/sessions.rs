//! `[sessions]`: what is kept of sessions. The inventory is for people; no revocation depends on it.

use super::range::{HOUR, SECOND};
use super::table::Table;
use crate::sessions::Settings;

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>) -> Option<Settings> {
    let usual = Settings::default();
    Some(Settings {
        track: table.or("track", usual.track),
        queue: table.within("queue", usual.queue, 1..=10_000_000),
        every: table.within("last_seen", usual.every, SECOND..=HOUR),
    })
}
