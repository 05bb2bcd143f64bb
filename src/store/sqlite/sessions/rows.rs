//! A session and a token as columns, and back. Many are written by one statement, which reads them from a JSON array: a
//! statement a row would cost more than the row, and so would it to parse each row anew for each column, which
//! `jsonb_each` spares.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::domain::{
    Position, SeenToken, Session, SessionEnd, SessionKey, SessionType, Timestamp, TokenDigest, TokenKind,
};
use crate::store::sqlite::rows::{integer, optional_time, seconds, time};
use crate::store::{BoxError, StoreError};

/// The columns [`session`] reads, in its order.
macro_rules! session_columns {
    () => {
        "sessions.number, sessions.id, issuer, user, username, sessions.parent, domain, client, address, \
         (SELECT text FROM agents WHERE agents.number = agent), kind, created_at, updated_at, expires_at, \
         token_expires_at, ended_at, ended_by, end_reason, revocation"
    };
}
pub(super) use session_columns;

/// A session and its number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Numbered {
    pub(super) number: i64,
    pub(super) session: Session,
}

/// Reads a row of [`session_columns`].
pub(super) fn session(row: &SqliteRow) -> Result<Numbered, StoreError> {
    read_session(row).map_err(corrupt)
}

/// What cannot be read back; the inventory has no positions.
pub(super) fn corrupt(error: impl Into<BoxError>) -> StoreError {
    StoreError::Corrupt(Position::START, error.into())
}

fn read_session(row: &SqliteRow) -> Result<Numbered, BoxError> {
    let session = Session {
        key: SessionKey { issuer: Arc::from(row.try_get::<&str, _>(2)?), id: row.try_get::<&str, _>(1)?.into() },
        user: text(row, 3)?,
        username: text(row, 4)?,
        parent: text(row, 5)?,
        domain: text(row, 6)?,
        client: text(row, 7)?,
        address: text(row, 8)?,
        user_agent: text(row, 9)?,
        kind: if row.try_get::<i64, _>(10)? == 0 { SessionType::Login } else { SessionType::Sso },
        created_at: time(row.try_get(11)?)?,
        updated_at: time(row.try_get(12)?)?,
        expires_at: optional_time(row, 13)?,
        token_expires_at: optional_time(row, 14)?,
        ended: end(row)?,
    };
    Ok(Numbered { number: row.try_get(0)?, session })
}

fn end(row: &SqliteRow) -> Result<Option<SessionEnd>, BoxError> {
    let Some(at) = optional_time(row, 15)? else { return Ok(None) };
    let actor = row.try_get::<&str, _>(16)?.into();
    Ok(Some(SessionEnd { at, actor, reason: text(row, 17)?, revocation: row.try_get::<&str, _>(18)?.parse()? }))
}

/// A text, if there is one.
pub(super) fn text(row: &SqliteRow, index: usize) -> Result<Option<Box<str>>, sqlx::Error> {
    Ok(row.try_get::<Option<&str>, _>(index)?.map(Into::into))
}

/// The column of a session's type.
pub(super) const fn kind_column(kind: SessionType) -> i64 {
    match kind {
        SessionType::Login => 0,
        SessionType::Sso => 1,
    }
}

/// A session as a member of the array that a statement reads, in the order of [`session_columns`].
pub(super) fn written(Numbered { number, session }: &Numbered) -> Value {
    let Session { key, user, username, parent, domain, client, address, user_agent, kind, .. } = session;
    let end = session.ended.as_ref();
    json!([
        number,
        key.id,
        key.issuer,
        user,
        username,
        parent,
        domain,
        client,
        address,
        user_agent,
        kind_column(*kind),
        seconds(session.created_at),
        seconds(session.updated_at),
        session.expires_at.map(seconds),
        session.token_expires_at.map(seconds),
        end.map(|end| seconds(end.at)),
        end.map(|end| &end.actor),
        end.and_then(|end| end.reason.as_ref()),
        end.map(|end| end.revocation.to_string()),
    ])
}

/// The columns [`token`] reads, in its order.
macro_rules! token_columns {
    () => {
        "digest, kind, token_id, issued_at, expires_at, generation"
    };
}
pub(super) use token_columns;

/// Reads a row of [`token_columns`].
pub(super) fn token(row: &SqliteRow) -> Result<SeenToken, StoreError> {
    let read = || -> Result<SeenToken, BoxError> {
        Ok(SeenToken {
            digest: TokenDigest::new(row.try_get::<&[u8], _>(0)?.try_into()?),
            kind: token_kind(row.try_get(1)?),
            token_id: text(row, 2)?,
            issued_at: optional_time(row, 3)?,
            expires_at: optional_time(row, 4)?,
            generation: row.try_get::<Option<i64>, _>(5)?.map(count),
        })
    };
    read().map_err(corrupt)
}

/// The kind of a column.
pub(super) fn token_kind(column: i64) -> TokenKind {
    let known = TokenKind::ALL.into_iter().find(|kind| *kind as i64 == column);
    known.unwrap_or(TokenKind::Access)
}

/// A token as a member of the array that a statement reads.
pub(super) fn written_token(token: &SeenToken, session: i64, family: Option<&str>, seen_at: Timestamp) -> Value {
    json!([
        token.digest.to_string(),
        session,
        family,
        token.kind as i64,
        token.token_id,
        token.issued_at.map(seconds),
        token.expires_at.map(seconds),
        seconds(seen_at),
        token.generation.map(integer),
    ])
}

/// A count as SQLite gave it.
pub(super) fn count(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

/// A list of numbers as the array that a statement reads.
pub(super) fn numbers(numbers: impl IntoIterator<Item = i64>) -> String {
    Value::from_iter(numbers).to_string()
}
