//! How many sessions a user may have at one issuer. When one more begins, the oldest end; they are revoked like on
//! anybody's command, so that every replica refuses them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::SharedClock;
use crate::domain::{Session, SessionKey, SessionState};
use crate::sessions::{End, Ended, Revoker};
use crate::store::{SessionQuery, SharedSessions, SortKey, StoreError};

/// How many sessions one call ends, at most; the next one ends more.
const MAX_ENDED: u32 = 1_000;

/// The most sessions of a user, by the issuer's `iss`. What is not named has no limit.
pub type MaxSessions = HashMap<Arc<str>, u32>;

/// Holds users to their number of sessions.
pub struct Limits {
    table: SharedSessions,
    revoker: Arc<dyn Revoker>,
    clock: SharedClock,
    max: ArcSwap<MaxSessions>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("max", &self.max).finish_non_exhaustive()
    }
}

impl Limits {
    /// Limits of this kind.
    #[must_use]
    pub fn new(table: SharedSessions, revoker: Arc<dyn Revoker>, clock: SharedClock, max: MaxSessions) -> Arc<Self> {
        Arc::new(Self { table, revoker, clock, max: ArcSwap::from_pointee(max) })
    }

    /// Takes over other limits; they hold when the next session begins.
    pub fn configure(&self, max: MaxSessions) {
        self.max.store(Arc::new(max));
    }

    /// A session of `user` began: the user's oldest end if there are too many now. Returns how many that were.
    ///
    /// # Errors
    ///
    /// The store's; some may have been ended then.
    pub async fn enforce(&self, key: &SessionKey, user: &str) -> Result<usize, StoreError> {
        let Some(max) = self.max.load().get(&key.issuer).copied() else { return Ok(0) };
        let query = SessionQuery {
            issuer: Some(key.issuer.to_string()),
            user: Some(user.to_owned()),
            state: Some(SessionState::Active),
            sort: SortKey::Created,
            now: self.clock.now(),
            limit: MAX_ENDED,
            ..SessionQuery::default()
        };
        let page = self.table.sessions(&query).await?;
        let beyond = beyond(page.items, page.total, max);
        let ended = beyond.len();
        for SessionKey { issuer, id } in beyond {
            let what = Ended::Session(id);
            self.revoker.end(End { issuer, what, reason: "too many sessions", address: None }).await?;
        }
        Ok(ended)
    }
}

/// Which of a user's `total` sessions, of which these are the oldest, are beyond `max`: the oldest of all.
fn beyond(oldest_first: Vec<Session>, total: u64, max: u32) -> Vec<SessionKey> {
    let excess = usize::try_from(total.saturating_sub(u64::from(max))).unwrap_or(usize::MAX);
    oldest_first.into_iter().take(excess).map(|session| session.key).collect()
}
