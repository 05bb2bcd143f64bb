//! Session passwords: a random secret that stands for a session where only HTTP Basic can be sent (git, WebDAV, old agents).
//!
//! A password speaks for the access token it was got with: it has that token's claims and digest, scopes included, with an
//! expiry of its own. So whatever kills the token, by what it says or by itself, kills the password as well, and admission
//! asks about it on every request as about any token. Here is only told whose a password is; nothing here decides who passes.
//!
//! It is stored as a salted digest (Argon2id) and never as itself. A check costs memory and time on purpose, so there are
//! bounds: few checks at once, few guesses a minute at one password, and a good answer is remembered for some minutes. What
//! is wrong, unknown or expired is answered alike.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock::SharedClock;
use crate::domain::{Claims, Timestamp, TokenKind};
use crate::sessions::passwords::attempts::Attempts;
use crate::sessions::passwords::hashing::Hashing;
use crate::sessions::passwords::secret::Secret;
use crate::store::{PasswordId, PasswordRecord, SharedPasswords, StoreError};

mod attempts;
mod hashing;
mod secret;
#[cfg(test)]
mod tests;

pub use secret::IssuedPassword;

/// For how long a good answer is remembered. Its session's end is seen at once all the same: admission asks the index.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// How much is remembered, in bytes.
const REMEMBERED_BYTES: u64 = 16 << 20;
/// How many passwords are looked up at once: whoever makes some up asks the store too, and must not keep others from it.
const LOOKUPS: usize = 2;
/// How long one may wait to be looked up, or for its digest.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest username that is handed out with a password, in bytes.
const MAX_USERNAME_BYTES: usize = 256;
/// The username where the user's own names cannot stand before a colon.
const FALLBACK_USERNAME: &str = "session";

/// How long passwords are good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PasswordSettings {
    /// At most so long; never beyond the session, nor beyond what a revocation of it is remembered for.
    pub ttl: Duration,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(8 * 3_600) }
    }
}

/// Why there is no password, or none that is good.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It is wrong, unknown or expired, the username is another, or there were too many guesses: nobody is told which.
    #[error("no such password")]
    Refused,
    /// Its time would be over before it began.
    #[error("the session is over")]
    Over,
    /// As many are being made and checked as may be; the same call may succeed later.
    #[error("too many passwords are being checked")]
    Busy,
    /// There is no randomness, or no memory.
    #[error("the machine cannot make or check a password")]
    Machine,
    /// They cannot be kept or found.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives passwords, and tells whose a password is. One for the process, whatever is reloaded.
pub struct Passwords {
    table: SharedPasswords,
    clock: SharedClock,
    ttl_secs: AtomicU64,
    lookups: Semaphore,
    hashing: Hashing,
    attempts: Attempts,
    /// Whose a password was found to be, by the SHA-256 of it and its username.
    remembered: Cache<[u8; 32], Arc<Claims>>,
}

impl Passwords {
    /// Passwords kept in `table`.
    #[must_use]
    pub fn new(table: SharedPasswords, clock: SharedClock, settings: PasswordSettings) -> Arc<Self> {
        let weight = |_: &[u8; 32], claims: &Arc<Claims>| u32::try_from(claims.weight_bytes()).unwrap_or(u32::MAX);
        let remembered =
            Cache::builder().max_capacity(REMEMBERED_BYTES).weigher(weight).time_to_live(REMEMBERED).build();
        let ttl_secs = AtomicU64::new(settings.ttl.as_secs());
        let (lookups, hashing, attempts) = (Semaphore::new(LOOKUPS), Hashing::new(), Attempts::new());
        Arc::new(Self { table, clock, ttl_secs, lookups, hashing, attempts, remembered })
    }

    /// Takes over other settings, for passwords given from now on.
    pub fn configure(&self, settings: PasswordSettings) {
        self.ttl_secs.store(settings.ttl.as_secs(), Ordering::Relaxed);
    }

    /// Gives a password to whoever showed a token with these claims, which somebody vouched for and which name a session. It
    /// is good for the configured time, and no longer than until `latest`.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Over`], [`PasswordError::Busy`], [`PasswordError::Machine`], [`PasswordError::Store`].
    pub async fn issue(&self, claims: &Claims, latest: Option<Timestamp>) -> Result<IssuedPassword, PasswordError> {
        let created_at = self.clock.now();
        let usual = created_at.after(Duration::from_secs(self.ttl_secs.load(Ordering::Relaxed)));
        let expires_at = latest.map_or(usual, |latest| latest.min(usual));
        if expires_at <= created_at {
            return Err(PasswordError::Over);
        }
        let secret = Secret::random()?;
        let username: Box<str> = username(claims).into();
        let record = PasswordRecord {
            id: secret.id,
            username: username.clone(),
            phc: self.hashing.hash(&secret.text).await?,
            claims: of_password(claims, expires_at),
            created_at,
            expires_at,
        };
        self.table.keep(record).await?;
        Ok(IssuedPassword::new(username, secret.text, expires_at))
    }

    /// Whose this password is: claims that were vouched for when it was given.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Refused`], whatever is wrong with it; [`PasswordError::Busy`], [`PasswordError::Machine`] and
    /// [`PasswordError::Store`] when nobody can tell.
    pub async fn verify(&self, username: &str, password: &str) -> Result<Arc<Claims>, Arc<PasswordError>> {
        let id = secret::id_of(password).ok_or(PasswordError::Refused)?;
        let shown = fingerprint(username, password);
        let claims = match self.remembered.get(&shown).await {
            Some(claims) => claims,
            // Many requests that come at once with one password share one check.
            None => self.remembered.try_get_with(shown, self.check(id, username, password)).await?,
        };
        let in_time = claims.expires_at.is_some_and(|expires_at| self.clock.now() < expires_at);
        if in_time { Ok(claims) } else { Err(PasswordError::Refused.into()) }
    }

    async fn check(&self, id: PasswordId, username: &str, password: &str) -> Result<Arc<Claims>, PasswordError> {
        let found = self.look_up(id).await?;
        let now = self.clock.now();
        let record = found.filter(|record| now < record.expires_at).ok_or(PasswordError::Refused)?;
        if !self.attempts.admit(id).await {
            return Err(PasswordError::Refused);
        }
        let fits = self.hashing.fits(password, &record.phc).await?;
        if !fits || *record.username != *username {
            return Err(PasswordError::Refused);
        }
        self.attempts.forget(id).await;
        Ok(Arc::new(record.claims))
    }

    async fn look_up(&self, id: PasswordId) -> Result<Option<PasswordRecord>, PasswordError> {
        let looked_up = async {
            let _turn = self.lookups.acquire().await.map_err(|_| PasswordError::Busy)?;
            Ok(self.table.password(id).await?)
        };
        timeout(PATIENCE, looked_up).await.map_err(|_| PasswordError::Busy)?
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({} remembered)", self.remembered.entry_count())
    }
}

/// What is true of whoever shows the password: what its token says, of one login, with an end of its own. Its identity is
/// the token's, so that what takes the token back takes back what was got with it.
fn of_password(claims: &Claims, expires_at: Timestamp) -> Claims {
    Claims { kind: TokenKind::Access, expires_at: Some(expires_at), twins: Box::default(), ..claims.clone() }
}

/// The name that comes with a password: the one people know the user by, else `sub`. What holds a colon or a control
/// character cannot be sent (RFC 7617 §2).
fn username(claims: &Claims) -> &str {
    let fits = |name: &&str| {
        (1..=MAX_USERNAME_BYTES).contains(&name.len()) && !name.contains(|c: char| c == ':' || c.is_control())
    };
    let names = [claims.username.as_deref(), claims.user.as_deref()];
    names.into_iter().flatten().find(fits).unwrap_or(FALLBACK_USERNAME)
}

/// A name for what was shown that does not tell it. A username has no colon, so no two pairs look alike.
fn fingerprint(username: &str, password: &str) -> [u8; 32] {
    sha256([username.as_bytes(), b":", password.as_bytes()])
}

fn sha256<const N: usize>(parts: [&[u8]; N]) -> [u8; 32] {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, &parts.concat()).as_ref());
    sha256
}
