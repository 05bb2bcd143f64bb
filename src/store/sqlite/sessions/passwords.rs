//! Session passwords in the file: a row each. The claims that are looked up by nobody are one JSON text.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::query;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::domain::{Claims, OtherClaim, Timestamp, TokenDigest, TokenKind};
use crate::store::passwords::PER_SESSION;
use crate::store::sqlite::SqliteLog;
use crate::store::sqlite::reader::Reader;
use crate::store::sqlite::rows::{integer, optional_time, seconds, time};
use crate::store::sqlite::sessions::rows::{corrupt, text};
use crate::store::sqlite::transaction::Failure;
use crate::store::sqlite::writer::Work;
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
impl PasswordTable for SqliteLog {
    async fn keep(&self, password: PasswordRecord) -> Result<(), StoreError> {
        self.write(Work::Keep(Box::new(password))).await.map(|_| ())
    }

    async fn password(&self, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError> {
        self.reader.password(id).await
    }
}

/// Keeps a password, and forgets those of its session that are too many.
pub(in crate::store::sqlite) async fn keep(
    connection: &mut SqliteConnection,
    password: &PasswordRecord,
) -> Result<(), Failure> {
    const KEEP: &str = "INSERT INTO session_passwords \
        (id, issuer, session, login, phc, digest, user, claims, issued_at, created_at, expires_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    const SPARE: &str = "DELETE FROM session_passwords WHERE issuer = ?1 AND session = ?2 AND number NOT IN \
        (SELECT number FROM session_passwords WHERE issuer = ?1 AND session = ?2 ORDER BY number DESC LIMIT ?3)";
    let PasswordRecord { id, username, phc, claims, created_at, expires_at } = password;
    let session = claims.session.as_deref().unwrap_or_default();
    let said = serde_json::to_string(&Said::of(claims)).map_err(corrupt)?;
    let kept = query(KEEP)
        .bind(&id.0[..])
        .bind(&*claims.issuer)
        .bind(session)
        .bind(&**username)
        .bind(&**phc)
        .bind(&claims.digest.as_bytes()[..])
        .bind(claims.user.as_deref())
        .bind(said)
        .bind(claims.issued_at.map(seconds))
        .bind(seconds(*created_at))
        .bind(seconds(*expires_at));
    kept.execute(&mut *connection).await?;
    let spare = query(SPARE).bind(&*claims.issuer).bind(session).bind(integer(PER_SESSION as u64));
    spare.execute(connection).await?;
    Ok(())
}

impl Reader {
    async fn password(&self, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError> {
        const PASSWORD: &str = "SELECT issuer, session, login, phc, digest, user, claims, issued_at, created_at, \
            expires_at FROM session_passwords WHERE id = ?1";
        let row = query(PASSWORD).bind(&id.0[..]).fetch_optional(&self.pool).await;
        let row = row.map_err(|error| self.fault(error))?;
        row.map(|row| record(id, &row)).transpose().map_err(corrupt)
    }
}

fn record(id: PasswordId, row: &SqliteRow) -> Result<PasswordRecord, BoxError> {
    let digest = TokenDigest::new(row.try_get::<&[u8], _>(4)?.try_into()?);
    let said: Said = serde_json::from_str(row.try_get(6)?)?;
    let expires_at: Timestamp = time(row.try_get(9)?)?;
    let claims = Claims {
        session: text(row, 1)?,
        user: text(row, 5)?,
        issued_at: optional_time(row, 7)?,
        expires_at: Some(expires_at),
        ..said.claims(Arc::from(row.try_get::<&str, _>(0)?), digest)
    };
    Ok(PasswordRecord {
        id,
        username: row.try_get::<&str, _>(2)?.into(),
        phc: row.try_get::<&str, _>(3)?.into(),
        claims,
        created_at: time(row.try_get(8)?)?,
        expires_at,
    })
}
