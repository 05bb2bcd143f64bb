//! The highest generation of each user's temporary tokens that an issuer's secret vouched for: whoever counts generations
//! must not fall behind those that were handed out.
//!
//! Kept in memory alone, of the users who showed a token last: some are forgotten when there are many, all at a restart.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::domain::Claims;

/// How many users each half remembers: the one that is written, and the one that was full before it.
const HALF: usize = 16 * 1024;

/// The generations that were seen.
#[derive(Default)]
pub(super) struct Generations(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    young: HashMap<Box<str>, u64>,
    old: HashMap<Box<str>, u64>,
}

impl Generations {
    /// A token was shown that says this, and was vouched for.
    pub(super) fn observe(&self, claims: &Claims) {
        if let (Some(user), Some(generation)) = (&claims.user, claims.generation) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).raise(user, generation);
        }
    }

    /// The highest that was seen of a user, as far as that is remembered.
    pub(super) fn highest(&self, user: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).highest(user)
    }
}

impl Halves {
    fn highest(&self, user: &str) -> Option<u64> {
        [&self.young, &self.old].into_iter().filter_map(|half| half.get(user)).max().copied()
    }

    fn raise(&mut self, user: &str, generation: u64) {
        let highest = self.highest(user).map_or(generation, |known| known.max(generation));
        if let Some(known) = self.young.get_mut(user) {
            *known = highest;
            return;
        }
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user.into(), highest);
    }
}

impl fmt::Debug for Generations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generations").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_counts_and_memory_has_a_bound() {
        let mut halves = Halves::default();
        halves.raise("a", 9);
        halves.raise("a", 3);
        assert_eq!((halves.highest("a"), halves.highest("b")), (Some(9), None));
        (0..HALF).for_each(|n| halves.raise(&format!("u{n}"), 1));
        halves.raise("a", 2);
        assert_eq!(halves.highest("a"), Some(9), "who comes back is remembered");
        (0..4 * HALF).for_each(|n| halves.raise(&format!("v{n}"), 1));
        assert!(halves.young.len() + halves.old.len() <= 2 * HALF);
        assert_eq!(halves.highest("a"), None);
    }
}
