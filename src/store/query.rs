//! What the queries mean, in plain code: the in-memory store answers with it, and the others are tested against it.

use crate::domain::{Change, Recorded};
use crate::store::{AuditQuery, AuditRecord, Page, RevocationQuery};

/// The most rows a page may have.
const MAX_PAGE: u32 = 1_000;

impl RevocationQuery {
    /// How many rows a page has.
    pub(super) fn limit(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE) as usize
    }

    /// Whether `held` is asked for, the cursor aside.
    pub(super) fn wants(&self, held: &Recorded) -> bool {
        let selector = &held.revocation.selector;
        let has = |(name, value): &(String, String)| {
            selector.parts().any(|(own, text)| text == value && own.to_string() == *name)
        };
        self.having.iter().all(has)
            && self.actor.as_deref().is_none_or(|actor| actor == &*held.revocation.actor)
            && (!self.standing_only || held.stands(self.now))
    }
}

impl AuditQuery {
    /// How many records a page has.
    pub(super) fn limit(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE) as usize
    }

    /// Whether `record` is asked for, the cursor included.
    pub(super) fn wants(&self, record: &AuditRecord) -> bool {
        self.actor.as_ref().is_none_or(|actor| *actor == record.actor)
            && self.action.as_ref().is_none_or(|action| *action == record.action)
            && self.revocation.is_none_or(|id| record.revocation == Some(id))
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
            && self.before.is_none_or(|before| record.sequence < before)
    }
}

impl<T> Page<T> {
    /// The first `limit` of `items`, of which there is one more when another page follows.
    pub(super) fn cut(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> u64) -> Self {
        let follows = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| follows).map(cursor);
        Self { items, next }
    }
}

/// The news that `unended`, the rows of one selector without an ending, make up; `cause` is the row that changed. While a
/// follower loads there is no cause, and the newest row's position serves.
pub(super) fn change(unended: Vec<Recorded>, cause: Option<&Recorded>) -> Option<Change> {
    let newest = unended.iter().map(|held| held.position).max();
    let position = cause.map(|cause| cause.position).or(newest)?;
    let of = cause.or(unended.first())?;
    let selector = of.revocation.selector.clone();
    let standing = unended.into_iter().map(|held| held.revocation).collect();
    Some(Change { position, selector, standing, cause: cause.cloned() })
}
