//! Pages of revocations and of the trail, the newest first. What narrows a search down is taken from the smallest set that
//! holds it; the rest is tested row by row by the plain rule all adapters share.

use redis::{Cmd, cmd, pipe};

use crate::domain::{Position, Recorded};
use crate::store::redis::connection::Connection;
use crate::store::redis::keys::{self, AUDIT, POSITIONS};
use crate::store::redis::pages::Reader;
use crate::store::redis::rows;
use crate::store::{AuditQuery, AuditRecord, Page, RevocationQuery, StoreError};

/// How many candidates are fetched at once; few in tests, which thus turn pages.
const CANDIDATES: usize = if cfg!(test) { 50 } else { 1_000 };

/// A page of revocations.
pub(super) async fn search(reader: &Reader, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
    let set = smallest(&reader.connection, query).await?;
    let mut wanted: Vec<(u64, Recorded)> = Vec::new();
    let mut before = query.before.map(Position::get);
    loop {
        let found: Vec<(Vec<u8>, f64)> = reader.connection.run(&newest_first(&set, before)).await?;
        let ids = found.iter().map(|(id, _)| rows::id(id)).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|error| StoreError::Corrupt(Position::START, error))?;
        // A row that changed in between is shown as it is now, in its old place.
        let mut held = reader.rows(&ids).await?.into_iter().peekable();
        for (id, (_, place)) in ids.iter().zip(&found) {
            before = Some(*place as u64);
            let Some(row) = held.next_if(|row| row.revocation.id == *id) else { continue };
            if query.wants(&row) {
                wanted.push((*place as u64, row));
            }
        }
        if found.len() < CANDIDATES || wanted.len() > query.limit() {
            let Page { items, next } = Page::cut(wanted, query.limit(), |(place, _)| *place);
            return Ok(Page { items: items.into_iter().map(|(_, held)| held).collect(), next });
        }
    }
}

/// The smallest set that holds all that is sought.
async fn smallest(connection: &Connection, query: &RevocationQuery) -> Result<String, StoreError> {
    let parts = query.having.iter().filter(|(name, _)| name != "issuer");
    let parts = parts.map(|(name, value)| keys::part(name, value));
    let mut sets: Vec<String> = parts.chain(query.actor.as_deref().map(keys::actor)).collect();
    if sets.len() > 1 {
        let mut question = pipe();
        for set in &sets {
            question.cmd("ZCARD").arg(set);
        }
        let sizes: Vec<u64> = connection.pipe(&question).await?;
        let smallest = sets.into_iter().zip(sizes).min_by_key(|(_, size)| *size);
        return Ok(smallest.map_or_else(|| POSITIONS.to_owned(), |(set, _)| set));
    }
    Ok(sets.pop().unwrap_or_else(|| POSITIONS.to_owned()))
}

fn newest_first(set: &str, before: Option<u64>) -> Cmd {
    let from = before.map_or_else(|| "+inf".to_owned(), |before| format!("({before}"));
    let mut question = cmd("ZRANGE");
    question.arg(set).arg(from).arg("-inf").arg("BYSCORE").arg("REV");
    question.arg("LIMIT").arg(0).arg(CANDIDATES).arg("WITHSCORES").take()
}

/// A page of the trail.
pub(super) async fn trail(connection: &Connection, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
    let mut wanted: Vec<AuditRecord> = Vec::new();
    let mut before = query.before;
    loop {
        let from = before.map_or_else(|| "+".to_owned(), |before| format!("({before}-0"));
        let question = cmd("XREVRANGE").arg(AUDIT).arg(from).arg("-").arg("COUNT").arg(CANDIDATES).take();
        let found: Vec<(String, (String, Vec<u8>))> = connection.run(&question).await?;
        for (number, (_, record)) in &found {
            let sequence = number.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
            before = Some(sequence);
            let record = rows::audit_record(sequence, record)?;
            if query.wants(&record) {
                wanted.push(record);
            }
        }
        if found.len() < CANDIDATES || wanted.len() > query.limit() {
            return Ok(Page::cut(wanted, query.limit(), |record| record.sequence));
        }
    }
}
