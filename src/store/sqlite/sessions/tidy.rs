//! Upkeep: one small batch of what is over, a call.

use serde_json::Value;
use sqlx::query;
use sqlx::query_scalar;
use sqlx::sqlite::SqliteConnection;

use crate::domain::Timestamp;
use crate::store::UNSEEN_RETENTION;
use crate::store::sqlite::rows::seconds;
use crate::store::sqlite::sessions::rows::numbers;
use crate::store::sqlite::sessions::sweep;
use crate::store::sqlite::sessions::write::forget_words;
use crate::store::sqlite::transaction::Failure;

/// How many rows of each kind one batch forgets, at most.
const TIDY_ROWS: i64 = if cfg!(test) { 5 } else { 250 };

/// What one batch did.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store::sqlite) struct Tidied {
    /// How many rows went.
    pub(in crate::store::sqlite) gone: u64,
    /// Whether there may be more to do.
    pub(in crate::store::sqlite) more: bool,
}

/// Forgets a batch of each kind, and goes on with a revocation that ends very many sessions.
pub(in crate::store::sqlite) async fn tidy(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Tidied, Failure> {
    const UNSEAL: &str = "UPDATE redemptions SET sealed = NULL WHERE number IN \
        (SELECT number FROM redemptions WHERE sealed IS NOT NULL AND grace_until <= ?1 ORDER BY grace_until LIMIT ?2)";
    const REDEMPTIONS: &str = "DELETE FROM redemptions WHERE number IN \
        (SELECT number FROM redemptions WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    const TOKENS: &str = "DELETE FROM tokens WHERE (digest, session) IN (SELECT digest, session FROM tokens \
        WHERE ifnull(expires_at, seen_at + 2592000) <= ?1 ORDER BY ifnull(expires_at, seen_at + 2592000) LIMIT ?2)";
    const PASSWORDS: &str = "DELETE FROM session_passwords WHERE number IN \
        (SELECT number FROM session_passwords WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    let mut tidied = Tidied::default();
    for statement in [UNSEAL, REDEMPTIONS, TOKENS, PASSWORDS] {
        let done = query(statement).bind(seconds(now)).bind(TIDY_ROWS).execute(&mut *connection).await?;
        tidied.count(done.rows_affected());
    }
    tidied.count(forget_sessions(connection, now).await?);
    tidied.more |= sweep::go_on(connection, now).await?.is_some();
    Ok(tidied)
}

impl Tidied {
    const fn count(&mut self, rows: u64) {
        self.gone += rows;
        self.more |= rows >= TIDY_ROWS as u64;
    }
}

/// Forgets sessions that are over and have no token left.
async fn forget_sessions(connection: &mut SqliteConnection, now: Timestamp) -> Result<u64, sqlx::Error> {
    const OVER: &str = "SELECT number FROM (SELECT number FROM sessions INDEXED BY sessions_by_expires \
            WHERE expires_at <= ?1 AND NOT EXISTS (SELECT 1 FROM tokens WHERE session = number) LIMIT ?3) \
        UNION ALL SELECT number FROM (SELECT number FROM sessions INDEXED BY sessions_by_updated \
            WHERE updated_at <= ?2 AND expires_at IS NULL AND NOT EXISTS (SELECT 1 FROM tokens WHERE session = number) \
            LIMIT ?3) LIMIT ?3";
    const AGENTS: &str = "SELECT DISTINCT agents.text FROM sessions JOIN agents ON agents.number = agent \
        WHERE sessions.number IN (SELECT value FROM json_each(?1))";
    const SESSIONS: &str = "DELETE FROM sessions WHERE number IN (SELECT value FROM json_each(?1))";
    let unseen_since = seconds(now.before(UNSEEN_RETENTION));
    let over = query_scalar(OVER).bind(seconds(now)).bind(unseen_since).bind(TIDY_ROWS);
    let over: Vec<i64> = over.fetch_all(&mut *connection).await?;
    if over.is_empty() {
        return Ok(0);
    }
    let gone = numbers(over);
    let agents: Vec<String> = query_scalar(AGENTS).bind(&gone).fetch_all(&mut *connection).await?;
    forget_words(connection, &gone).await?;
    let sessions = query(SESSIONS).bind(&gone).execute(&mut *connection).await?.rows_affected();
    forget_agents(connection, &agents).await?;
    Ok(sessions)
}

/// Forgets those of these user agents that no session has any more.
pub(super) async fn forget_agents(
    connection: &mut SqliteConnection,
    agents: &[impl AsRef<str>],
) -> Result<(), sqlx::Error> {
    const AGENTS: &str = "DELETE FROM agents WHERE text IN (SELECT value FROM json_each(?1)) \
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE agent = agents.number)";
    if agents.is_empty() {
        return Ok(());
    }
    let agents: Value = agents.iter().map(AsRef::as_ref).collect();
    query(AGENTS).bind(agents.to_string()).execute(connection).await.map(|_| ())
}
