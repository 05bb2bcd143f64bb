//! What is remembered beside a token's claims, so that the same work need not be done twice. It is no part of what the
//! claims say: equal to any other, and empty in a clone, whose fields may be changed. It may be written only where the
//! claims are shared and so cannot change any more: behind an `Arc`.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// The key of one shape: what the values of its names hash to; `None` when the claims do not have them all.
pub type KeptKey = OnceLock<Option<[u64; 2]>>;

/// How an upstream is told of the claims: user, username, session, issuer, client and scopes, those that there are, in the
/// form that goes out.
pub type Told = [Option<Bytes>; 6];

/// What is remembered beside a token's claims.
#[derive(Default)]
pub struct Memo {
    /// The generation of the index in which nothing spoke against the token; no index has a generation 0.
    clear_as_of: AtomicU64,
    owner: OnceLock<u64>,
    keys: [KeptKey; Self::KEYS],
    told: OnceLock<Box<Told>>,
}

impl Memo {
    /// For how many shapes keys are kept; an index with more in use hashes the values of the others on every look-up.
    pub const KEYS: usize = 8;

    /// Whether nothing spoke against the token in this generation of its index.
    #[must_use]
    pub fn is_clear_as_of(&self, generation: u64) -> bool {
        // Relaxed: the number alone is the message. Whoever compares it has loaded the index's generation with `Acquire`.
        self.clear_as_of.load(Ordering::Relaxed) == generation
    }

    /// Notes that a look-up begun in this generation found nothing, and that no passing of time can change it.
    pub fn clear_as_of(&self, generation: u64) {
        self.clear_as_of.store(generation, Ordering::Relaxed);
    }

    /// The keys of the index of this name, by the number of the shape; `None` when those of another one are kept.
    #[must_use]
    pub fn keys(&self, owner: u64) -> Option<&[KeptKey]> {
        (*self.owner.get_or_init(|| owner) == owner).then_some(&self.keys)
    }

    /// How an upstream is told of the claims, as `told` has it, which is asked once.
    #[must_use]
    pub fn told(&self, told: impl FnOnce() -> Told) -> &Told {
        self.told.get_or_init(|| Box::new(told()))
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Memo {}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}
