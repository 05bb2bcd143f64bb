//! The inventory in the file: sessions, their tokens, and which refresh tokens were used.
//!
//! Writes go through the store's one writer. What a token endpoint waits for is committed with the revocations; what
//! traffic told and what upkeep forgets goes in small pieces, each of which waits until nothing else does.

mod filter;
mod passwords;
mod plan;
mod read;
mod redeem;
mod rows;
mod search;
mod sweep;
#[cfg(test)]
mod tests;
mod tidy;
mod words;
mod write;

use async_trait::async_trait;

use crate::domain::{SeenToken, SessionKey, Timestamp, TokenDigest};
use crate::store::sqlite::SqliteLog;
use crate::store::sqlite::writer::{Done, Work};
use crate::store::{
    Claim, Claimed, KnownToken, Learned, Lesson, SessionPage, SessionQuery, SessionRecord, SessionTable, SessionToken,
    Sighting, StoreError,
};

pub(super) use passwords::keep;
pub(super) use redeem::{claim, prolong, release};
pub(super) use sweep::carry_over;
pub(super) use tidy::{Tidied, tidy};
pub(super) use write::{learn, touch};

/// How many sightings are committed as one; few, so that a revocation need not wait long.
const TOUCH_ROWS: usize = 250;

#[async_trait]
impl SessionTable for SqliteLog {
    async fn learn(&self, lesson: Lesson) -> Result<Learned, StoreError> {
        match self.write(Work::Learn(Box::new(lesson))).await? {
            Done::Learned(learned) => Ok(learned),
            _ => Err(StoreError::closed()),
        }
    }

    async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
        self.reader.known(digest).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        match self.write(Work::Claim(claim)).await? {
            Done::Claimed(claimed) => Ok(claimed),
            _ => Err(StoreError::closed()),
        }
    }

    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError> {
        self.write(Work::Release(digest)).await.map(|_| ())
    }

    async fn touch(&self, mut sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError> {
        let mut new = Vec::new();
        while !sightings.is_empty() {
            let rest = sightings.split_off(sightings.len().min(TOUCH_ROWS));
            let Done::Touched(keys) = self.write_later(Work::Touch(sightings)).await? else { break };
            new.extend(keys);
            sightings = rest;
        }
        Ok(new)
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        self.reader.sessions(query).await
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        self.reader.session(key).await
    }

    async fn tokens(&self, key: &SessionKey, after: Option<&SeenToken>) -> Result<Vec<SessionToken>, StoreError> {
        self.reader.tokens(key, after).await
    }

    async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        self.reader.descendants(key).await
    }

    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let Done::Tidied(tidied) = self.write_later(Work::Tidy(now)).await? else { return Ok(gone) };
            gone += tidied.gone;
            if !tidied.more {
                return Ok(gone);
            }
        }
    }

    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError> {
        self.write(Work::Prolong(until)).await.map(|_| ())
    }
}
