//! A session and a token as columns, and back. Many are written by one statement, which reads them from an array a column.

use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::domain::{
    Position, SeenToken, Session, SessionEnd, SessionKey, SessionType, Timestamp, TokenDigest, TokenKind,
};
use crate::store::postgres::rows::{id, id_column, optional_time, seconds, time};
use crate::store::postgres::sessions::text::{optional_text, stored, stored_option, text};
use crate::store::{BoxError, StoreError};

/// The columns [`session`] reads, in its order.
macro_rules! session_columns {
    () => {
        "sessions.number, sessions.id, sessions.issuer, sub, username, parent, domain, client, address, user_agent, kind, \
         created_at, updated_at, expires_at, token_expires_at, ended_at, ended_by, end_reason, revocation"
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
pub(super) fn session(row: &PgRow) -> Result<Numbered, StoreError> {
    read_session(row).map_err(corrupt)
}

/// What cannot be read back; the inventory has no positions.
pub(super) fn corrupt(error: impl Into<BoxError>) -> StoreError {
    StoreError::Corrupt(Position::START, error.into())
}

fn read_session(row: &PgRow) -> Result<Numbered, BoxError> {
    let session = Session {
        key: session_key(row, 1)?,
        user: optional_text(row, 3)?,
        username: optional_text(row, 4)?,
        parent: optional_text(row, 5)?,
        domain: optional_text(row, 6)?,
        client: optional_text(row, 7)?,
        address: optional_text(row, 8)?,
        user_agent: optional_text(row, 9)?,
        kind: if row.try_get::<i16, _>(10)? == 0 { SessionType::Login } else { SessionType::Sso },
        created_at: time(row.try_get(11)?)?,
        updated_at: time(row.try_get(12)?)?,
        expires_at: optional_time(row, 13)?,
        token_expires_at: optional_time(row, 14)?,
        ended: end(row)?,
    };
    Ok(Numbered { number: row.try_get(0)?, session })
}

/// Reads a session's id, and behind it its issuer.
pub(super) fn session_key(row: &PgRow, index: usize) -> Result<SessionKey, sqlx::Error> {
    Ok(SessionKey { issuer: Arc::from(text(row, index + 1)?), id: text(row, index)? })
}

fn end(row: &PgRow) -> Result<Option<SessionEnd>, BoxError> {
    let Some(at) = optional_time(row, 15)? else { return Ok(None) };
    let (actor, reason) = (text(row, 16)?, optional_text(row, 17)?);
    Ok(Some(SessionEnd { at, actor, reason, revocation: id(row.try_get(18)?)? }))
}

/// The column of a session's type.
pub(super) const fn kind_column(kind: SessionType) -> i16 {
    match kind {
        SessionType::Login => 0,
        SessionType::Sso => 1,
    }
}

type Texts = Vec<String>;
type MaybeTexts = Vec<Option<String>>;

/// Sessions as arrays, in the order of [`session_columns`].
#[derive(Debug, Default)]
pub(super) struct SessionArrays {
    pub(super) numbers: Vec<i64>,
    pub(super) ids: Texts,
    pub(super) issuers: Texts,
    pub(super) subs: MaybeTexts,
    pub(super) usernames: MaybeTexts,
    pub(super) parents: MaybeTexts,
    pub(super) domains: MaybeTexts,
    pub(super) clients: MaybeTexts,
    pub(super) addresses: MaybeTexts,
    pub(super) user_agents: MaybeTexts,
    pub(super) kinds: Vec<i16>,
    pub(super) created_at: Vec<i64>,
    pub(super) updated_at: Vec<i64>,
    pub(super) expires_at: Vec<Option<i64>>,
    pub(super) token_expires_at: Vec<Option<i64>>,
}

impl SessionArrays {
    pub(super) fn push(&mut self, number: i64, session: &Session) {
        let maybe = |text: &Option<Box<str>>| stored_option(text.as_deref()).map(Into::into);
        self.numbers.push(number);
        self.ids.push(stored(&session.key.id).into());
        self.issuers.push(stored(&session.key.issuer).into());
        self.subs.push(maybe(&session.user));
        self.usernames.push(maybe(&session.username));
        self.parents.push(maybe(&session.parent));
        self.domains.push(maybe(&session.domain));
        self.clients.push(maybe(&session.client));
        self.addresses.push(maybe(&session.address));
        self.user_agents.push(maybe(&session.user_agent));
        self.kinds.push(kind_column(session.kind));
        self.created_at.push(seconds(session.created_at));
        self.updated_at.push(seconds(session.updated_at));
        self.expires_at.push(session.expires_at.map(seconds));
        self.token_expires_at.push(session.token_expires_at.map(seconds));
    }
}

impl<'a> FromIterator<&'a Numbered> for SessionArrays {
    fn from_iter<I: IntoIterator<Item = &'a Numbered>>(sessions: I) -> Self {
        let mut arrays = Self::default();
        sessions.into_iter().for_each(|told| arrays.push(told.number, &told.session));
        arrays
    }
}

/// How sessions end, as arrays; all unknown where one goes on.
#[derive(Debug, Default)]
pub(super) struct EndArrays {
    pub(super) numbers: Vec<i64>,
    pub(super) ended_at: Vec<Option<i64>>,
    pub(super) ended_by: MaybeTexts,
    pub(super) reasons: MaybeTexts,
    pub(super) revocations: Vec<Option<Vec<u8>>>,
}

impl EndArrays {
    pub(super) fn push(&mut self, number: i64, end: Option<&SessionEnd>) {
        let stored = |text: Option<&str>| stored_option(text).map(Into::into);
        self.numbers.push(number);
        self.ended_at.push(end.map(|end| seconds(end.at)));
        self.ended_by.push(stored(end.map(|end| &*end.actor)));
        self.reasons.push(stored(end.and_then(|end| end.reason.as_deref())));
        self.revocations.push(end.map(|end| id_column(end.revocation)));
    }
}

/// The columns [`token`] reads, in its order.
macro_rules! token_columns {
    () => {
        "digest, kind, token_id, issued_at, expires_at, generation"
    };
}
pub(super) use token_columns;

/// Reads a row of [`token_columns`].
pub(super) fn token(row: &PgRow) -> Result<SeenToken, StoreError> {
    let read = || -> Result<SeenToken, BoxError> {
        Ok(SeenToken {
            digest: digest(row.try_get(0)?)?,
            kind: token_kind(row.try_get(1)?),
            token_id: optional_text(row, 2)?,
            issued_at: optional_time(row, 3)?,
            expires_at: optional_time(row, 4)?,
            generation: row.try_get::<Option<i64>, _>(5)?.map(count),
        })
    };
    read().map_err(corrupt)
}

/// A digest of a column.
pub(super) fn digest(column: &[u8]) -> Result<TokenDigest, BoxError> {
    Ok(TokenDigest::new(column.try_into()?))
}

/// The kind of a column.
pub(super) fn token_kind(column: i16) -> TokenKind {
    let known = TokenKind::ALL.into_iter().find(|kind| *kind as i16 == column);
    known.unwrap_or(TokenKind::Access)
}

/// A count as PostgreSQL gave it.
pub(super) fn count(column: i64) -> u64 {
    u64::try_from(column).unwrap_or_default()
}

/// The place of what is not known to be issued, before the first second.
pub(super) fn issued_place(issued_at: Option<Timestamp>) -> i64 {
    issued_at.map_or(-1, seconds)
}
