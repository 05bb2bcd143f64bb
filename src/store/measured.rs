//! Every store, timed: how long each operation took and whether it could be done, in the metrics. The adapters know
//! nothing of metrics.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};

use crate::clock::SharedClock;
use crate::domain::{Checkpoint, Recorded, RevocationId, SeenToken, Selector, SessionKey, Timestamp, TokenDigest};
use crate::store::{
    Appended, AuditQuery, AuditRecord, AuditTrail, Batch, Beat, Claim, Claimed, EventStream, KnownToken, Learned,
    Lesson, Page, PasswordId, PasswordRecord, PasswordTable, Replica, ReplicaTable, RevocationLog, RevocationQuery,
    SessionPage, SessionQuery, SessionRecord, SessionTable, SessionToken, Sighting, Store, StoreError,
};
use crate::telemetry::Metrics;

/// The store behind `backend`, measured.
pub(super) fn measured(
    backend: Arc<impl RevocationLog + AuditTrail + SessionTable + PasswordTable + ReplicaTable>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
) -> Store {
    let measured = Arc::new(Measured { backend, clock, metrics });
    Store {
        log: measured.clone(),
        audit: measured.clone(),
        sessions: measured.clone(),
        passwords: measured.clone(),
        replicas: measured,
    }
}

/// The same where what is known of sessions is kept by a part of its own.
pub(super) fn measured_apart(
    log: Arc<impl RevocationLog + AuditTrail + ReplicaTable>,
    inventory: Arc<impl SessionTable + PasswordTable>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
) -> Store {
    let log = Arc::new(Measured { backend: log, clock: clock.clone(), metrics: metrics.clone() });
    let inventory = Arc::new(Measured { backend: inventory, clock, metrics });
    Store { log: log.clone(), audit: log.clone(), sessions: inventory.clone(), passwords: inventory, replicas: log }
}

struct Measured<S> {
    backend: Arc<S>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

impl<S: fmt::Debug> fmt::Debug for Measured<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

impl<S> Measured<S> {
    async fn time<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let started = self.clock.elapsed();
        let answer = call.await;
        self.metrics.store(operation, self.clock.elapsed().saturating_sub(started), answer.is_ok());
        answer
    }
}

#[async_trait]
impl<S: RevocationLog> RevocationLog for Measured<S> {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.time("append", self.backend.append(batch)).await
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        let events = self.time("follow", self.backend.follow(from)).await?;
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        let since = clock.elapsed();
        let count = move |_: &StoreError| metrics.store("follow", clock.elapsed().saturating_sub(since), false);
        Ok(events.inspect_err(count).boxed())
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.time("find", self.backend.find(id)).await
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        self.time("standing", self.backend.standing(selector, now)).await
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.time("search", self.backend.search(query)).await
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.time("forget", self.backend.forget(now)).await
    }

    async fn close(&self) {
        self.backend.close().await;
    }
}

#[async_trait]
impl<S: AuditTrail> AuditTrail for Measured<S> {
    async fn record(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.time("record", self.backend.record(records)).await
    }

    async fn trail(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.time("trail", self.backend.trail(query)).await
    }
}

#[async_trait]
impl<S: SessionTable> SessionTable for Measured<S> {
    async fn learn(&self, lesson: Lesson) -> Result<Learned, StoreError> {
        self.time("learn", self.backend.learn(lesson)).await
    }

    async fn known(&self, digest: TokenDigest) -> Result<Option<KnownToken>, StoreError> {
        self.time("known", self.backend.known(digest)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.time("claim", self.backend.claim(claim)).await
    }

    async fn release(&self, digest: TokenDigest) -> Result<(), StoreError> {
        self.time("release", self.backend.release(digest)).await
    }

    async fn touch(&self, sightings: Vec<Sighting>) -> Result<Vec<SessionKey>, StoreError> {
        self.time("touch", self.backend.touch(sightings)).await
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        self.time("sessions", self.backend.sessions(query)).await
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        self.time("session", self.backend.session(key)).await
    }

    async fn tokens(&self, key: &SessionKey, after: Option<&SeenToken>) -> Result<Vec<SessionToken>, StoreError> {
        self.time("tokens", self.backend.tokens(key, after)).await
    }

    async fn descendants(&self, key: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
        self.time("descendants", self.backend.descendants(key)).await
    }

    async fn tidy(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.time("tidy", self.backend.tidy(now)).await
    }

    async fn prolong(&self, until: Timestamp) -> Result<(), StoreError> {
        self.time("prolong", self.backend.prolong(until)).await
    }
}

#[async_trait]
impl<S: PasswordTable> PasswordTable for Measured<S> {
    async fn keep(&self, password: PasswordRecord) -> Result<(), StoreError> {
        self.time("keep", self.backend.keep(password)).await
    }

    async fn password(&self, id: PasswordId) -> Result<Option<PasswordRecord>, StoreError> {
        self.time("password", self.backend.password(id)).await
    }
}

#[async_trait]
impl<S: ReplicaTable> ReplicaTable for Measured<S> {
    async fn beat(&self, beat: Beat) -> Result<(), StoreError> {
        self.time("beat", self.backend.beat(beat)).await
    }

    async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.time("replicas", self.backend.replicas()).await
    }

    async fn leave(&self, id: &str) -> Result<(), StoreError> {
        self.time("leave", self.backend.leave(id)).await
    }
}
