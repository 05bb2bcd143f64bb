//! One session, one token, one family tree: what is looked up by key.

use std::sync::Arc;

use sqlx::Row;
use sqlx::query;
use sqlx::sqlite::SqliteRow;

use crate::domain::{SeenToken, SessionKey, TokenDigest};
use crate::store::sqlite::reader::Reader;
use crate::store::sqlite::rows::{integer, optional_time, seconds};
use crate::store::sqlite::sessions::rows::{corrupt, session, session_columns, text, token, token_columns, token_kind};
use crate::store::{
    BoxError, KnownToken, Login, MAX_DESCENDANTS, SESSION_TOKENS, SessionRecord, SessionToken, StoreError, TOKEN_PAGE,
};

impl Reader {
    pub(super) async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
        const KNOWN: &str = "SELECT tokens.kind, token_id, issued_at, tokens.expires_at, family, issuer, id, user, \
            username, client FROM tokens JOIN sessions ON number = session WHERE digest = ?1 ORDER BY session";
        let rows = query(KNOWN).bind(&digest.as_bytes()[..]).fetch_all(&self.pool).await;
        known(&rows.map_err(|error| self.fault(error))?).map_err(corrupt)
    }

    pub(super) async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        const SESSION: &str = concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = ?1 AND issuer = ?2");
        const TOKENS: &str = concat!(
            "SELECT ",
            token_columns!(),
            " FROM tokens WHERE session = ?1 ORDER BY issued_at DESC, digest DESC LIMIT ?2"
        );
        let fault = |error| self.fault(error);
        let mut moment = self.pool.begin().await.map_err(fault)?;
        let found = query(SESSION).bind(&*key.id).bind(&*key.issuer).fetch_optional(&mut *moment).await;
        let Some(row) = found.map_err(fault)? else { return Ok(None) };
        let found = session(&row)?;
        let tokens = query(TOKENS).bind(found.number).bind(integer(SESSION_TOKENS as u64));
        let tokens = tokens.fetch_all(&mut *moment).await.map_err(fault)?;
        let tokens = tokens.iter().map(token).collect::<Result<_, _>>()?;
        Ok(Some(SessionRecord { session: found.session, tokens }))
    }

    pub(super) async fn tokens(
        &self,
        key: &SessionKey,
        after: Option<&SeenToken>,
    ) -> Result<Vec<SessionToken>, StoreError> {
        // What is not known comes before the first second.
        const TOKENS: &str = concat!(
            "SELECT ",
            token_columns!(),
            ", family FROM tokens WHERE session = (SELECT number FROM sessions WHERE id = ?1 AND issuer = ?2) \
             AND (?3 IS NULL OR (ifnull(issued_at, -1), digest) > (?3, ?4)) ORDER BY issued_at, digest LIMIT ?5"
        );
        let place = after.map(|after| after.issued_at.map_or(-1, seconds));
        let digest = after.map(|after| after.digest.as_bytes().to_vec());
        let rows = query(TOKENS).bind(&*key.id).bind(&*key.issuer).bind(place).bind(digest);
        let rows = rows.bind(integer(TOKEN_PAGE as u64)).fetch_all(&self.pool).await;
        rows.map_err(|error| self.fault(error))?.iter().map(session_token).collect()
    }

    pub(super) async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        // The union drops what was found before, so that circles end; the first row is the session itself.
        const DESCENDANTS: &str = "WITH RECURSIVE family (id) AS (SELECT ?1 UNION \
                SELECT sessions.id FROM family JOIN sessions ON parent = family.id AND +issuer = ?2 LIMIT ?3) \
            SELECT id FROM family WHERE id <> ?1";
        let found = sqlx::query_scalar(DESCENDANTS)
            .bind(&*key.id)
            .bind(&*key.issuer)
            .bind(integer(MAX_DESCENDANTS as u64 + 1))
            .fetch_all(&self.pool);
        let ids: Vec<String> = found.await.map_err(|error| self.fault(error))?;
        Ok(ids.into_iter().map(|id| SessionKey { issuer: key.issuer.clone(), id: id.into() }).collect())
    }
}

fn session_token(row: &SqliteRow) -> Result<SessionToken, StoreError> {
    let family = text(row, 6).map_err(corrupt)?;
    Ok(SessionToken { token: token(row)?, family })
}

/// A token as its logins tell it, one a row.
fn known(rows: &[SqliteRow]) -> Result<Option<KnownToken>, BoxError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let mut known = KnownToken {
        kind: token_kind(first.try_get(0)?),
        token_id: None,
        issued_at: None,
        expires_at: None,
        logins: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        known.token_id = known.token_id.take().or(text(row, 1)?);
        known.issued_at = known.issued_at.or(optional_time(row, 2)?);
        known.expires_at = known.expires_at.max(optional_time(row, 3)?);
        known.logins.push(login(row)?);
    }
    Ok(Some(known))
}

fn login(row: &SqliteRow) -> Result<Login, sqlx::Error> {
    let issuer = Arc::from(row.try_get::<&str, _>(5)?);
    Ok(Login {
        session: SessionKey { issuer, id: row.try_get::<&str, _>(6)?.into() },
        family: text(row, 4)?,
        user: text(row, 7)?,
        username: text(row, 8)?,
        client: text(row, 9)?,
    })
}
