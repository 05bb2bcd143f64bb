//! Upkeep: one small batch of what is over, a call. What somebody else is changing just now is left for later, so nobody
//! waits for upkeep but who wants the very same rows, and replicas that tidy at once share the work.

use sqlx::postgres::PgConnection;
use sqlx::{query, query_scalar};

use crate::domain::Timestamp;
use crate::store::UNSEEN_RETENTION;
use crate::store::postgres::rows::seconds;
use crate::store::postgres::sessions::filter::quarter;

/// How many rows of each kind one batch forgets, at most.
const TIDY_ROWS: i64 = if cfg!(test) { 5 } else { 250 };
/// So many pieces of the census are not worth adding up.
const PIECES: i64 = if cfg!(test) { 2 } else { 200 };

/// What one batch did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tidied {
    /// How many rows went.
    pub(super) gone: u64,
    /// Whether there may be more to do.
    pub(super) more: bool,
}

/// Forgets a batch of each kind.
pub(super) async fn tidy(connection: &mut PgConnection, now: Timestamp) -> Result<Tidied, sqlx::Error> {
    const UNSEAL: &str = "WITH over AS MATERIALIZED (SELECT digest FROM portcullis.redemptions \
            WHERE sealed IS NOT NULL AND grace_until <= $1 ORDER BY grace_until LIMIT $2 FOR UPDATE SKIP LOCKED) \
        UPDATE portcullis.redemptions SET sealed = NULL WHERE digest IN (SELECT digest FROM over)";
    const REDEMPTIONS: &str = "WITH over AS MATERIALIZED (SELECT digest FROM portcullis.redemptions \
            WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) \
        DELETE FROM portcullis.redemptions WHERE digest IN (SELECT digest FROM over)";
    const TOKENS: &str = "WITH over AS MATERIALIZED (SELECT digest, session FROM portcullis.tokens \
            WHERE coalesce(expires_at, least(seen_at, 9000000000000000000) + 2592000) <= $1 \
            ORDER BY coalesce(expires_at, least(seen_at, 9000000000000000000) + 2592000) LIMIT $2 \
            FOR UPDATE SKIP LOCKED) \
        DELETE FROM portcullis.tokens WHERE (digest, session) IN (SELECT digest, session FROM over)";
    const PASSWORDS: &str = "WITH over AS MATERIALIZED (SELECT number FROM portcullis.session_passwords \
            WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) \
        DELETE FROM portcullis.session_passwords WHERE number IN (SELECT number FROM over)";
    let mut tidied = Tidied::default();
    for statement in [UNSEAL, REDEMPTIONS, TOKENS, PASSWORDS] {
        let done = query(statement).bind(seconds(now)).bind(TIDY_ROWS).execute(&mut *connection).await?;
        tidied.count(done.rows_affected());
    }
    tidied.count(forget_sessions(connection, now).await?);
    Ok(tidied)
}

impl Tidied {
    const fn count(&mut self, rows: u64) {
        self.gone += rows;
        self.more |= rows >= TIDY_ROWS as u64;
    }
}

/// Forgets sessions that are over and have no token left. They are locked first: then nobody adds a token.
async fn forget_sessions(connection: &mut PgConnection, now: Timestamp) -> Result<u64, sqlx::Error> {
    const EXPIRED: &str = "SELECT number FROM portcullis.sessions WHERE expires_at <= $1 \
        AND NOT EXISTS (SELECT FROM portcullis.tokens WHERE session = number) \
        ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    const UNSEEN: &str = "SELECT number FROM portcullis.sessions \
        WHERE expires_at IS NULL AND updated_at <= $1 AND updated_quarter <= $3 \
        AND NOT EXISTS (SELECT FROM portcullis.tokens WHERE session = number) \
        ORDER BY updated_quarter LIMIT $2 FOR UPDATE SKIP LOCKED";
    const SESSIONS: &str = "DELETE FROM portcullis.sessions WHERE number = ANY($1) \
        AND NOT EXISTS (SELECT FROM portcullis.tokens WHERE session = number) RETURNING number";
    const WORDS: &str = "DELETE FROM portcullis.words WHERE number = ANY($1)";
    let expired = query_scalar(EXPIRED).bind(seconds(now)).bind(TIDY_ROWS);
    let mut over: Vec<i64> = expired.fetch_all(&mut *connection).await?;
    let unseen_since = now.before(UNSEEN_RETENTION);
    let rest = TIDY_ROWS.saturating_sub(i64::try_from(over.len()).unwrap_or(i64::MAX));
    let unseen = query_scalar(UNSEEN).bind(seconds(unseen_since)).bind(rest).bind(quarter(unseen_since));
    let unseen: Vec<i64> = unseen.fetch_all(&mut *connection).await?;
    over.extend(unseen);
    if over.is_empty() {
        return Ok(0);
    }
    let gone: Vec<i64> = query_scalar(SESSIONS).bind(over).fetch_all(&mut *connection).await?;
    query(WORDS).bind(&gone).execute(connection).await?;
    Ok(gone.len() as u64)
}

/// Adds up the pieces of the census when there are many. What is added meanwhile stays as it is.
pub(super) async fn add_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    const MANY: &str = "SELECT count(*) > $1 FROM (SELECT FROM portcullis.census LIMIT $1 + 1) AS pieces";
    const ADD_UP: &str = "WITH pieces AS (DELETE FROM portcullis.census RETURNING *) INSERT INTO portcullis.census \
        SELECT issuer, client, kind, ended, sum(sessions) FROM pieces GROUP BY 1, 2, 3, 4 HAVING sum(sessions) <> 0";
    if query_scalar(MANY).bind(PIECES).fetch_one(&mut *connection).await? {
        query(ADD_UP).execute(connection).await?;
    }
    Ok(())
}
