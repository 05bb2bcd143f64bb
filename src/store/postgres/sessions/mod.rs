//! The inventory: sessions, their tokens, and which refresh tokens were used, shared by all replicas.
//!
//! Each call is a transaction of its own, or a few small ones. They wait for each other in one order: the log's end, then
//! what those hold who end sessions, then sessions by their keys, then their tokens, then redemptions; who appends
//! revocations waits for no session at all. See [`sweep`] for how a session learned just now meets its own end.

mod filter;
mod passwords;
mod read;
mod redeem;
mod rows;
mod search;
mod sweep;
#[cfg(test)]
mod tests;
mod text;
mod tidy;
mod tokens;
mod write;

use async_trait::async_trait;
use sqlx::Postgres;
use sqlx::Transaction;

use crate::domain::{SeenToken, SessionKey, Timestamp, TokenDigest};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::fault::{Failure, is_conflict};
use crate::store::postgres::server::Server;
use crate::store::session_end::naming_session;
use crate::store::{
    Claim, Claimed, KnownToken, Learned, Lesson, SessionPage, SessionQuery, SessionRecord, SessionTable, SessionToken,
    Sighting, StoreError,
};

pub(super) use sweep::carry_over;

/// How many sightings are committed as one; few, so that nobody who shares a session with them waits long.
const TOUCH_ROWS: usize = 500;
/// How often something is tried that others may be faster with.
const ATTEMPTS: usize = 10;

/// Runs `$call` in a transaction that reads one moment.
macro_rules! reading {
    ($log:expr, |$connection:ident| $call:expr) => {{
        let server = &$log.server;
        let call = async {
            let mut moment = server.read().await?;
            let $connection = &mut *moment;
            $call.await.map_err(|failure| server.explain(Failure::from(failure)))
        };
        server.bounded(call).await
    }};
}

/// Runs `$call` in a transaction that writes, and commits.
macro_rules! writing {
    ($log:expr, |$connection:ident| $call:expr) => {{
        let server = &$log.server;
        let call = async {
            let mut transaction = server.write().await?;
            let $connection = &mut *transaction;
            let done = $call.await.map_err(|failure| server.explain(Failure::from(failure)))?;
            transaction.commit().await.map_err(|error| server.fault(error))?;
            Ok(done)
        };
        server.bounded(call).await
    }};
}

#[async_trait]
impl SessionTable for PostgresStore {
    async fn learn(&self, lesson: Lesson) -> Result<Learned, StoreError> {
        let server = &self.server;
        let told = server.bounded(learn(server, &lesson)).await?;
        if !told.is_new && told.parent.is_none() {
            return Ok(Learned::default());
        }
        let parent_ended = server.bounded(settle(server, &lesson, &told)).await?;
        Ok(Learned { is_new: told.is_new, parent_ended })
    }

    async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
        reading!(self, |connection| read::known(connection, digest))
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        for _ in 0..ATTEMPTS {
            if writing!(self, |connection| redeem::claim_first(connection, &claim))? {
                return Ok(Claimed::Granted);
            }
            if let Some(claimed) = writing!(self, |connection| redeem::claim_again(connection, &claim))? {
                return Ok(claimed);
            }
        }
        Err(contended())
    }

    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError> {
        writing!(self, |connection| redeem::release(connection, digest))
    }

    async fn touch(&self, sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError> {
        let mut new = Vec::new();
        for some in sightings.chunks(TOUCH_ROWS) {
            let added = touch(&self.server, some).await?;
            if let Err(error) = &self.server.bounded(settle_new(&self.server, some, &added)).await {
                // What was written stands, and whom it is news to must hear of it.
                tracing::warn!(%error, cause = error.source_text(), "sessions may be shown as active that were ended");
            }
            new.extend(added);
        }
        Ok(new)
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        reading!(self, |connection| search::sessions(connection, query))
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        reading!(self, |connection| read::record(connection, key))
    }

    async fn tokens(&self, key: &SessionKey, after: Option<&SeenToken>) -> Result<Vec<SessionToken>, StoreError> {
        reading!(self, |connection| read::tokens(connection, key, after))
    }

    async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        reading!(self, |connection| read::descendants(connection, key))
    }

    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let tidied = writing!(self, |connection| tidy::tidy(connection, now))?;
            gone += tidied.gone;
            if !tidied.more {
                break;
            }
        }
        while writing!(self, |connection| sweep::go_on(connection, now))? {}
        writing!(self, |connection| tidy::add_up(connection))?;
        Ok(gone)
    }

    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError> {
        writing!(self, |connection| redeem::prolong(connection, until))
    }
}

fn contended() -> StoreError {
    StoreError::Unavailable("other replicas write the same all the time".into())
}

async fn commit(server: &Server, transaction: Transaction<'static, Postgres>) -> Result<(), StoreError> {
    transaction.commit().await.map_err(|error| server.fault(error))
}

async fn learn(server: &Server, lesson: &Lesson) -> Result<write::Told, StoreError> {
    for _ in 0..ATTEMPTS {
        let mut transaction = server.write().await?;
        match write::learn(&mut transaction, lesson).await {
            Ok(Some(told)) => return commit(server, transaction).await.map(|()| told),
            Ok(None) => {}
            Err(failure) if is_conflict(&failure) => {}
            Err(failure) => return Err(server.explain(failure)),
        }
    }
    Err(contended())
}

/// Writes sightings. What cannot be written whatever the weather must not keep the others: then each goes by itself.
async fn touch(server: &Server, sightings: &[Sighting]) -> Result<Vec<SessionKey>, StoreError> {
    match server.bounded(touch_once(server, sightings)).await? {
        Ok(new) => return Ok(new),
        Err(error) if sightings.len() == 1 => {
            tracing::error!(%error, cause = error.source_text(), "a sighting of a session is lost");
            return Ok(Vec::new());
        }
        Err(_) => {}
    }
    let mut new = Vec::new();
    for one in sightings {
        new.extend(Box::pin(touch(server, std::slice::from_ref(one))).await?);
    }
    Ok(new)
}

/// The sessions that were new; the inner error is about what was to be written.
async fn touch_once(
    server: &Server,
    sightings: &[Sighting],
) -> Result<Result<Vec<SessionKey>, StoreError>, StoreError> {
    for _ in 0..ATTEMPTS {
        let mut transaction = server.write().await?;
        match write::touch(&mut transaction, sightings).await {
            Ok(Some(new)) => return commit(server, transaction).await.map(|()| Ok(new)),
            Ok(None) => {}
            Err(failure) if is_conflict(&failure) => {}
            Err(failure) if failure.concerns_one() => return Ok(Err(server.explain(failure))),
            Err(failure) => return Err(server.explain(failure)),
        }
    }
    Err(contended())
}

/// Marks a session that was ended before it was learned, and tells whether the one it was opened from has been ended:
/// either, whoever ends it just now sees what was written, or is seen here.
async fn settle(server: &Server, lesson: &Lesson, told: &write::Told) -> Result<bool, StoreError> {
    let fail = |failure| server.explain(failure);
    let (session, now) = (&lesson.session, lesson.session.updated_at);
    let own = naming_session(&session.key.issuer, &session.key.id).filter(|_| told.is_new);
    let mut moment = server.write().await?;
    sweep::wait(&mut moment).await.map_err(|error| server.fault(error))?;
    let standing = sweep::standing(&mut moment, own.clone().into_iter().collect(), now).await.map_err(fail)?;
    let parent_ended = match &told.parent {
        Some(parent) => write::has_ended(&mut moment, &session.key.issuer, parent, now).await.map_err(fail)?,
        None => false,
    };
    commit(server, moment).await?;
    if !standing.is_empty() {
        begin_again(server, own.into_iter().collect(), now).await?;
    }
    Ok(parent_ended)
}

/// The same for sessions that were seen for the first time; and goes on with what their writing has held up.
async fn settle_new(server: &Server, sightings: &[Sighting], new: &[SessionKey]) -> Result<(), StoreError> {
    let fail = |failure| server.explain(failure);
    let now = sightings.iter().map(|sighting| sighting.session.updated_at).min().unwrap_or_default();
    let selectors: Vec<String> = new.iter().filter_map(|key| naming_session(&key.issuer, &key.id)).collect();
    let mut moment = server.write().await?;
    sweep::wait(&mut moment).await.map_err(|error| server.fault(error))?;
    let standing = sweep::standing(&mut moment, selectors.clone(), now).await.map_err(fail)?;
    let unfinished = sweep::is_unfinished(&mut moment).await.map_err(|error| server.fault(error))?;
    commit(server, moment).await?;
    if !standing.is_empty() {
        begin_again(server, selectors, now).await?;
    }
    if unfinished {
        let mut transaction = server.write().await?;
        sweep::help(&mut transaction, now).await.map_err(fail)?;
        commit(server, transaction).await?;
    }
    Ok(())
}

async fn begin_again(server: &Server, selectors: Vec<String>, now: Timestamp) -> Result<(), StoreError> {
    let mut transaction = server.write().await?;
    sweep::begin_again(&mut transaction, selectors, now).await.map_err(|failure| server.explain(failure))?;
    commit(server, transaction).await
}
