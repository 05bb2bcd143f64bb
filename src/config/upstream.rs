//! `[upstream]`: how services behind the gateway are reached and judged.

use super::range::{HOUR, MILLI};
use super::table::Table;
use super::value::File;
use crate::gateway::UpstreamSettings;

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>) -> Option<UpstreamSettings> {
    let usual = UpstreamSettings::default();
    Some(UpstreamSettings {
        ca: table.optional::<File>("ca").map(|file| file.0),
        idle_connections: table.within("idle_connections", usual.idle_connections, 1..=100_000),
        failures: table.within("failures", usual.failures, 1..=1_000_000),
        eject: table.within("eject", usual.eject, MILLI..=HOUR),
        retries: table.within("retries", usual.retries, 0..=10),
    })
}
