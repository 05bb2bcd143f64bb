//! How this replica stands to the log and what it does when the log loses data: figures of `sync`.
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `portcullis_index_lag_positions` | | places in the log that are known of and not applied |
//! | `portcullis_index_lag_seconds` | | since it was last proved that nothing is missing; `+Inf` before it ever was |
//! | `portcullis_index_transitions_total` | `to` | changes between `loading`, `in_step` and `stale` |
//! | `portcullis_heals_total` | `result` | times the log had lost data: putting it back was `done`, or `interrupted` and begun anew |
//! | `portcullis_healed_entries_total` | `result` | revocations shown to a log that had lost data: `restored`, there `already`, or `ended` there |
//! | `portcullis_ledger_entries` | | records held to heal the log with |
//! | `portcullis_ledger_bytes` | | what they take |
//! | `portcullis_snapshot_bytes` | | size of the snapshot written last |
//! | `portcullis_snapshot_timestamp_seconds` | | when all in it was known to be all, in seconds since 1970 |
//! | `portcullis_snapshot_errors_total` | | snapshots that could not be written |

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::metrics::{CacheResult, gauge};

/// Figures of `sync`.
#[derive(Debug, Default)]
pub(super) struct SyncMetrics {
    lag_positions: Gauge,
    lag_seconds: Gauge<f64, AtomicU64>,
    transitions: Family<Transition, Counter>,
    heals: Family<CacheResult, Counter>,
    healed_entries: Family<CacheResult, Counter>,
    ledger_entries: Gauge,
    ledger_bytes: Gauge,
    snapshot_bytes: Gauge,
    snapshot_timestamp: Gauge,
    snapshot_errors: Counter,
}

#[derive(Clone, Debug, prometheus_client::encoding::EncodeLabelSet, Eq, Hash, PartialEq)]
struct Transition {
    to: &'static str,
}

impl SyncMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        self.lag_seconds.set(f64::INFINITY);
        r.register("index_lag_positions", "Places in the log known of and not applied", self.lag_positions.clone());
        r.register("index_lag_seconds", "Since nothing was known to be missing", self.lag_seconds.clone());
        r.register("index_transitions", "Changes of how the index stands to the log", self.transitions.clone());
        r.register("heals", "Times the log had lost data", self.heals.clone());
        r.register("healed_entries", "Revocations shown to a log that had lost data", self.healed_entries.clone());
        r.register("ledger_entries", "Records held to heal the log with", self.ledger_entries.clone());
        r.register("ledger_bytes", "What these records take", self.ledger_bytes.clone());
        r.register("snapshot_bytes", "Size of the snapshot written last", self.snapshot_bytes.clone());
        r.register("snapshot_timestamp_seconds", "When the snapshot was all", self.snapshot_timestamp.clone());
        r.register("snapshot_errors", "Snapshots that could not be written", self.snapshot_errors.clone());
    }
}

impl super::Metrics {
    /// How far the index is behind: in places of the log, and since when that was known to be none.
    pub fn index_lag(&self, positions: u64, unproved_for: Option<Duration>) {
        self.sync.lag_positions.set(gauge(positions));
        self.sync.lag_seconds.set(unproved_for.map_or(f64::INFINITY, |since| since.as_secs_f64()));
    }

    /// The index now stands to the log like this.
    pub fn index_transition(&self, to: &'static str) {
        self.sync.transitions.get_or_create(&Transition { to }).inc();
    }

    /// The log had lost data; putting it back was `done` or `interrupted`.
    pub fn heal(&self, result: &'static str) {
        self.sync.heals.get_or_create(&CacheResult { result: result.into() }).inc();
    }

    /// So many revocations were shown to a log that had lost data, and were `restored`, there `already`, or `ended` there.
    pub fn healed_entries(&self, result: &'static str, entries: u64) {
        self.sync.healed_entries.get_or_create(&CacheResult { result: result.into() }).inc_by(entries);
    }

    /// What is held to heal the log with.
    pub fn ledger(&self, entries: u64, bytes: usize) {
        self.sync.ledger_entries.set(gauge(entries));
        self.sync.ledger_bytes.set(gauge(bytes as u64));
    }

    /// A snapshot of so many bytes was written, of what was all there was at that second.
    pub fn snapshot(&self, bytes: u64, proved_at_secs: u64) {
        self.sync.snapshot_bytes.set(gauge(bytes));
        self.sync.snapshot_timestamp.set(gauge(proved_at_secs));
    }

    /// A snapshot could not be written.
    pub fn snapshot_failed(&self) {
        self.sync.snapshot_errors.inc();
    }
}
