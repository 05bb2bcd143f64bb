//! A revocation and an audit record as columns, and back. What cannot be read back is reported with its position, never
//! skipped: a row that is skipped is a token that passes.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::domain::{
    Cutoff, Ending, Lift, Name, Position, Reach, Recorded, Revocation, RevocationId, Selector, Timestamp,
};
use crate::store::{AuditRecord, BoxError, StoreError};

/// The columns [`recorded`] reads, in its order.
macro_rules! revocation_columns {
    () => {
        "id, position, selector, reach, cutoff, created_at, expires_at, actor, reason, named_for, ended_at, lifted_by, \
         superseded_by"
    };
}
pub(super) use revocation_columns;

/// Where the columns behind those of [`revocation_columns`] begin.
pub(super) const BEHIND_REVOCATION: usize = 13;

/// The columns [`audit_record`] reads, in its order.
pub(super) const AUDIT_COLUMNS: &str = "sequence, at, actor, address, action, subject, reason, result, revocation";

/// Reads a row of [`revocation_columns`].
pub(super) fn recorded(row: &PgRow) -> Result<Recorded, StoreError> {
    let position = row.try_get::<i64, _>(1).map(position).unwrap_or_default();
    read_recorded(row, position).map_err(|error| StoreError::Corrupt(position, error))
}

fn read_recorded(row: &PgRow, position: Position) -> Result<Recorded, BoxError> {
    let revocation = Revocation {
        id: id(row.try_get(0)?)?,
        selector: serde_json::from_str::<Selector>(row.try_get(2)?)?,
        reach: Reach::from_bits(u8::try_from(row.try_get::<i16, _>(3)?)?),
        cutoff: optional_time(row, 4)?.map_or(Cutoff::Absolute, Cutoff::Until),
        created_at: time(row.try_get(5)?)?,
        expires_at: optional_time(row, 6)?,
        actor: row.try_get::<&str, _>(7)?.into(),
        reason: row.try_get::<Option<&str>, _>(8)?.map(Into::into),
        named_for: row.try_get::<Option<&str>, _>(9)?.map(serde_json::from_str).transpose()?,
    };
    Ok(Recorded { revocation, position, ending: ending(row)? })
}

fn ending(row: &PgRow) -> Result<Option<Ending>, BoxError> {
    let Some(at) = optional_time(row, 10)? else { return Ok(None) };
    if let Some(by) = row.try_get::<Option<&[u8]>, _>(12)? {
        return Ok(Some(Ending::Superseded(id(by)?)));
    }
    Ok(Some(Ending::Lifted(Lift { at, actor: row.try_get::<&str, _>(11)?.into() })))
}

/// Reads a row of [`AUDIT_COLUMNS`].
pub(super) fn audit_record(row: &PgRow) -> Result<AuditRecord, BoxError> {
    Ok(AuditRecord {
        sequence: row.try_get::<i64, _>(0)?.try_into()?,
        at: time(row.try_get(1)?)?,
        actor: row.try_get(2)?,
        address: row.try_get(3)?,
        action: row.try_get(4)?,
        subject: row.try_get(5)?,
        reason: row.try_get(6)?,
        result: row.try_get(7)?,
        revocation: row.try_get::<Option<&[u8]>, _>(8)?.map(id).transpose()?,
    })
}

/// What a text is found by: short whatever its length, and the same for ever.
pub(super) fn hash(text: &str) -> i64 {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// What a claim of a selector is found by; nothing for the issuer, which tells few rows apart.
pub(super) fn part(name: &str, value: &str) -> Option<i64> {
    (name != Name::Issuer.to_string()).then(|| hash(&format!("{name}\0{value}")))
}

/// A text as a column. PostgreSQL cannot keep U+0000; its symbol stands for it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{2400}").into() } else { text.into() }
}

/// An id as a column.
pub(super) fn id_column(id: RevocationId) -> Vec<u8> {
    id.bits().to_be_bytes().to_vec()
}

pub(super) fn id(column: &[u8]) -> Result<RevocationId, BoxError> {
    Ok(RevocationId::from_random(u128::from_be_bytes(column.try_into()?)))
}

/// A time as a column; the end of PostgreSQL's integers stands for what lies beyond.
pub(super) const fn seconds(time: Timestamp) -> i64 {
    integer(time.as_secs())
}

/// A number as a column, saturating.
pub(super) const fn integer(number: u64) -> i64 {
    if number > i64::MAX as u64 { i64::MAX } else { number as i64 }
}

/// A position from a column.
pub(super) fn position(column: i64) -> Position {
    Position::new(u64::try_from(column).unwrap_or_default())
}

pub(super) fn time(column: i64) -> Result<Timestamp, BoxError> {
    Ok(Timestamp::from_secs(u64::try_from(column)?))
}

pub(super) fn optional_time(row: &PgRow, index: usize) -> Result<Option<Timestamp>, BoxError> {
    row.try_get::<Option<i64>, _>(index)?.map(time).transpose()
}
