//! What is looked up and searched. Each call sees one moment of the store.

use sqlx::postgres::{PgRow, Postgres};
use sqlx::{QueryBuilder, query};

use crate::domain::{Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::postgres::rows::{
    AUDIT_COLUMNS, audit_record, hash, id_column, integer, part, recorded, revocation_columns, seconds, text,
};
use crate::store::postgres::server::Server;
use crate::store::{AuditQuery, AuditRecord, Page, RevocationQuery, StoreError};

impl Server {
    pub(super) async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        const FIND: &str = concat!("SELECT ", revocation_columns!(), " FROM portcullis.revocations WHERE id = $1");
        let mut moment = self.read().await?;
        let found = query(FIND).bind(id_column(id)).fetch_optional(&mut *moment);
        let found = self.bounded(async { found.await.map_err(|error| self.fault(error)) }).await?;
        found.as_ref().map(recorded).transpose()
    }

    pub(super) async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        const UNENDED: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM portcullis.revocations WHERE key = $1 AND selector = $2 AND ended_at IS NULL ORDER BY position"
        );
        let canonical = selector.canonical();
        let mut moment = self.read().await?;
        let rows = query(UNENDED).bind(hash(&canonical)).bind(canonical).fetch_all(&mut *moment);
        let mut held = self.revocations(rows).await?;
        held.retain(|held| held.stands(now));
        Ok(held)
    }

    pub(super) async fn search(&self, wanted: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        let mut sql = search(wanted);
        let mut moment = self.read().await?;
        let held = self.revocations(sql.build().fetch_all(&mut *moment)).await?;
        Ok(Page::cut(held, wanted.limit(), |held| held.position.get()))
    }

    pub(super) async fn trail(&self, wanted: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        let mut sql = trail(wanted);
        let mut moment = self.read().await?;
        let rows = sql.build().fetch_all(&mut *moment);
        let rows = self.bounded(async { rows.await.map_err(|error| self.fault(error)) }).await?;
        let read = |row| audit_record(row).map_err(|error| StoreError::Corrupt(Position::START, error));
        let records = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Page::cut(records, wanted.limit(), |record: &AuditRecord| record.sequence))
    }

    /// The revocations that a statement finds.
    pub(super) async fn revocations(
        &self,
        rows: impl Future<Output = Result<Vec<PgRow>, sqlx::Error>>,
    ) -> Result<Vec<Recorded>, StoreError> {
        let rows = self.bounded(async { rows.await.map_err(|error| self.fault(error)) }).await?;
        rows.iter().map(recorded).collect()
    }
}

/// The SQL of a search. Claims other than the issuer are found through the index of their hashes, and then compared as
/// they are written in the selector, where no value can be mistaken for a name. The few rows found are sorted, and the
/// plus keeps the planner from walking all positions instead.
fn search(wanted: &RevocationQuery) -> QueryBuilder<Postgres> {
    let parts: Vec<i64> = wanted.having.iter().filter_map(|(name, value)| part(name, value)).collect();
    let position = if parts.is_empty() { "position" } else { "position + 0" };
    let mut sql =
        QueryBuilder::new(concat!("SELECT ", revocation_columns!(), " FROM portcullis.revocations WHERE TRUE"));
    if !parts.is_empty() {
        sql.push(" AND parts @> ").push_bind(parts);
    }
    for (name, value) in &wanted.having {
        sql.push(" AND strpos(selector, ").push_bind(member(name, value)).push(") > 0");
    }
    if let Some(actor) = &wanted.actor {
        sql.push(" AND actor = ").push_bind(text(actor).into_owned());
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

/// A member of a canonical JSON object as it is written there. U+0000 is escaped in it, as are quotes.
fn member(name: &str, value: &str) -> String {
    let json = |text: &str| serde_json::to_string(text).unwrap_or_default();
    format!("{}:{}", json(name), json(value))
}

/// The SQL of a look into the audit trail.
fn trail(wanted: &AuditQuery) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(AUDIT_COLUMNS).push(" FROM portcullis.audit WHERE TRUE");
    if let Some(actor) = &wanted.actor {
        sql.push(" AND actor = ").push_bind(text(actor).into_owned());
    }
    if let Some(action) = &wanted.action {
        sql.push(" AND action = ").push_bind(text(action).into_owned());
    }
    if let Some(id) = wanted.revocation {
        sql.push(" AND revocation = ").push_bind(id_column(id));
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
