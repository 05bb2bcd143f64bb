//! The session passwords of the in-memory store: the rule at its plainest, by walking over all of them.

use async_trait::async_trait;

use crate::domain::Timestamp;
use crate::store::memory::MemoryLog;
use crate::store::passwords::PER_SESSION;
use crate::store::{PasswordId, PasswordRecord, PasswordTable, StoreError};

/// Passwords in the order in which they were given.
#[derive(Default)]
pub(super) struct Kept(Vec<PasswordRecord>);

impl Kept {
    fn keep(&mut self, password: PasswordRecord) {
        let of = |record: &PasswordRecord| (record.claims.issuer.clone(), record.claims.session.clone());
        let session = of(&password);
        self.0.push(password);
        let mut spare = self.0.iter().filter(|held| of(held) == session).count().saturating_sub(PER_SESSION);
        self.0.retain(|held| {
            let goes = spare > 0 && of(held) == session;
            spare -= usize::from(goes);
            !goes
        });
    }

    /// Forgets what has expired, and says how many that were.
    pub(super) fn forget(&mut self, now: Timestamp) -> u64 {
        let before = self.0.len();
        self.0.retain(|held| now < held.expires_at);
        (before - self.0.len()) as u64
    }
}

#[async_trait]
impl PasswordTable for MemoryLog {
    async fn keep(&self, password: PasswordRecord) -> Result<(), StoreError> {
        self.with(|table| table.inventory.passwords.keep(password))
    }

    async fn password(&self, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError> {
        self.with(|table| table.inventory.passwords.0.iter().find(|held| held.id == id).cloned())
    }
}
