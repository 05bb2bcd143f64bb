//! The port of session passwords: secrets that stand for a session where only a username and a password can be sent.
//!
//! A store never sees a password: only its salted digest, and what is true of whoever shows it. What ends the session is
//! in the log, as for its tokens; here a password is only ever forgotten.

use std::fmt;

use async_trait::async_trait;

use crate::domain::{Claims, Timestamp};
use crate::store::StoreError;

/// How many passwords one session may have; a further one takes the place of the oldest.
pub(super) const PER_SESSION: usize = 5;

/// Which password: random, and no secret by itself.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PasswordId(pub [u8; 12]);

/// A password as it is kept.
#[derive(Clone, Eq, PartialEq)]
pub struct PasswordRecord {
    /// Which.
    pub id: PasswordId,
    /// The name that has to come with it.
    pub username: Box<str>,
    /// Its salted digest, as a PHC string.
    pub phc: Box<str>,
    /// What is true of whoever shows it: the claims of the access token it was got with, of one login. They name a session.
    pub claims: Claims,
    /// When it was given.
    pub created_at: Timestamp,
    /// The first second in which it is no good any more.
    pub expires_at: Timestamp,
}

impl fmt::Debug for PasswordRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, claims, expires_at, .. } = self;
        let session = &claims.session;
        f.debug_struct("PasswordRecord")
            .field("id", id)
            .field("session", session)
            .field("expires_at", expires_at)
            .finish_non_exhaustive()
    }
}

/// Passwords of sessions. Those that expired go with [`SessionTable::tidy`](crate::store::SessionTable::tidy).
#[async_trait]
pub trait PasswordTable: fmt::Debug + Send + Sync + 'static {
    /// Keeps a password; of its session only the five newest stay. After `Ok` it survives a crash, and every replica that
    /// shares the store knows it.
    async fn keep(&self, password: PasswordRecord) -> Result<(), StoreError>;

    /// The password of that id, also when it has expired and is not forgotten yet.
    async fn password(&self, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError>;
}
