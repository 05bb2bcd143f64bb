//! Every store, timed: how long each operation took and whether it could be done, in the metrics. The adapters know
//! nothing of metrics.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};

use crate::clock::SharedClock;
use crate::domain::{Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::{
    Appended, AuditQuery, AuditRecord, AuditTrail, Batch, EventStream, Page, RevocationLog, RevocationQuery, Store,
    StoreError,
};
use crate::telemetry::Metrics;

/// The store behind `backend`, measured.
pub(super) fn measured(
    backend: Arc<impl RevocationLog + AuditTrail>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
) -> Store {
    let measured = Arc::new(Measured { backend, clock, metrics });
    Store { log: measured.clone(), audit: measured }
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

    async fn follow(&self, from: Position) -> Result<EventStream, StoreError> {
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
