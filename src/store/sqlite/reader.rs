//! What is read, through connections that cannot write. Each call sees one moment of the store, whatever the writer does
//! meanwhile.

use std::path::PathBuf;

use async_trait::async_trait;
use sqlx::sqlite::{Sqlite, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, query};

use crate::domain::{Checkpoint, Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::feed::{self, NewsPage, Pages, StatePage};
use crate::store::query::change;
use crate::store::sqlite::fault::at_work;
use crate::store::sqlite::file::Place;
use crate::store::sqlite::rows::{AUDIT_COLUMNS, audit_record, integer, recorded, revocation_columns, seconds};
use crate::store::sqlite::transaction::read_head;
use crate::store::{AuditQuery, AuditRecord, Page, RevocationQuery, StoreError};

/// How many rows a page of the feed has; few in tests, which thus turn pages.
const PAGE: usize = if cfg!(test) { 100 } else { 1_000 };

/// The reading end of a store.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) pool: SqlitePool,
    pub(super) path: PathBuf,
    pub(super) place: Place,
}

impl Reader {
    pub(super) async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        const FIND: &str = concat!("SELECT ", revocation_columns!(), " FROM revocations WHERE id = ?1");
        let found = query(FIND).bind(id.to_string()).fetch_optional(&self.pool).await;
        found.map_err(|error| self.fault(error))?.as_ref().map(recorded).transpose()
    }

    pub(super) async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        let mut held = self.unended(&selector.canonical()).await?;
        held.retain(|held| held.stands(now));
        Ok(held)
    }

    async fn unended(&self, selector: &str) -> Result<Vec<Recorded>, StoreError> {
        const UNENDED: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM revocations WHERE selector = ?1 AND ended_at IS NULL ORDER BY position"
        );
        self.revocations(query(UNENDED).bind(selector).fetch_all(&self.pool).await)
    }

    pub(super) async fn search(&self, wanted: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        let mut sql = search(wanted);
        let held = self.revocations(sql.build().fetch_all(&self.pool).await)?;
        Ok(Page::cut(held, wanted.limit(), |held| held.position.get()))
    }

    pub(super) async fn trail(&self, wanted: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        let mut sql = trail(wanted);
        let rows = sql.build().fetch_all(&self.pool).await.map_err(|error| self.fault(error))?;
        let read = |row| audit_record(row).map_err(|error| StoreError::Corrupt(Position::START, error));
        let records = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Page::cut(records, wanted.limit(), |record: &AuditRecord| record.sequence))
    }

    fn revocations(&self, rows: Result<Vec<SqliteRow>, sqlx::Error>) -> Result<Vec<Recorded>, StoreError> {
        rows.map_err(|error| self.fault(error))?.iter().map(recorded).collect()
    }

    pub(super) fn fault(&self, error: sqlx::Error) -> StoreError {
        at_work(&self.path, error)
    }
}

#[async_trait]
impl Pages for Reader {
    async fn head(&self, from: Checkpoint) -> Result<Checkpoint, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(|error| self.fault(error))?;
        let head = read_head(&mut connection).await.map_err(|error| self.fault(error))?;
        feed::reached(from, head)
    }

    async fn state(&self, after: Option<&str>) -> Result<StatePage, StoreError> {
        const STATE: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM revocations WHERE ended_at IS NULL AND selector > ?1 ORDER BY selector LIMIT ?2"
        );
        let rows = query(STATE).bind(after.unwrap_or_default()).bind(integer(PAGE as u64));
        let held = self.revocations(rows.fetch_all(&self.pool).await)?;
        let full = held.len() == PAGE;
        let mut groups = by_selector(held);
        let Some(last) = groups.pop() else { return Ok(StatePage { changes: Vec::new(), resume: None }) };
        let selector = last.first().map(|held| held.revocation.selector.canonical()).unwrap_or_default();
        // A full page may end in the midst of a selector.
        let last = if full { self.unended(&selector).await? } else { last };
        let changes = groups.into_iter().chain([last]).filter_map(|group| change(group, None)).collect();
        Ok(StatePage { changes, resume: full.then_some(selector) })
    }

    async fn news(&self, after: Checkpoint) -> Result<NewsPage, StoreError> {
        // A follower that reads on from a file that is gone would call itself in step with nothing.
        self.place.check()?;
        let fault = |error| self.fault(error);
        let mut moment = self.pool.begin().await.map_err(fault)?;
        let head = read_head(&mut moment).await.map_err(fault)?;
        feed::reached(after, head)?;
        let bounds = (integer(after.position.get()), integer(PAGE as u64));
        let changed = self.revocations(query(CHANGED).bind(bounds.0).bind(bounds.1).fetch_all(&mut *moment).await)?;
        let unended = self.revocations(query(BESIDE).bind(bounds.0).bind(bounds.1).fetch_all(&mut *moment).await)?;
        let more = changed.len() == PAGE;
        let upto = changed.last().filter(|_| more).map_or(head, |last| last.position);
        Ok(NewsPage { changes: news(&changed, unended), upto: upto.into(), more })
    }
}

/// The rows that changed, in the order of their positions.
const CHANGED: &str =
    concat!("SELECT ", revocation_columns!(), " FROM revocations WHERE position > ?1 ORDER BY position LIMIT ?2");

/// The rows without an ending of the selectors that changed.
const BESIDE: &str = concat!(
    "SELECT ",
    revocation_columns!(),
    " FROM revocations WHERE ended_at IS NULL AND selector IN \
     (SELECT selector FROM revocations WHERE position > ?1 ORDER BY position LIMIT ?2) ORDER BY selector, position"
);

/// A change for each row that changed, with all that is without an ending beside it.
fn news(changed: &[Recorded], unended: Vec<Recorded>) -> Vec<crate::domain::Change> {
    let groups: std::collections::HashMap<Selector, Vec<Recorded>> = by_selector(unended)
        .into_iter()
        .filter_map(|group| Some((group.first()?.revocation.selector.clone(), group)))
        .collect();
    let change_of =
        |held: &Recorded| change(groups.get(&held.revocation.selector).cloned().unwrap_or_default(), Some(held));
    changed.iter().filter_map(change_of).collect()
}

/// Rows in the order of their selectors, cut into one list a selector.
fn by_selector(held: Vec<Recorded>) -> Vec<Vec<Recorded>> {
    let mut groups: Vec<Vec<Recorded>> = Vec::new();
    for held in held {
        match groups
            .last_mut()
            .filter(|group| group.first().is_some_and(|first| first.revocation.selector == held.revocation.selector))
        {
            Some(group) => group.push(held),
            None => groups.push(vec![held]),
        }
    }
    groups
}

/// The SQL of a search. Claims other than the issuer are found through `parts`; then the few rows found are sorted, and
/// the unary plus keeps SQLite from walking all positions instead.
fn search(wanted: &RevocationQuery) -> QueryBuilder<Sqlite> {
    let (parts, issuer): (Vec<_>, Vec<_>) = wanted.having.iter().partition(|(name, _)| name != "issuer");
    let position = if parts.is_empty() { "position" } else { "+position" };
    let mut sql = QueryBuilder::new(concat!("SELECT ", revocation_columns!(), " FROM revocations WHERE TRUE"));
    for (name, value) in parts {
        sql.push(" AND number IN (SELECT revocation FROM parts WHERE name = ").push_bind(name.clone());
        sql.push(" AND value = ").push_bind(value.clone()).push(")");
    }
    for (_, value) in issuer {
        sql.push(" AND json_extract(selector, '$.issuer') = ").push_bind(value.clone());
    }
    if let Some(actor) = &wanted.actor {
        sql.push(" AND actor = ").push_bind(actor.clone());
    }
    if wanted.standing_only {
        sql.push(" AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > ")
            .push_bind(seconds(wanted.now))
            .push(")");
    }
    if let Some(before) = wanted.before {
        sql.push(" AND ").push(position).push(" < ").push_bind(integer(before.get()));
    }
    sql.push(" ORDER BY ").push(position).push(" DESC LIMIT ").push_bind(integer(wanted.limit() as u64 + 1));
    sql
}

/// The SQL of a look into the audit trail.
fn trail(wanted: &AuditQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(AUDIT_COLUMNS).push(" FROM audit WHERE TRUE");
    if let Some(actor) = &wanted.actor {
        sql.push(" AND actor = ").push_bind(actor.clone());
    }
    if let Some(action) = &wanted.action {
        sql.push(" AND action = ").push_bind(action.clone());
    }
    if let Some(id) = wanted.revocation {
        sql.push(" AND revocation = ").push_bind(id.to_string());
    }
    if let Some(since) = wanted.since {
        sql.push(" AND at >= ").push_bind(seconds(since));
    }
    if let Some(until) = wanted.until {
        sql.push(" AND at < ").push_bind(seconds(until));
    }
    if let Some(before) = wanted.before {
        sql.push(" AND sequence < ").push_bind(integer(before));
    }
    sql.push(" ORDER BY sequence DESC LIMIT ").push_bind(integer(wanted.limit() as u64 + 1));
    sql
}
