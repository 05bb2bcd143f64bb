//! Numbers that no two indices share and none uses twice, so that what was remembered of one is never believed of another.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts for the whole process, from 1.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A number that nobody had before, greater than all that were.
pub(super) fn next() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
