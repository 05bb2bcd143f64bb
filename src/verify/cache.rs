//! Tokens whose signature was verified of late. Looked up by the SHA-256 of the whole text, so that a hit is the very same
//! token, signature and all; bounded in bytes. It remembers that a key vouched for a token, never whether the token may
//! pass: time, audience, type, the route's issuers, the key's presence and revocations are looked at on every request.

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use crate::domain::{Claims, TokenDigest};
use crate::telemetry::Metrics;
use crate::verify::claims::Reading;
use crate::verify::issuer::Issuer;
use crate::verify::jwt::KeyIdentity;
use crate::verify::settings::CacheSettings;

/// What an entry holds beside its claims, about, in bytes: keys, times, and the cache's own bookkeeping.
const OVERHEAD_BYTES: usize = 320;

/// One verification.
#[derive(Debug)]
pub(super) struct Entry {
    /// The issuer as it was configured then; gone when its configuration is.
    pub(super) issuer: Weak<Issuer>,
    /// What the token says.
    pub(super) reading: Reading,
    /// The key that vouched for it.
    pub(super) key: KeyIdentity,
    /// When, by the clock that only grows.
    pub(super) verified_at: Duration,
    /// How long the token has left, at most.
    pub(super) left: Option<Duration>,
}

/// The verifications of late.
#[derive(Clone)]
pub(super) struct Verifications {
    entries: Cache<TokenDigest, Arc<Entry>, BuildHasherDefault<DigestHasher>>,
    ttl: Duration,
    metrics: Arc<Metrics>,
}

impl Verifications {
    /// An empty cache within these bounds.
    pub(super) fn new(settings: CacheSettings, metrics: Arc<Metrics>) -> Self {
        let entries = Cache::builder()
            .max_capacity(settings.verified_bytes)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            .expire_after(Lifetime { ttl: settings.verified_ttl })
            .build_with_hasher(BuildHasherDefault::default());
        Self { entries, ttl: settings.verified_ttl, metrics }
    }

    /// The verification of the token with that digest, unless it is too long ago.
    pub(super) async fn find(&self, whole: &TokenDigest, elapsed: Duration) -> Option<Arc<Entry>> {
        let entry = self.entries.get(whole).await;
        entry.filter(|entry| elapsed.saturating_sub(entry.verified_at) < self.ttl)
    }

    /// Counts a look-up.
    pub(super) fn count(&self, hit: bool) {
        self.metrics.verification_cache(hit);
    }

    /// Remembers a verification.
    pub(super) async fn insert(&self, whole: TokenDigest, entry: Entry) {
        self.entries.insert(whole, Arc::new(entry)).await;
        self.metrics.verification_cache_size(self.entries.entry_count(), self.entries.weighted_size());
    }

    /// Forgets a verification that no longer holds.
    pub(super) async fn forget(&self, whole: &TokenDigest) {
        self.entries.invalidate(whole).await;
    }

    /// The claims of all.
    pub(super) fn claims(&self) -> impl Iterator<Item = Arc<Claims>> {
        self.entries.iter().map(|(_, entry)| entry.reading.claims.clone())
    }
}

impl fmt::Debug for Verifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifications({} entries)", self.entries.entry_count())
    }
}

impl Entry {
    fn weight(&self) -> u32 {
        u32::try_from(self.reading.weight_bytes() + OVERHEAD_BYTES).unwrap_or(u32::MAX)
    }
}

/// Takes a digest's own first bytes for its hash. Only tokens whose signature holds come in, so nobody who has no key can aim at
/// a bucket.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A length comes before the bytes of some keys; it is the same for all.
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

/// When an entry's memory is freed. What may still be used is decided on each look-up; this only tidies.
struct Lifetime {
    ttl: Duration,
}

impl Expiry<TokenDigest, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &TokenDigest, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.left.map_or(self.ttl, |left| left.min(self.ttl)))
    }

    fn expire_after_update(
        &self,
        digest: &TokenDigest,
        entry: &Arc<Entry>,
        at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(digest, entry, at)
    }
}
