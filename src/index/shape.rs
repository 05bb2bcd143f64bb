//! Claim sets to keys: a keyed 128-bit hash of the values of one shape's names.
//!
//! The key is drawn at random for each process, so nobody outside can aim at a collision; by accident two of ten million
//! selectors collide with a chance of 2⁻⁸¹. Every value is hashed with its length, so no two sets of values read alike.

use std::hash::Hasher;
use std::ops::ControlFlow;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::domain::{ClaimValues, Claims, Name, Selector, Shape};

/// How many combinations of a token's array claims are looked up for one shape.
///
/// A token whose arrays multiply to more is answered as covered: it is refused, rather than let through unchecked or
/// allowed to hold up the others.
const MAX_PROBES: usize = 65_536;

/// The key of one selector in one shape's map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Key([u64; 2]);

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Hashes the values of one shape.
#[derive(Clone, Debug)]
pub(super) struct ShapeHasher {
    shape: Shape,
    seeded: SipHasher13,
}

impl ShapeHasher {
    pub(super) fn new(shape: Shape, secret: &[u8; 16]) -> Self {
        Self { shape, seeded: SipHasher13::new_with_key(secret) }
    }

    pub(super) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The key of a selector of this shape.
    pub(super) fn selector_key(&self, selector: &Selector) -> Key {
        let mut hasher = self.seeded;
        selector.parts().for_each(|(_, value)| write_text(&mut hasher, value));
        finish(hasher)
    }

    /// Calls `visit` with the key of every selector of this shape that matches `claims`, until it breaks. Breaks by itself
    /// when there are more than can be looked up.
    pub(super) fn each_key(&self, claims: &Claims, mut visit: impl FnMut(Key) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut probes = 0;
        let mut bounded = |key| {
            probes += 1;
            if probes > MAX_PROBES { ControlFlow::Break(()) } else { visit(key) }
        };
        combine(self.shape.names(), self.seeded, claims, &mut bounded)
    }
}

/// Walks the combinations of the names' values, hashing as it goes.
fn combine<F>(names: &[Name], hasher: SipHasher13, claims: &Claims, visit: &mut F) -> ControlFlow<()>
where
    F: FnMut(Key) -> ControlFlow<()>,
{
    let Some((name, rest)) = names.split_first() else {
        return visit(finish(hasher));
    };
    let mut with = |value: &str| {
        let mut hasher = hasher;
        write_text(&mut hasher, value);
        combine(rest, hasher, claims, visit)
    };
    match claims.values(name) {
        ClaimValues::None => ControlFlow::Continue(()),
        ClaimValues::One(value) => with(value),
        ClaimValues::Digest(digest) => with(digest.hex(&mut [0; 64])),
        ClaimValues::Many(values) => values.iter().try_for_each(|value| with(value)),
    }
}

fn write_text(hasher: &mut SipHasher13, text: &str) {
    hasher.write_usize(text.len());
    hasher.write(text.as_bytes());
}

fn finish(hasher: SipHasher13) -> Key {
    let hash = hasher.finish128();
    Key([hash.h1, hash.h2])
}
