//! `[cache]`: how much is remembered of verified tokens. It bounds memory; it never decides who passes.

use std::time::Duration;

use super::range::HOUR;
use super::table::Table;
use super::value::Size;
use crate::verify::CacheSettings;

/// Reads the section.
pub(super) fn settle(table: &mut Table<'_>) -> Option<CacheSettings> {
    let usual = CacheSettings::default();
    let bytes = table.within("verified_bytes", Size(usual.verified_bytes), Size(64 << 10)..=Size(64 << 30));
    let ttl = table.within("verified_ttl", usual.verified_ttl, Duration::ZERO..=HOUR);
    let introspection_entries = table.within("introspection_entries", usual.introspection_entries, 1..=100_000_000);
    Some(CacheSettings { verified_bytes: bytes.0, verified_ttl: ttl, introspection_entries })
}
