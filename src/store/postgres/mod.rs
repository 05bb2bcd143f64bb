//! The store on PostgreSQL, 14 or newer: many replicas share it, in a schema `portcullis` of its own.
//!
//! Positions are assigned under a row lock that is held until the commit, so they become visible in their order and no
//! reader skips one. `NOTIFY` only wakes; the tables inform; a poll backs it. A server that is away when we start is waited
//! for; one that refuses us is not.

mod append;
mod connection;
mod fault;
mod forget;
mod history;
mod listen;
mod pages;
mod reader;
mod replicas;
mod rows;
mod schema;
mod server;
mod sessions;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::domain::{Checkpoint, Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::feed::{self, Source};
use crate::store::postgres::server::Server;
use crate::store::postgres::writer::{Done, Job, QUEUE, Work, Writer};
use crate::store::{
    Appended, AuditQuery, AuditRecord, AuditTrail, Batch, Beat, EventStream, Page, Replica, ReplicaTable,
    RevocationLog, RevocationQuery, Settings, StoreError, StoreUrl,
};

/// A store on a PostgreSQL server.
pub(super) struct PostgresStore {
    server: Arc<Server>,
    wake: Mutex<Option<watch::Receiver<Position>>>,
    poll: Duration,
    clock: SharedClock,
    /// The way to the writer; `None` once the store is closed. Held for a moment, never across an await.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    tasks: Mutex<Option<Tasks>>,
}

/// What runs as long as the store is open.
struct Tasks {
    writer: JoinHandle<()>,
    listener: JoinHandle<()>,
    looker: JoinHandle<()>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Reaches for the server.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] when it was reached and cannot be used. One that is away may come later.
    pub(super) async fn open(url: &StoreUrl, settings: &Settings, clock: SharedClock) -> Result<Arc<Self>, StoreError> {
        let server = Server::new(url, settings)?;
        let looker = server.reach().await?;
        let wake = watch::Sender::new(Position::START);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer { server: server.clone(), wake: wake.clone(), connection: None };
        let tasks = Tasks {
            writer: tokio::spawn(writer.run(queue)),
            listener: tokio::spawn(listen::listen(server.clone(), wake.clone(), settings.clone())),
            looker,
        };
        Ok(Arc::new(Self {
            server,
            wake: Mutex::new(Some(wake.subscribe())),
            poll: settings.remote.poll,
            clock,
            jobs: Mutex::new(Some(jobs)),
            tasks: Mutex::new(Some(tasks)),
        }))
    }

    /// Hands work to the writer and waits for the answer.
    async fn ask(&self, work: Work) -> Result<Done, StoreError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(StoreError::closed)?;
        let (reply, answer) = oneshot::channel();
        self.server
            .bounded(async move {
                jobs.send(Job { work, reply }).await.map_err(|_| StoreError::closed())?;
                answer.await.unwrap_or_else(|_| Err(StoreError::closed()))
            })
            .await
    }
}

#[async_trait]
impl RevocationLog for PostgresStore {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        match self.ask(Work::Append(batch)).await? {
            Done::Appended(appended) => Ok(appended),
            Done::Written => Err(StoreError::closed()),
        }
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(StoreError::closed)?;
        let source = Source { pages: self.server.clone(), wake, poll: self.poll, clock: self.clock.clone() };
        Ok(feed::follow(source, from))
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.server.find(id).await
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        self.server.standing(selector, now).await
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.server.search(query).await
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.server.forget(now).await
    }

    async fn close(&self) {
        // The way to the writer first: it ends once its queue is empty.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.wake.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Tasks { writer, listener, looker }) = tasks else { return };
        listener.abort();
        let _ = writer.await;
        self.server.close().await;
        let _ = listener.await;
        let _ = looker.await;
    }
}

#[async_trait]
impl AuditTrail for PostgresStore {
    async fn record(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.ask(Work::Record(records)).await.map(|_| ())
    }

    async fn trail(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.server.trail(query).await
    }
}

#[async_trait]
impl ReplicaTable for PostgresStore {
    async fn beat(&self, beat: Beat) -> Result<(), StoreError> {
        self.server.beat(&beat).await
    }

    async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.server.replicas().await
    }

    async fn leave(&self, id: &str) -> Result<(), StoreError> {
        self.server.leave(id).await
    }
}
