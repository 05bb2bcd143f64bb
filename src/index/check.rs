//! Whether a token is dead.
//!
//! What a look-up finds can only get worse by a change of the index, so claims that are shared remember the *generation* of
//! the index as of which nothing spoke against them. Why that is exact: the writer changes the marks and then the generation
//! (`Release`), before anybody is answered; a reader loads the generation (`Acquire`), then looks, then notes what it loaded.
//! So whoever notes a generation has seen every change made before it began; and whoever asks after a revocation was
//! answered loads a generation that nobody noted who may have missed it.
//!
//! Only "not covered" is remembered, and only where no mark reaches the token at all: time can then not change it, and not
//! even a clock that is set back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::domain::{ClaimValues, Claims, KeptKey, Memo, Name, Selector, Timestamp};
use crate::index::mark::Verdict;
use crate::index::marks::Marks;
use crate::index::shape::Hashes;
use crate::index::{Index, generation};

impl Index {
    /// Whether a token with these claims is dead, in each login it belongs to: a probe per shape in use, no I/O, no
    /// allocation.
    #[must_use]
    pub fn covers(&self, claims: &Claims, now: Timestamp) -> bool {
        verdict(&self.shapes.load(), claims, now, &|_| None) == Verdict::Covered
    }

    /// The same of claims that are shared, and so stay as they are: while the index does not change, two loads; after it
    /// has, nothing needs to be hashed again.
    #[must_use]
    pub fn covers_shared(&self, claims: &Arc<Claims>, now: Timestamp) -> bool {
        let generation = self.generation.load(Ordering::Acquire);
        if claims.memo.is_clear_as_of(generation) {
            return false;
        }
        let verdict = verdict(&self.shapes.load(), claims, now, &|memo| memo.keys(self.id));
        if verdict == Verdict::Clear {
            claims.memo.clear_as_of(generation);
        }
        verdict == Verdict::Covered
    }

    /// The selectors in force that cover these claims, for explaining; slower than [`Self::covers`].
    #[must_use]
    pub fn covering(&self, claims: &Claims, now: Timestamp) -> Vec<Selector> {
        let shapes = self.shapes.load();
        let candidates = shapes.iter().flat_map(|marks| {
            let selectors = selectors(marks.shape().names(), claims);
            selectors.into_iter().filter(|selector| marks.covers_by(selector, claims, now))
        });
        candidates.collect()
    }

    /// Makes readers look again. To be called by the writer after the change, and before anybody is told of it.
    pub(super) fn changed(&self) {
        self.generation.store(generation::next(), Ordering::Release);
    }
}

/// What the marks say of a token, in each login it belongs to: it is clear when it is in one of them.
fn verdict<'c, K>(shapes: &[Arc<Marks>], claims: &'c Claims, now: Timestamp, keys: &K) -> Verdict
where
    K: Fn(&'c Memo) -> Option<&'c [KeptKey]>,
{
    let kept = keys(&claims.memo);
    let mut hashes = Hashes::default();
    let mut own = Verdict::Clear;
    for marks in shapes {
        let kept = kept.zip(marks.number()).and_then(|(kept, number)| kept.get(number));
        own = own.max(marks.judge(claims, now, kept, &mut hashes));
        if own == Verdict::Covered {
            break;
        }
    }
    if own == Verdict::Clear {
        return own;
    }
    let twins = claims.twins.iter().map(|twin| verdict(shapes, twin, now, keys));
    twins.fold(own, Verdict::min)
}

/// Every selector of these names that matches the claims.
fn selectors(names: &[Name], claims: &Claims) -> Vec<Selector> {
    let mut combinations: Vec<Vec<(Name, String)>> = vec![Vec::new()];
    for name in names {
        let values: Vec<String> = match claims.values(name) {
            ClaimValues::None => return Vec::new(),
            ClaimValues::One(value) => vec![value.to_owned()],
            ClaimValues::Digest(digest) => vec![digest.to_string()],
            ClaimValues::Many(values) => values.iter().map(|value| value.to_string()).collect(),
        };
        let longer = |parts: &Vec<(Name, String)>, value: &String| {
            parts.iter().cloned().chain([(name.clone(), value.clone())]).collect::<Vec<_>>()
        };
        combinations = combinations
            .iter()
            .flat_map(|parts| values.iter().map(|value| longer(parts, value)).collect::<Vec<_>>())
            .collect();
    }
    combinations.into_iter().filter_map(|parts| Selector::new(parts).ok()).collect()
}
