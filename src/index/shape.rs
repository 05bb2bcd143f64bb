//! Claim sets to keys: the keyed 128-bit hashes of the values of one shape's names, each hashed together with its name, and
//! joined by exclusive or.
//!
//! The hash is a pseudorandom function whose key is drawn at random for each process, so nobody outside can aim at a
//! collision: two sets of values differ in one of them at least, whose hash is as good as random to them, and so is what the
//! sets' keys differ by. By accident two of ten million selectors collide with a chance of 2⁻⁸¹. Joined like this, a value
//! is hashed once for all the shapes that ask for it.

use std::hash::Hasher;
use std::ops::ControlFlow;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::domain::{ClaimValues, Claims, Name, Selector, Shape};

/// How many combinations of a token's array claims are looked up for one shape.
///
/// A token whose arrays multiply to more is answered as covered: it is refused, rather than let through unchecked or
/// allowed to hold up the others.
const MAX_PROBES: usize = 65_536;

/// The key of one selector in one shape's table.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Key(pub(super) [u64; 2]);

impl Key {
    const fn join(self, other: Self) -> Self {
        let (Self([a, b]), Self([c, d])) = (self, other);
        Self([a ^ c, b ^ d])
    }
}

/// What a token asks of one shape.
pub(super) enum Asked {
    /// Nothing: it does not have a value for every name.
    Nothing,
    /// One selector, by its key.
    One(Key),
    /// As many as its array claims multiply to.
    Many,
}

/// The hashes of one token's values, each computed when it is asked for, and once.
#[derive(Default)]
pub(super) struct Hashes([Option<Key>; 10]);

/// Hashes the values of one shape.
#[derive(Clone, Debug)]
pub(super) struct ShapeHasher {
    shape: Shape,
    /// For each name of the shape, in its order.
    seeded: Box<[Seeded]>,
}

/// Hashes the values of one name.
#[derive(Clone, Debug)]
struct Seeded {
    /// The name is hashed already.
    hasher: SipHasher13,
    place: Option<usize>,
}

impl ShapeHasher {
    pub(super) fn new(shape: Shape, secret: &[u8; 16]) -> Self {
        let seeded = shape.names().iter().map(|name| Seeded::new(name, secret)).collect();
        Self { shape, seeded }
    }

    pub(super) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The key of a selector of this shape.
    pub(super) fn selector_key(&self, selector: &Selector) -> Key {
        let hashes = self.seeded.iter().zip(selector.parts()).map(|(seeded, (_, value))| seeded.hash(value));
        hashes.fold(Key::default(), Key::join)
    }

    /// The key of the selector of this shape that matches `claims`, when there is at most one.
    pub(super) fn asked(&self, claims: &Claims, hashes: &mut Hashes) -> Asked {
        let single = |name| match claims.values(name) {
            ClaimValues::None => Some(Asked::Nothing),
            ClaimValues::Many([_]) | ClaimValues::One(_) | ClaimValues::Digest(_) => None,
            ClaimValues::Many([]) => Some(Asked::Nothing),
            ClaimValues::Many(_) => Some(Asked::Many),
        };
        let amiss = self.shape.names().iter().find_map(single);
        amiss.unwrap_or_else(|| {
            let mut key = Key::default();
            let _ = self.each_key(claims, hashes, |only| {
                key = only;
                ControlFlow::Continue(())
            });
            Asked::One(key)
        })
    }

    /// Calls `visit` with the key of every selector of this shape that matches `claims`, until it breaks. Breaks by itself
    /// when there are more than can be looked up.
    pub(super) fn each_key(
        &self,
        claims: &Claims,
        hashes: &mut Hashes,
        mut visit: impl FnMut(Key) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut probes = 0;
        let mut bounded = |key| {
            probes += 1;
            if probes > MAX_PROBES { ControlFlow::Break(()) } else { visit(key) }
        };
        combine(self.shape.names(), &self.seeded, Key::default(), (claims, hashes), &mut bounded)
    }
}

/// Walks the combinations of the names' values, joining as it goes.
fn combine<F>(
    names: &[Name],
    seeded: &[Seeded],
    key: Key,
    (claims, hashes): (&Claims, &mut Hashes),
    visit: &mut F,
) -> ControlFlow<()>
where
    F: FnMut(Key) -> ControlFlow<()>,
{
    let (Some((name, names)), Some((first, seeded))) = (names.split_first(), seeded.split_first()) else {
        return visit(key);
    };
    let value = match claims.values(name) {
        ClaimValues::None => return ControlFlow::Continue(()),
        ClaimValues::Many(values) => {
            let mut with = |value| combine(names, seeded, key.join(first.hash(value)), (claims, hashes), visit);
            return values.iter().try_for_each(|value| with(value));
        }
        ClaimValues::One(value) => first.hash_once(value, hashes),
        ClaimValues::Digest(digest) => first.hash_once(digest.hex(&mut [0; 64]), hashes),
    };
    combine(names, seeded, key.join(value), (claims, hashes), visit)
}

impl Seeded {
    fn new(name: &Name, secret: &[u8; 16]) -> Self {
        let mut hasher = SipHasher13::new_with_key(secret);
        let text = name.to_string();
        hasher.write_usize(text.len());
        hasher.write(text.as_bytes());
        Self { hasher, place: place(name) }
    }

    fn hash(&self, value: &str) -> Key {
        let mut hasher = self.hasher;
        hasher.write(value.as_bytes());
        let hash = hasher.finish128();
        Key([hash.h1, hash.h2])
    }

    fn hash_once(&self, value: &str, hashes: &mut Hashes) -> Key {
        match self.place.and_then(|place| hashes.0.get_mut(place)) {
            Some(kept) => *kept.get_or_insert_with(|| self.hash(value)),
            None => self.hash(value),
        }
    }
}

/// Where the hash of this name's value stands while one token is checked; none for claims of any name.
const fn place(name: &Name) -> Option<usize> {
    match name {
        Name::Issuer => Some(0),
        Name::TokenId => Some(1),
        Name::TokenSha256 => Some(2),
        Name::Session => Some(3),
        Name::Family => Some(4),
        Name::User => Some(5),
        Name::Temporary => Some(6),
        Name::Username => Some(7),
        Name::Client => Some(8),
        Name::KeyId => Some(9),
        Name::Claim(_) => None,
    }
}
