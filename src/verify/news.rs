//! Revocations of late, for cached answers to be measured by when they are next used: so that a revocation costs nothing
//! however many answers are cached, and an answer is measured once by each revocation. Bounded: an answer that is older
//! than what is remembered counts as covered, and its issuer is asked again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::domain::{Claims, Revocation};

/// How many revocations are remembered.
const MAX_REMEMBERED: usize = 256;

/// The revocations of late, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct News {
    latest: AtomicU64,
    /// Held for a few comparisons, and never across a wait.
    recent: Mutex<VecDeque<Revocation>>,
}

impl News {
    /// The number of the latest.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// Adds one.
    pub(super) fn add(&self, revocation: Revocation) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == MAX_REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(revocation);
        self.latest.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether any that came after the one numbered `seen` covers these claims, as far as is remembered; else the number up
    /// to which none does.
    pub(super) fn cover(&self, claims: &Claims, seen: u64) -> Result<u64, Covered> {
        if self.latest() == seen {
            return Ok(seen);
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = self.latest();
        let unseen = usize::try_from(latest.saturating_sub(seen)).unwrap_or(usize::MAX);
        let forgotten = unseen > recent.len();
        if forgotten || recent.iter().rev().take(unseen).any(|revocation| revocation.covers(claims)) {
            return Err(Covered);
        }
        Ok(latest)
    }
}

/// A revocation of late covers the claims, or it is not known that none does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Covered;
