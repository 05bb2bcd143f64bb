//! A store for many replicas in Redis 6.2 or newer or Valkey: one server, one watched by sentinels, or a cluster.
//!
//! One script writes the log, the state and the trail together. How durable that is, is Redis' to say: what its own
//! persistence gives, and `WAIT` when configured. What it loses in a failover is found out by every follower, by the mark
//! that is set with each position.

mod address;
mod append;
mod connection;
mod fault;
mod forget;
mod keys;
mod listener;
#[cfg(test)]
mod log_tests;
mod lua;
mod pages;
mod replicas;
mod rows;
mod schema;
mod search;
mod server;
mod sessions;
mod survey;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub(super) use address::Address;
pub use address::InvalidAddress;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::domain::{Checkpoint, Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::feed::{self, Source};
use crate::store::redis::append::Terms;
use crate::store::redis::connection::Connection;
use crate::store::redis::keys::SELECTORS;
use crate::store::redis::pages::Reader;
use crate::store::redis::server::Access;
use crate::store::redis::sessions::Inventory;
use crate::store::redis::writer::Job;
use crate::store::{
    Appended, AuditQuery, AuditRecord, AuditTrail, Batch, Beat, EventStream, Page, Replica, ReplicaTable,
    RevocationLog, RevocationQuery, Settings, StoreError,
};

/// How many positions back the news goes; whoever is further behind reads all that stands anew.
const NEWS_KEPT: u64 = 500_000;
/// The longest a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest a server may take to answer; it holds questions of the listener back for a second.
const RESPONSE: Duration = Duration::from_secs(3);

/// Revocations, audit records and signs of life in a Redis.
pub(super) struct RedisLog {
    reader: Reader,
    clock: SharedClock,
    timeout: Duration,
    poll: Duration,
    inventory: Arc<Inventory>,
    /// What works in the background; `None` once the store is closed. Held for a moment, never across an await.
    works: Mutex<Option<Works>>,
}

struct Works {
    desk: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
    listener: JoinHandle<()>,
    wake: Arc<watch::Sender<Position>>,
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisLog").field(&self.reader.connection).finish()
    }
}

impl RedisLog {
    /// Opens the store at `url`. A server that is not there yet is waited for by the calls that need it.
    pub(super) async fn open(url: &str, settings: &Settings, clock: SharedClock) -> Result<Arc<Self>, StoreError> {
        let connection = Connection::new(Arc::new(access(url, settings).await?));
        match connection.open().await {
            Ok(()) => survey::warn_of_settings(&connection).await,
            Err(StoreError::Unavailable(error)) => {
                tracing::error!(%error, "the Redis of store.url cannot be reached; trying again");
            }
            Err(error) => return Err(error),
        }
        let remote = &settings.remote;
        let wait = (remote.wait_replicas > 0).then_some((remote.wait_replicas, remote.wait_timeout));
        Ok(Arc::new(Self::start(connection, Terms { wait, kept: NEWS_KEPT }, (settings.timeout, remote.poll), clock)))
    }

    fn start(connection: Connection, terms: Terms, (timeout, poll): (Duration, Duration), clock: SharedClock) -> Self {
        let wake = Arc::new(watch::Sender::new(Position::START));
        let (desk, writer) = writer::start((connection.another(), connection.clone()), terms, wake.clone());
        let listener = tokio::spawn(listener::listen(connection.another(), wake.clone()));
        let works = Mutex::new(Some(Works { desk, writer, listener, wake }));
        let inventory = Arc::new(Inventory::new(&connection, terms.wait, timeout));
        Self { reader: Reader { connection }, clock, timeout, poll, inventory, works }
    }

    /// Sessions and passwords, in the same Redis.
    pub(super) fn inventory(&self) -> Arc<Inventory> {
        self.inventory.clone()
    }

    fn works<T>(&self, take: impl FnOnce(&Works) -> T) -> Result<T, StoreError> {
        let works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
        works.as_ref().map(take).ok_or_else(StoreError::closed)
    }

    /// Waits for an answer, for `timeout` at most.
    async fn within<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let too_long = |_| StoreError::Unavailable("the Redis did not answer in time".into());
        tokio::time::timeout(self.timeout, asked).await.map_err(too_long)?
    }
}

/// How to get into the Redis of `url`.
async fn access(url: &str, settings: &Settings) -> Result<Access, StoreError> {
    let address = Address::parse(url).map_err(|error| StoreError::Unusable(format!("store.url: {error}"), None))?;
    let remote = &settings.remote;
    let ca = match &remote.ca {
        Some(path) => Some(file(path).await?),
        None => None,
    };
    let identity = match &remote.identity {
        Some((cert, key)) => Some((file(cert).await?, file(key).await?)),
        None => None,
    };
    Ok(Access {
        address,
        password: remote.password.clone(),
        ca,
        identity,
        connect_timeout: CONNECT.min(settings.timeout),
        response_timeout: RESPONSE + remote.wait_timeout,
    })
}

async fn file(path: &Path) -> Result<Vec<u8>, StoreError> {
    let fault =
        |error: std::io::Error| StoreError::Unusable(format!("cannot read {}", path.display()), Some(error.into()));
    tokio::fs::read(path).await.map_err(fault)
}

#[async_trait]
impl RevocationLog for RedisLog {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let desk = self.works(|works| works.desk.clone())?;
        let (reply, answer) = oneshot::channel();
        self.within(async move {
            desk.send(Job { batch, reply }).await.map_err(|_| StoreError::closed())?;
            answer.await.unwrap_or_else(|_| Err(StoreError::closed()))
        })
        .await
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        let wake = self.works(|works| works.wake.subscribe())?;
        let (pages, clock) = (Arc::new(self.reader.clone()), self.clock.clone());
        Ok(feed::follow(Source { pages, wake, poll: self.poll, clock }, from))
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.within(async { Ok(self.reader.rows(&[id]).await?.pop()) }).await
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        self.within(async {
            let question = cmd("HGET").arg(SELECTORS).arg(selector.canonical()).take();
            let value: Option<Vec<u8>> = self.reader.connection.run(&question).await?;
            let mut held = self.reader.rows(&rows::unended(&value.unwrap_or_default())?).await?;
            held.retain(|held| held.stands(now));
            Ok(held)
        })
        .await
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.within(search::search(&self.reader, query)).await
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let (due, gone) = self.within(forget::forget(&self.reader, now)).await?;
            forgotten += gone;
            // Of what is due and stays, others have changed something just now.
            if due < forget::FORGET_ROWS || gone == 0 {
                return Ok(forgotten);
            }
        }
    }

    async fn close(&self) {
        let works = self.works.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Works { desk, writer, listener, wake }) = works {
            listener.abort();
            drop((desk, wake));
            // It ends once the queue is empty; a panic in it has been reported already.
            let _ = writer.await;
            let _ = listener.await;
        }
        self.inventory.close();
        self.reader.connection.close();
    }
}

#[async_trait]
impl AuditTrail for RedisLog {
    async fn record(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.append(Batch { audit: records, ..Batch::default() }).await.map(|_| ())
    }

    async fn trail(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.within(search::trail(&self.reader.connection, query)).await
    }
}

#[async_trait]
impl ReplicaTable for RedisLog {
    async fn beat(&self, beat: Beat) -> Result<(), StoreError> {
        self.within(replicas::beat(&self.reader.connection, &beat)).await
    }

    async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.within(replicas::replicas(&self.reader.connection)).await
    }

    async fn leave(&self, id: &str) -> Result<(), StoreError> {
        self.within(replicas::leave(&self.reader.connection, id)).await
    }
}
