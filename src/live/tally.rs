//! How many exchanges each revocation has cut, for the answer that is still to be given. Old counts are forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::domain::RevocationId;

/// How many revocations are remembered: more than are answered at once.
const REMEMBERED: usize = 4_096;

/// Counts by revocation, of the latest that cut anything.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by_revocation: HashMap<RevocationId, usize>,
    /// The oldest first.
    order: VecDeque<RevocationId>,
}

impl Tally {
    /// `revocation` cut one more.
    pub(super) fn count(&self, revocation: RevocationId) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { by_revocation, order } = &mut *counts;
        let count = by_revocation.entry(revocation).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        order.push_back(revocation);
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            by_revocation.remove(&oldest);
        }
    }

    /// How many `revocation` cut.
    pub(super) fn of(&self, revocation: RevocationId) -> usize {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.by_revocation.get(&revocation).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_has_a_bound() {
        let tally = Tally::default();
        let id = |n: usize| RevocationId::from_random(n as u128);
        for n in 0..REMEMBERED + 10 {
            tally.count(id(n));
            tally.count(id(n));
        }
        assert_eq!((tally.of(id(9)), tally.of(id(10)), tally.of(id(REMEMBERED + 9))), (0, 2, 2));
        assert_eq!(tally.counts.lock().unwrap().by_revocation.len(), REMEMBERED);
    }
}
