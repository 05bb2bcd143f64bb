//! The digest a password is kept as: Argon2id with the parameters OWASP names first (19 MiB, two passes, one lane), salted.
//! It takes tens of milliseconds of a core and its memory, so it runs where it blocks nobody, and few at once.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use aws_lc_rs::rand::fill;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::sessions::passwords::{PATIENCE, PasswordError};

/// How many digests are made at once: they hold 38 MiB together.
const AT_ONCE: usize = 2;
/// A kibibyte each.
const MEMORY_BLOCKS: u32 = if cfg!(test) { Params::MIN_M_COST } else { 19 << 10 };
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// Makes and compares digests.
#[derive(Debug)]
pub(super) struct Hashing {
    turns: Arc<Semaphore>,
}

impl Hashing {
    pub(super) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The digest of `text` under a new salt, as a PHC string.
    pub(super) async fn hash(&self, text: &str) -> Result<Box<str>, PasswordError> {
        let text: Box<str> = text.into();
        self.in_turn(move || digest(&text)).await?.ok_or(PasswordError::Machine)
    }

    /// Whether `phc` is the digest of `text`. It says itself how it was made.
    pub(super) async fn fits(&self, text: &str, phc: &str) -> Result<bool, PasswordError> {
        let (text, phc): (Box<str>, Box<str>) = (text.into(), phc.into());
        self.in_turn(move || Argon2::default().verify_password(text.as_bytes(), &*phc).is_ok()).await
    }

    /// Does `work` where it blocks nobody, once it is its turn. Whoever gives up waiting for it leaves the turn to the work,
    /// which goes on to its end.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| PasswordError::Busy)?.map_err(|_| PasswordError::Busy)?;
        let done = spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|_| PasswordError::Machine)
    }
}

fn digest(text: &str) -> Option<Box<str>> {
    let mut salt = [0; SALT_BYTES];
    fill(&mut salt).ok()?;
    let params = Params::new(MEMORY_BLOCKS, PASSES, LANES, None).ok()?;
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let phc: PasswordHash = hasher.hash_password_with_salt(text.as_bytes(), &salt).ok()?;
    Some(phc.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_digest_fits_its_own_text_alone_and_no_two_are_alike() {
        let hashing = Hashing::new();
        let (one, again) = (hashing.hash("secret").await.unwrap(), hashing.hash("secret").await.unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=8,t=2,p=1$") && one != again, "{one}");
        assert!(hashing.fits("secret", &one).await.unwrap() && hashing.fits("secret", &again).await.unwrap());
        assert!(!hashing.fits("secret ", &one).await.unwrap() && !hashing.fits("secret", "no digest").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_for_a_turn_is_told_so() {
        let hashing = Hashing::new();
        let turns = hashing.turns.clone().acquire_many_owned(2).await.unwrap();
        assert!(matches!(hashing.hash("secret").await, Err(PasswordError::Busy)));
        drop(turns);
        assert!(hashing.hash("secret").await.is_ok());
    }
}
