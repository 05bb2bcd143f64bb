//! A revocation and an audit record as columns, and back. What cannot be read back is reported with its position, never
//! skipped: a row that is skipped is a token that passes.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::domain::{Cutoff, Ending, Lift, Position, Reach, Recorded, Revocation, RevocationId, Selector, Timestamp};
use crate::store::{AuditRecord, BoxError, StoreError};

/// The columns [`recorded`] reads, in its order.
macro_rules! revocation_columns {
    () => {
        "id, selector, reach, cutoff, created_at, expires_at, actor, reason, position, ended_at, lifted_by, superseded_by, \
         named_for"
    };
}
pub(super) use revocation_columns;

/// The columns [`audit_record`] reads, in its order.
pub(super) const AUDIT_COLUMNS: &str = "sequence, at, actor, address, action, subject, reason, result, revocation";

/// Reads a row of [`revocation_columns`].
pub(super) fn recorded(row: &SqliteRow) -> Result<Recorded, StoreError> {
    let position = row.try_get::<i64, _>(8).map(position).unwrap_or_default();
    read_recorded(row, position).map_err(|error| StoreError::Corrupt(position, error))
}

fn read_recorded(row: &SqliteRow, position: Position) -> Result<Recorded, BoxError> {
    let revocation = Revocation {
        id: row.try_get::<&str, _>(0)?.parse()?,
        selector: serde_json::from_str::<Selector>(row.try_get(1)?)?,
        reach: Reach::from_bits(row.try_get::<u8, _>(2)?),
        cutoff: optional_time(row, 3)?.map_or(Cutoff::Absolute, Cutoff::Until),
        created_at: time(row.try_get(4)?)?,
        expires_at: optional_time(row, 5)?,
        actor: row.try_get::<&str, _>(6)?.into(),
        reason: row.try_get::<Option<&str>, _>(7)?.map(Into::into),
        named_for: row.try_get::<Option<&str>, _>(12)?.map(serde_json::from_str).transpose()?,
    };
    Ok(Recorded { revocation, position, ending: ending(row)? })
}

fn ending(row: &SqliteRow) -> Result<Option<Ending>, BoxError> {
    let Some(at) = optional_time(row, 9)? else { return Ok(None) };
    if let Some(by) = row.try_get::<Option<&str>, _>(11)? {
        return Ok(Some(Ending::Superseded(by.parse()?)));
    }
    Ok(Some(Ending::Lifted(Lift { at, actor: row.try_get::<&str, _>(10)?.into() })))
}

/// The columns `lifted_by` and `superseded_by` of an ending, and when it came.
pub(super) fn ending_columns(ending: Option<&Ending>, now: Timestamp) -> (Option<i64>, Option<&str>, Option<String>) {
    match ending {
        None => (None, None, None),
        Some(Ending::Lifted(lift)) => (Some(seconds(lift.at)), Some(&*lift.actor), None),
        Some(Ending::Superseded(by)) => (Some(seconds(now)), None, Some(by.to_string())),
    }
}

/// The column of a cut-off.
pub(super) const fn cutoff_column(cutoff: Cutoff) -> Option<i64> {
    match cutoff {
        Cutoff::Until(last) => Some(seconds(last)),
        Cutoff::Absolute => None,
    }
}

/// Reads a row of [`AUDIT_COLUMNS`].
pub(super) fn audit_record(row: &SqliteRow) -> Result<AuditRecord, BoxError> {
    let revocation = row.try_get::<Option<&str>, _>(8)?.map(str::parse::<RevocationId>).transpose()?;
    Ok(AuditRecord {
        sequence: row.try_get::<i64, _>(0)?.try_into()?,
        at: time(row.try_get(1)?)?,
        actor: row.try_get(2)?,
        address: row.try_get(3)?,
        action: row.try_get(4)?,
        subject: row.try_get(5)?,
        reason: row.try_get(6)?,
        result: row.try_get(7)?,
        revocation,
    })
}

/// A time as a column; the end of SQLite's integers stands for what lies beyond.
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

pub(super) fn optional_time(row: &SqliteRow, index: usize) -> Result<Option<Timestamp>, BoxError> {
    row.try_get::<Option<i64>, _>(index)?.map(time).transpose()
}
