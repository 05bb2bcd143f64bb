//! Where revocations and the audit trail are kept: ports here, an adapter a file.
//!
//! `Ok` of a write promises that it survives a crash. A store knows nothing of tokens, only of selectors; it never asks
//! for the wall clock, which comes with each call. Followers are told of states, not of steps: two changes of one
//! revocation in quick succession may be seen as one, none is ever missed.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::clock::SharedClock;
use crate::domain::{
    Change, Checkpoint, Disposition, Entry, Position, Proof, Recorded, RevocationId, Selector, Timestamp,
};
use crate::telemetry::Metrics;

mod accounts;
mod backoff;
#[cfg(test)]
mod contract_tests;
mod decide;
mod feed;
mod measured;
mod memory;
mod memory_passwords;
mod memory_sessions;
#[cfg(test)]
mod password_contract_tests;
mod passwords;
mod postgres;
mod query;
mod redemption;
mod redis;
mod replicas;
#[cfg(test)]
mod session_contract_tests;
mod session_end;
mod session_query;
#[cfg(test)]
mod session_search_tests;
mod sessions;
mod settings;
mod sqlite;
#[cfg(test)]
pub(crate) mod testing;
mod url;

pub use backoff::Backoff;
pub use passwords::{PasswordId, PasswordRecord, PasswordTable};
pub use redis::InvalidAddress;
pub use replicas::{Beat, Replica, ReplicaTable};
pub use sessions::{
    Claim, Claimed, Cursor, KnownToken, Learned, Lesson, Login, Redeemed, SessionPage, SessionQuery, SessionRecord,
    SessionTable, SessionToken, Sighting, SortKey, SoughtDomain, Span,
};
pub use settings::{Backend, InvalidUrl, Password, Remote, Settings, StoreUrl};

/// The error a backend gave.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// What happened in the log, from a position on.
pub type EventStream = BoxStream<'static, Result<Event, StoreError>>;
/// The log, shared.
pub type SharedLog = Arc<dyn RevocationLog>;
/// What is known of sessions, shared.
pub type SharedSessions = Arc<dyn SessionTable>;
/// Session passwords, shared.
pub type SharedPasswords = Arc<dyn PasswordTable>;
/// Signs of life, shared.
pub type SharedReplicas = Arc<dyn ReplicaTable>;
/// The audit trail, shared.
pub type SharedAudit = Arc<dyn AuditTrail>;

/// A durable, shared log of revocations and lifts. Delivery is in order, and at least once.
#[async_trait]
pub trait RevocationLog: Debug + Send + Sync + 'static {
    /// Appends all of `batch` and its audit records, or none. After `Ok` it survives a crash and reaches every follower.
    /// The answer has a disposition for each entry, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lost`] when the log's history does not hold `batch.seen`; nothing was stored then.
    /// [`StoreError::Unavailable`] leaves it unknown whether the batch was stored; append it again: a revocation whose id
    /// the log holds already is answered as it was.
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError>;

    /// Streams all that stands when `from` is the start, after [`Event::Loading`], else what changed after `from`; then
    /// [`Event::CaughtUp`], then the news as it comes. The stream ends with an error, never silently: with
    /// [`StoreError::Lost`] or [`StoreError::Trimmed`] when the log cannot go on from there.
    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError>;

    /// The revocation of that id, standing or not; `None` when it never was or is forgotten.
    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError>;

    /// What stands at `now` for exactly this selector.
    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError>;

    /// A page of revocations, the newest position first.
    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError>;

    /// Forgets, in small batches, what has expired at `now`, and what was lifted or superseded so long ago that no follower
    /// can have missed it; returns how many rows went. Positions are never given out again.
    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Finishes what was begun and lets go of the backend; every later call is answered with an error.
    async fn close(&self);
}

/// Who did what: append-only.
#[async_trait]
pub trait AuditTrail: Debug + Send + Sync + 'static {
    /// Appends all of `records`, durably.
    async fn record(&self, records: Vec<AuditRecord>) -> Result<(), StoreError>;

    /// A page of the trail, the newest first.
    async fn trail(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError>;
}

/// How long what was lifted or superseded, and would never expire, is still told to followers and to searches.
const ENDED_RETENTION: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How long a session or a token that nobody saw again is kept when it is unknown when it expires.
const UNSEEN_RETENTION: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The most descendants of a session that are told.
const MAX_DESCENDANTS: usize = 10_000;
/// How many tokens are shown of a session.
const SESSION_TOKENS: usize = 100;
/// How many tokens of a session are read at once.
const TOKEN_PAGE: usize = 1_000;

/// What is appended as one.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Revocations and lifts.
    pub entries: Vec<Entry>,
    /// What the trail says about them, committed with them: the first record speaks of the first entry, and so on. The
    /// store fills in `result` and `revocation` from what became of the entry, and leaves out the record of an entry that
    /// it held already. Records beyond the entries are written as they are.
    pub audit: Vec<AuditRecord>,
    /// The wall clock, to tell what is still in force.
    pub now: Timestamp,
    /// How far the appending replica has read the log. A log that does not know this place has lost data, and takes nothing
    /// from a replica that has not noticed: it would take the new position for one it has applied. The start: whatever.
    pub seen: Checkpoint,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The log's end after it; an index that has reached it shows the whole batch.
    pub position: Position,
    /// One for each entry.
    pub dispositions: Vec<Disposition>,
}

/// What a follower sees.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every event is a change; a box would cost each of them an allocation"
)]
pub enum Event {
    /// The state is about to be delivered; what changes after this position follows it as news.
    Loading(Position),
    /// News of one selector.
    Change(Change),
    /// Everything up to here was delivered. Repeated while nothing happens: proof of being in step.
    CaughtUp(Proof),
}

/// Which revocations a search wants.
#[derive(Clone, Debug, Default)]
pub struct RevocationQuery {
    /// Names and values that the selector must hold (a part of it is enough).
    pub having: Vec<(String, String)>,
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only what stands at `now`; else the ended too.
    pub standing_only: bool,
    /// The wall clock.
    pub now: Timestamp,
    /// Only what stands before this position: the cursor.
    pub before: Option<Position>,
    /// At most so many; 1 to 1,000.
    pub limit: u32,
}

/// Which audit records a search wants.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only about this revocation.
    pub revocation: Option<RevocationId>,
    /// Only since.
    pub since: Option<Timestamp>,
    /// Only until, exclusive.
    pub until: Option<Timestamp>,
    /// Only records before this one: the cursor.
    pub before: Option<u64>,
    /// At most so many; 1 to 1,000.
    pub limit: u32,
}

/// One line of the audit trail.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct AuditRecord {
    /// Its number, given by the store; 0 before.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// The caller's name, or what it claimed to be.
    pub actor: String,
    /// From where: an IP address, or `-`.
    pub address: String,
    /// What was asked for: `revoke`, `lift`, `authenticate`, `read`…
    pub action: String,
    /// About what: a selector's canonical JSON, a path; never a token.
    pub subject: String,
    /// Why, in the caller's words.
    pub reason: Option<String>,
    /// What came of it: `created`, `already`, `lifted`, `refused`, `attempted`, `failed`.
    pub result: String,
    /// The revocation it is about.
    pub revocation: Option<RevocationId>,
}

/// Some of the answer, and where to go on.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// The cursor of the next page, if there is one.
    pub next: Option<u64>,
}

/// A store, opened.
#[derive(Clone, Debug)]
pub struct Store {
    /// Revocations and lifts.
    pub log: SharedLog,
    /// Who did what.
    pub audit: SharedAudit,
    /// Sessions, their tokens, and which refresh tokens were used.
    pub sessions: SharedSessions,
    /// Passwords that stand for sessions.
    pub passwords: SharedPasswords,
    /// Which replicas there are.
    pub replicas: SharedReplicas,
}

impl Store {
    /// Opens the store that `settings` name; a new one is made where there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] with what is wrong and what to do: a locked, damaged or foreign file, a schema newer than
    /// this program, a folder that cannot be written.
    pub async fn open(settings: &Settings, clock: SharedClock, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        match &settings.backend {
            Backend::Memory => Ok(measured::measured(memory::MemoryLog::new(clock.clone()), clock, metrics)),
            Backend::Sqlite(path) => {
                Ok(measured::measured(sqlite::SqliteLog::open(path, settings, clock.clone()).await?, clock, metrics))
            }
            Backend::Postgres(url) => Ok(measured::measured(
                postgres::PostgresStore::open(url, settings, clock.clone()).await?,
                clock,
                metrics,
            )),
            Backend::Redis(url) => {
                let log = redis::RedisLog::open(url.reveal(), settings, clock.clone()).await?;
                let inventory = log.inventory();
                Ok(measured::measured_apart(log, inventory, clock, metrics))
            }
        }
    }

    /// Finishes what was begun and lets go of the backend.
    pub async fn close(&self) {
        self.log.close().await;
    }
}

/// Why the store could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The backend did not answer, or could not write; the same call may succeed later.
    #[error("store is unavailable")]
    Unavailable(#[source] BoxError),
    /// A stored record cannot be read by this version; retrying cannot help.
    #[error("record at position {0} is corrupt")]
    Corrupt(Position, #[source] BoxError),
    /// The store does not know a place it has led this replica to: it was emptied, restored, or replaced by one that lagged
    /// behind. What the replica holds must be put back.
    #[error("the store lost data: {0}")]
    Lost(String),
    /// The news after this position is no longer told; all that stands must be read anew.
    #[error("the news after position {0} is no longer told")]
    Trimmed(Position),
    /// The store cannot be used at all: the text says why and what to do.
    #[error("{0}")]
    Unusable(String, #[source] Option<BoxError>),
}

impl StoreError {
    /// What the backend said, for logs; the error's own text does not repeat it.
    #[must_use]
    pub fn source_text(&self) -> Option<String> {
        std::error::Error::source(self).map(ToString::to_string)
    }

    /// The same error for another call that shared its fate.
    fn once_more(&self) -> Self {
        let text = self.source_text().unwrap_or_default();
        match self {
            Self::Unavailable(_) => Self::Unavailable(text.into()),
            Self::Corrupt(position, _) => Self::Corrupt(*position, text.into()),
            Self::Unusable(why, _) => Self::Unusable(why.clone(), None),
            Self::Lost(what) => Self::Lost(what.clone()),
            Self::Trimmed(position) => Self::Trimmed(*position),
        }
    }

    fn closed() -> Self {
        Self::Unavailable("the store was closed".into())
    }
}
