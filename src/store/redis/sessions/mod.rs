//! The inventory in Redis: sessions, their tokens, which refresh tokens were used, and session passwords.
//!
//! A record each, in a few hashes; beside them sorted sets by which they are found, see [`order`]. What is decided is
//! decided here, by the rules that all adapters share, and written by one short script if what it was decided upon is still
//! so, see [`commit`]: of several replicas that write the same at once one gets through, and the others decide anew.
//!
//! All of it is in the server's memory: measured, 2.2 KiB a session without tokens.

mod commit;
mod keys;
mod order;
mod page;
mod passwords;
mod put;
mod read;
mod records;
mod redeem;
mod search;
mod standing;
mod sweep;
#[cfg(test)]
mod tests;
mod tidy;
mod write;

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{SeenToken, SessionKey, Timestamp, TokenDigest};
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::commit::Wait;
use crate::store::{
    Claim, Claimed, KnownToken, Learned, Lesson, PasswordId, PasswordRecord, PasswordTable, SessionPage, SessionQuery,
    SessionRecord, SessionTable, SessionToken, Sighting, StoreError,
};

pub(super) use sweep::{UNBEGUN, carry_over, concerns_sessions};

/// How many sightings are written as one; few, so that no script keeps others waiting for long.
const TOUCH_ROWS: usize = 125;

/// The inventory.
#[derive(Clone, Debug)]
pub(in crate::store) struct Inventory {
    /// The connection that all share.
    connection: Connection,
    /// The one over which goes what must be safe before it is answered: whoever waits for the server's replicas holds up
    /// all behind it.
    safe: Connection,
    wait: Wait,
    /// The longest one answer may take, upkeep aside.
    timeout: Duration,
}

impl Inventory {
    /// The inventory behind `connection`.
    pub(super) fn new(connection: &Connection, wait: Wait, timeout: Duration) -> Self {
        let safe = if wait.is_some() { connection.another() } else { connection.clone() };
        Self { connection: connection.clone(), safe, wait, timeout }
    }

    /// Lets go of the connection that is its own.
    pub(super) fn close(&self) {
        self.safe.close();
    }

    /// Waits for an answer, for `timeout` at most.
    async fn within<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let too_long = |_| StoreError::Unavailable("the Redis did not answer in time".into());
        tokio::time::timeout(self.timeout, asked).await.map_err(too_long)?
    }
}

#[async_trait]
impl SessionTable for Inventory {
    async fn learn(&self, lesson: Lesson) -> Result<Learned, StoreError> {
        self.within(write::learn(&self.safe, self.wait, lesson)).await
    }

    async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
        self.within(read::known(&self.connection, digest)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.within(redeem::claim(&self.safe, self.wait, &claim)).await
    }

    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError> {
        self.within(redeem::release(&self.safe, self.wait, digest)).await
    }

    async fn touch(&self, mut sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError> {
        let mut new = Vec::new();
        while !sightings.is_empty() {
            let rest = sightings.split_off(sightings.len().min(TOUCH_ROWS));
            new.extend(self.within(write::touch(&self.connection, sightings)).await?);
            sightings = rest;
        }
        Ok(new)
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        self.within(search::search(&self.connection, query)).await
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        self.within(read::record(&self.connection, key)).await
    }

    async fn tokens(&self, key: &SessionKey, after: Option<&SeenToken>) -> Result<Vec<SessionToken>, StoreError> {
        self.within(read::tokens(&self.connection, key, after)).await
    }

    async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        self.within(read::descendants(&self.connection, key)).await
    }

    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError> {
        tidy::tidy(&self.connection, now).await
    }

    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError> {
        redeem::prolong(&self.connection, until).await
    }
}

#[async_trait]
impl PasswordTable for Inventory {
    async fn keep(&self, password: PasswordRecord) -> Result<(), StoreError> {
        self.within(passwords::keep(&self.safe, self.wait, &password)).await
    }

    async fn password(&self, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError> {
        self.within(passwords::password(&self.connection, id)).await
    }
}
