//! One session, one token, one family tree: what is looked up by key.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query, query_scalar};

use crate::domain::{SeenToken, SessionKey, TokenDigest};
use crate::store::postgres::fault::Failure;
use crate::store::postgres::rows::{integer, optional_time};
use crate::store::postgres::sessions::rows::{
    corrupt, issued_place, session, session_columns, session_key, token, token_columns, token_kind,
};
use crate::store::postgres::sessions::text::{optional_text, stored, told};
use crate::store::{
    BoxError, KnownToken, Login, MAX_DESCENDANTS, SESSION_TOKENS, SessionRecord, SessionToken, TOKEN_PAGE,
};

/// What is known of a token.
pub(super) async fn known(connection: &mut PgConnection, digest: TokenDigest) -> Result<Option<KnownToken>, Failure> {
    const KNOWN: &str = "SELECT tokens.kind, token_id, issued_at, tokens.expires_at, family, sessions.id, \
        sessions.issuer, sub, username, client FROM portcullis.tokens JOIN portcullis.sessions ON number = session \
        WHERE digest = $1 ORDER BY session";
    let rows = query(KNOWN).bind(&digest.as_bytes()[..]).fetch_all(connection).await?;
    Ok(known_by(&rows).map_err(corrupt)?)
}

/// A token as its logins tell it, one a row.
fn known_by(rows: &[PgRow]) -> Result<Option<KnownToken>, BoxError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let mut known = KnownToken {
        kind: token_kind(first.try_get(0)?),
        token_id: None,
        issued_at: None,
        expires_at: None,
        logins: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        known.token_id = known.token_id.take().or(optional_text(row, 1)?);
        known.issued_at = known.issued_at.or(optional_time(row, 2)?);
        known.expires_at = known.expires_at.max(optional_time(row, 3)?);
        known.logins.push(login(row)?);
    }
    Ok(Some(known))
}

fn login(row: &PgRow) -> Result<Login, sqlx::Error> {
    Ok(Login {
        session: session_key(row, 5)?,
        family: optional_text(row, 4)?,
        user: optional_text(row, 7)?,
        username: optional_text(row, 8)?,
        client: optional_text(row, 9)?,
    })
}

/// One session with its newest tokens. They are read after it: what was seen meanwhile may be among them.
pub(super) async fn record(connection: &mut PgConnection, key: &SessionKey) -> Result<Option<SessionRecord>, Failure> {
    const SESSION: &str =
        concat!("SELECT ", session_columns!(), " FROM portcullis.sessions WHERE id = $1 AND issuer = $2");
    const TOKENS: &str = concat!(
        "SELECT ",
        token_columns!(),
        " FROM portcullis.tokens WHERE session = $1 ORDER BY coalesce(issued_at, -1) DESC, digest DESC LIMIT $2"
    );
    let found = query(SESSION).bind(stored(&key.id)).bind(stored(&key.issuer)).fetch_optional(&mut *connection).await?;
    let Some(row) = found else { return Ok(None) };
    let found = session(&row)?;
    let tokens = query(TOKENS).bind(found.number).bind(integer(SESSION_TOKENS as u64)).fetch_all(connection).await?;
    let tokens = tokens.iter().map(token).collect::<Result<_, _>>()?;
    Ok(Some(SessionRecord { session: found.session, tokens }))
}

/// A page of a session's tokens.
pub(super) async fn tokens(
    connection: &mut PgConnection,
    key: &SessionKey,
    after: Option<&SeenToken>,
) -> Result<Vec<SessionToken>, Failure> {
    const TOKENS: &str = concat!(
        "SELECT ",
        token_columns!(),
        ", family FROM portcullis.tokens \
         WHERE session = (SELECT number FROM portcullis.sessions WHERE id = $1 AND issuer = $2) \
         AND (coalesce(issued_at, -1), digest) > ($3, $4) ORDER BY coalesce(issued_at, -1), digest LIMIT $5"
    );
    // Nothing stands before that place.
    let place = after.map_or(-2, |after| issued_place(after.issued_at));
    let digest = after.map(|after| after.digest.as_bytes().to_vec()).unwrap_or_default();
    let rows = query(TOKENS).bind(stored(&key.id)).bind(stored(&key.issuer)).bind(place).bind(digest);
    let rows = rows.bind(integer(TOKEN_PAGE as u64)).fetch_all(connection).await?;
    rows.iter().map(session_token).collect()
}

fn session_token(row: &PgRow) -> Result<SessionToken, Failure> {
    let family = optional_text(row, 6).map_err(corrupt)?;
    Ok(SessionToken { token: token(row)?, family })
}

/// The sessions opened from one, and from those, and so on.
pub(super) async fn descendants(connection: &mut PgConnection, key: &SessionKey) -> Result<Vec<SessionKey>, Failure> {
    // The union drops what was found before, so that circles end; the first row is the session itself. PostgreSQL goes
    // on with the recursion only as far as rows are asked for.
    const DESCENDANTS: &str = "WITH RECURSIVE family (id) AS (SELECT $1::text COLLATE \"C\" UNION \
            SELECT sessions.id FROM family JOIN portcullis.sessions ON parent = family.id AND issuer = $2) \
        SELECT id FROM (SELECT id FROM family LIMIT $3) AS found WHERE id <> $1";
    let found = query_scalar(DESCENDANTS)
        .bind(stored(&key.id))
        .bind(stored(&key.issuer))
        .bind(integer(MAX_DESCENDANTS as u64 + 1))
        .fetch_all(connection);
    let ids: Vec<String> = found.await?;
    Ok(ids.into_iter().map(|id| SessionKey { issuer: key.issuer.clone(), id: told(&id) }).collect())
}
