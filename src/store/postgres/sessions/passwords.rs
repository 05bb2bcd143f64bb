//! Session passwords: a row each. The claims that are looked up by nobody are one JSON text.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query};

use crate::domain::{Claims, OtherClaim, Timestamp, TokenDigest, TokenKind};
use crate::store::passwords::PER_SESSION;
use crate::store::postgres::PostgresStore;
use crate::store::postgres::fault::Failure;
use crate::store::postgres::rows::{hash, integer, optional_time, seconds, time};
use crate::store::postgres::sessions::rows::{corrupt, digest};
use crate::store::postgres::sessions::text::{optional_text, stored, stored_option, text};
use crate::store::{BoxError, PasswordId, PasswordRecord, PasswordTable, StoreError};

/// The claims that have no column.
#[derive(Deserialize, Serialize)]
struct Said {
    family: Option<Box<str>>,
    username: Option<Box<str>>,
    client: Option<Box<str>>,
    key_id: Option<Box<str>>,
    token_id: Option<Box<str>>,
    scopes: Box<[Box<str>]>,
    other: Vec<OtherClaim>,
}

impl Said {
    fn of(claims: &Claims) -> Self {
        let Claims { family, username, client, key_id, token_id, scopes, other, .. } = claims.clone();
        Self { family, username, client, key_id, token_id, scopes, other: other.into() }
    }

    /// The whole claims again, but for what the columns say.
    fn claims(self, issuer: Arc<str>, digest: TokenDigest) -> Claims {
        let Self { family, username, client, key_id, token_id, scopes, other } = self;
        let bare = Claims::bare(issuer, TokenKind::Access, digest);
        Claims { family, username, client, key_id, token_id, scopes, other: other.into(), ..bare }
    }
}

#[async_trait]
impl PasswordTable for PostgresStore {
    async fn keep(&self, password: PasswordRecord) -> Result<(), StoreError> {
        let server = &self.server;
        let call = async {
            let mut transaction = server.write().await?;
            keep(&mut transaction, &password).await.map_err(|failure| server.explain(failure))?;
            transaction.commit().await.map_err(|error| server.fault(error))
        };
        server.bounded(call).await
    }

    async fn password(&self, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError> {
        let server = &self.server;
        let call = async {
            let mut moment = server.read().await?;
            find(&mut moment, id).await.map_err(|failure| server.explain(failure))
        };
        server.bounded(call).await
    }
}

/// Keeps a password, and forgets those of its session that are too many. Replicas that give one session passwords at once
/// do so one after the other.
async fn keep(connection: &mut PgConnection, password: &PasswordRecord) -> Result<(), Failure> {
    const KEEP: &str = "INSERT INTO portcullis.session_passwords \
        (id, issuer, session, login, phc, digest, sub, claims, issued_at, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    const SPARE: &str = "DELETE FROM portcullis.session_passwords WHERE number IN (SELECT number \
        FROM portcullis.session_passwords WHERE issuer = $1 AND session = $2 ORDER BY number DESC OFFSET $3)";
    let PasswordRecord { id, username, phc, claims, created_at, expires_at } = password;
    let (issuer, session) = (stored(&claims.issuer), stored(claims.session.as_deref().unwrap_or_default()));
    let said = serde_json::to_string(&Said::of(claims)).map_err(corrupt)?;
    let turn = query("SELECT pg_advisory_xact_lock($1)").bind(hash(&format!("{issuer}\0{session}")));
    turn.execute(&mut *connection).await?;
    let kept = query(KEEP)
        .bind(&id.0[..])
        .bind(&issuer)
        .bind(&session)
        .bind(stored(username))
        .bind(stored(phc))
        .bind(&claims.digest.as_bytes()[..])
        .bind(stored_option(claims.user.as_deref()))
        .bind(said)
        .bind(claims.issued_at.map(seconds))
        .bind(seconds(*created_at))
        .bind(seconds(*expires_at));
    kept.execute(&mut *connection).await?;
    let spare = query(SPARE).bind(&issuer).bind(&session).bind(integer(PER_SESSION as u64));
    spare.execute(connection).await?;
    Ok(())
}

async fn find(connection: &mut PgConnection, id: PasswordId) -> Result<Option<PasswordRecord>, Failure> {
    const PASSWORD: &str = "SELECT issuer, session, login, phc, digest, sub, claims, issued_at, created_at, expires_at \
        FROM portcullis.session_passwords WHERE id = $1";
    let row = query(PASSWORD).bind(&id.0[..]).fetch_optional(connection).await?;
    Ok(row.map(|row| record(id, &row)).transpose().map_err(corrupt)?)
}

fn record(id: PasswordId, row: &PgRow) -> Result<PasswordRecord, BoxError> {
    let said: Said = serde_json::from_str(row.try_get(6)?)?;
    let expires_at: Timestamp = time(row.try_get(9)?)?;
    let claims = Claims {
        session: optional_text(row, 1)?,
        user: optional_text(row, 5)?,
        issued_at: optional_time(row, 7)?,
        expires_at: Some(expires_at),
        ..said.claims(Arc::from(text(row, 0)?), digest(row.try_get(4)?)?)
    };
    Ok(PasswordRecord {
        id,
        username: text(row, 2)?,
        phc: text(row, 3)?,
        claims,
        created_at: time(row.try_get(8)?)?,
        expires_at,
    })
}
