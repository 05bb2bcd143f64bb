//! Session passwords: a record each, and of each session the list of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{Claims, OtherClaim, Timestamp, TokenKind};
use crate::store::passwords::PER_SESSION;
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::commit::{Commit, Tries, Wait};
use crate::store::redis::sessions::keys::{PASSWORDS, PASSWORDS_OF, PASSWORDS_OVER};
use crate::store::redis::sessions::order::{put_text, time, written};
use crate::store::redis::sessions::page::Page;
use crate::store::redis::sessions::records::{Digest, read, write};
use crate::store::redis::sessions::tidy::TIDY_ROWS;
use crate::store::{PasswordId, PasswordRecord, StoreError};

/// How many bytes a password's id has.
const ID_BYTES: usize = 12;

/// A password as it is kept. Its claims are those of an access token of one login, which expires with it.
#[derive(Deserialize, Serialize)]
struct PasswordRow {
    #[serde(rename = "login")]
    username: Box<str>,
    phc: Box<str>,
    #[serde(rename = "made")]
    created_at: Timestamp,
    #[serde(rename = "exp")]
    expires_at: Timestamp,
    #[serde(rename = "iss")]
    issuer: Arc<str>,
    digest: Digest,
    session: Option<Box<str>>,
    user: Option<Box<str>>,
    name: Option<Box<str>>,
    client: Option<Box<str>>,
    family: Option<Box<str>>,
    key_id: Option<Box<str>>,
    token_id: Option<Box<str>>,
    #[serde(rename = "iat")]
    issued_at: Option<Timestamp>,
    scopes: Box<[Box<str>]>,
    other: Vec<OtherClaim>,
}

impl From<&PasswordRecord> for PasswordRow {
    fn from(record: &PasswordRecord) -> Self {
        let PasswordRecord { username, phc, claims, created_at, expires_at, .. } = record.clone();
        Self {
            username,
            phc,
            created_at,
            expires_at,
            issuer: claims.issuer,
            digest: Digest(claims.digest),
            session: claims.session,
            user: claims.user,
            name: claims.username,
            client: claims.client,
            family: claims.family,
            key_id: claims.key_id,
            token_id: claims.token_id,
            issued_at: claims.issued_at,
            scopes: claims.scopes,
            other: claims.other.into(),
        }
    }
}

impl PasswordRow {
    fn record(self, id: PasswordId) -> PasswordRecord {
        let claims = Claims {
            session: self.session,
            user: self.user,
            username: self.name,
            client: self.client,
            family: self.family,
            key_id: self.key_id,
            token_id: self.token_id,
            issued_at: self.issued_at,
            expires_at: Some(self.expires_at),
            scopes: self.scopes,
            other: self.other.into(),
            ..Claims::bare(self.issuer, TokenKind::Access, self.digest.0)
        };
        let Self { username, phc, created_at, expires_at, .. } = self;
        PasswordRecord { id, username, phc, claims, created_at, expires_at }
    }

    /// The session it is of, as a field.
    fn session(&self) -> Vec<u8> {
        let mut field = Vec::new();
        put_text(&mut field, &self.issuer);
        put_text(&mut field, self.session.as_deref().unwrap_or_default());
        field
    }

    /// Where it stands among those that will expire.
    fn over(&self, id: &[u8]) -> Vec<u8> {
        [&written(&time(self.expires_at)), id].concat()
    }
}

/// The password of that id.
pub(super) async fn password(connection: &Connection, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError> {
    let raw: Option<Vec<u8>> = connection.run(redis::cmd("HGET").arg(PASSWORDS).arg(&id.0[..])).await?;
    raw.map(|raw| read::<PasswordRow>(&raw).map(|row| row.record(id))).transpose()
}

/// Keeps a password, and forgets those of its session that are too many.
pub(super) async fn keep(connection: &Connection, wait: Wait, password: &PasswordRecord) -> Result<(), StoreError> {
    let (row, id) = (PasswordRow::from(password), &password.id.0[..]);
    let session = row.session();
    let mut tries = Tries::new();
    loop {
        let list: Option<Vec<u8>> = connection.run(redis::cmd("HGET").arg(PASSWORDS_OF).arg(&session)).await?;
        let mut commit = Commit::default();
        commit.only_if(PASSWORDS_OF, session.clone(), list.as_deref());
        let ids = list.unwrap_or_default();
        let ids: Vec<&[u8]> = ids.chunks(ID_BYTES).filter(|held| *held != id).chain([id]).collect();
        let (spare, stay) = ids.split_at(ids.len().saturating_sub(PER_SESSION));
        for spare in spare {
            drop_one(connection, &mut commit, spare).await?;
        }
        commit.keep(PASSWORDS, id, write(&row)?);
        commit.keep(PASSWORDS_OF, session.clone(), stay.concat());
        commit.relist(PASSWORDS_OVER, None, Some(row.over(id)));
        if commit.run_safely(connection, wait).await? {
            return Ok(());
        }
        tries.again().await?;
    }
}

async fn drop_one(connection: &Connection, commit: &mut Commit, id: &[u8]) -> Result<(), StoreError> {
    let raw: Option<Vec<u8>> = connection.run(redis::cmd("HGET").arg(PASSWORDS).arg(id)).await?;
    if let Some(raw) = raw {
        commit.relist(PASSWORDS_OVER, Some(read::<PasswordRow>(&raw)?.over(id)), None);
        commit.forget(PASSWORDS, id);
    }
    Ok(())
}

/// Forgets, in small batches, the passwords that stand up to `max`.
pub(super) async fn forget(connection: &Connection, max: &[u8]) -> Result<u64, StoreError> {
    let (mut gone, mut tries) = (0, Tries::new());
    let page = Page {
        key: PASSWORDS_OVER,
        records: PASSWORDS,
        suffix_bytes: ID_BYTES,
        min: b"-",
        max,
        descending: false,
        offset: 0,
        limit: TIDY_ROWS,
    };
    loop {
        let listed = page.read(connection).await?;
        let mut commit = Commit::default();
        let mut lists: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for one in &listed {
            let id = one.member.last_chunk::<ID_BYTES>().map(|id| id.to_vec()).unwrap_or_default();
            commit.relist(PASSWORDS_OVER, Some(one.member.clone()), None);
            if let Some(raw) = &one.raw {
                lists.entry(read::<PasswordRow>(raw)?.session()).or_default().push(id.clone());
                commit.forget(PASSWORDS, id);
            }
        }
        for (session, going) in lists {
            unlist(connection, &mut commit, session, &going).await?;
        }
        if !commit.run(connection).await? {
            tries.again().await?;
            continue;
        }
        gone += listed.len() as u64;
        if listed.len() < TIDY_ROWS {
            return Ok(gone);
        }
    }
}

/// Takes passwords out of their session's list.
async fn unlist(
    connection: &Connection,
    commit: &mut Commit,
    session: Vec<u8>,
    going: &[Vec<u8>],
) -> Result<(), StoreError> {
    let list: Option<Vec<u8>> = connection.run(redis::cmd("HGET").arg(PASSWORDS_OF).arg(&session)).await?;
    commit.only_if(PASSWORDS_OF, session.clone(), list.as_deref());
    let list = list.unwrap_or_default();
    let stay: Vec<&[u8]> = list.chunks(ID_BYTES).filter(|id| !going.iter().any(|gone| gone == id)).collect();
    match stay.is_empty() {
        true => commit.forget(PASSWORDS_OF, session),
        false => commit.keep(PASSWORDS_OF, session, stay.concat()),
    }
    Ok(())
}
