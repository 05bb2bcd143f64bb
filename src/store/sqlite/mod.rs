//! The default store: one SQLite file, one process, nothing to install.
//!
//! WAL with `synchronous=FULL`: an answered write is on disk. One connection writes, in a task of its own; others read,
//! and are never kept waiting by it.

mod fault;
mod file;
mod reader;
mod rows;
mod schema;
mod sessions;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, query_scalar};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::SharedClock;
use crate::domain::{Checkpoint, Position, Recorded, RevocationId, Selector, Timestamp};
use crate::store::feed::{self, Source};
use crate::store::replicas::LocalReplicas;
use crate::store::sqlite::fault::at_start;
use crate::store::sqlite::file::{Claimed, Place};
use crate::store::sqlite::reader::Reader;
use crate::store::sqlite::writer::{Desk, Done, FORGET_ROWS, Job, Work, Writer};
use crate::store::{
    Appended, AuditQuery, AuditRecord, AuditTrail, Batch, Beat, EventStream, Page, Replica, ReplicaTable,
    RevocationLog, RevocationQuery, Settings, StoreError,
};

/// How long a connection waits for another process, a backup say, to let go of the file.
const BUSY: Duration = Duration::from_secs(5);

/// How much of the file the writer keeps at hand, in KiB (negative, as SQLite wants it): the orders in which sessions
/// are listed are written all over the file.
const WRITER_CACHE: &str = "-65536";
/// After how many pages the log is folded into the file. More would make writes cheaper, and the write that pays for it
/// slower.
const CHECKPOINT_PAGES: &str = "4000";

/// Revocations and audit records in an SQLite file.
pub(super) struct SqliteLog {
    reader: Arc<Reader>,
    wake: watch::Receiver<Position>,
    timeout: Duration,
    poll: Duration,
    clock: SharedClock,
    replicas: LocalReplicas,
    /// The way to the writer; `None` once the store is closed. Held for a moment, never across an await.
    desk: Mutex<Option<Desk>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for SqliteLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLog").field("path", &self.reader.path).finish_non_exhaustive()
    }
}

impl SqliteLog {
    /// Opens the file, or makes it.
    pub(super) async fn open(path: &Path, settings: &Settings, clock: SharedClock) -> Result<Arc<Self>, StoreError> {
        let claimed = claim(path.to_owned()).await?;
        let path = claimed.path.clone();
        if !claimed.exists {
            create(&path).await?;
        }
        let fail = |error| at_start(&path, error);
        examine(&path, settings.check_bytes).await?;
        let options = options(&path).journal_mode(SqliteJournalMode::Wal);
        let mut connection = options.connect().await.map_err(fail)?;
        schema::migrate(&mut connection, &path).await?;
        let options = bounded(options, &mut connection, settings.max_bytes).await.map_err(fail)?;
        let options = options.pragma("cache_size", WRITER_CACHE).pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let writer = Writer::new(options.connect().await.map_err(fail)?, options, claimed).await.map_err(fail)?;
        // The first connection is kept until now, so that the log beside the file is not folded in and made anew.
        let _ = connection.close().await;
        let readers =
            SqlitePoolOptions::new().max_connections(settings.readers.max(1)).acquire_timeout(settings.timeout);
        let reading = self::options(&path).read_only(true).pragma("cache_size", "-16384");
        let place = Place::of(&path).map_err(|error| fail(error.into()))?;
        let pool = readers.connect_with(reading).await.map_err(fail)?;
        let reader = Reader { pool, path: path.clone(), place };
        Ok(Arc::new(Self::start(writer, reader, (settings.timeout, settings.remote.poll), clock)))
    }

    fn start(writer: Writer, reader: Reader, (timeout, poll): (Duration, Duration), clock: SharedClock) -> Self {
        let (desk, queues) = Desk::new();
        Self {
            reader: Arc::new(reader),
            wake: writer.subscribe(),
            timeout,
            poll,
            replicas: LocalReplicas::new(clock.clone()),
            clock,
            desk: Mutex::new(Some(desk)),
            writer: Mutex::new(Some(tokio::spawn(writer.run(queues)))),
        }
    }

    /// Hands work to the writer and waits for the answer, for `timeout` at most.
    async fn write(&self, work: Work) -> Result<Done, StoreError> {
        let desk = self.desk()?;
        self.wait(desk.jobs, work).await
    }

    /// The same for work that gives way to all other work.
    async fn write_later(&self, work: Work) -> Result<Done, StoreError> {
        let desk = self.desk()?;
        self.wait(desk.later, work).await
    }

    fn desk(&self) -> Result<Desk, StoreError> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(StoreError::closed)
    }

    async fn wait(&self, queue: mpsc::Sender<Job>, work: Work) -> Result<Done, StoreError> {
        let (reply, answer) = oneshot::channel();
        let asked = async move {
            queue.send(Job { work, reply }).await.map_err(|_| StoreError::closed())?;
            answer.await.unwrap_or_else(|_| Err(StoreError::closed()))
        };
        let too_long = |_| StoreError::Unavailable("the disk did not answer in time".into());
        tokio::time::timeout(self.timeout, asked).await.map_err(too_long)?
    }
}

async fn claim(path: PathBuf) -> Result<Claimed, StoreError> {
    let claimed = tokio::task::spawn_blocking(move || file::claim(&path)).await;
    claimed.unwrap_or_else(|error| Err(StoreError::Unusable("cannot claim the store".into(), Some(error.into()))))
}

/// Makes sure that the file is ours and whole, before anything in it is changed.
async fn examine(path: &Path, check_bytes: u64) -> Result<(), StoreError> {
    let mut connection = options(path).connect().await.map_err(|error| at_start(path, error))?;
    schema::recognise(&mut connection, path).await?;
    if file::size(path) <= check_bytes {
        schema::check(&mut connection, path).await?;
    }
    connection.close().await.map_err(|error| at_start(path, error))
}

/// A new store, complete before it has its name.
async fn create(path: &Path) -> Result<(), StoreError> {
    let cradle = file::cradle(path)?;
    let fail = |error| at_start(path, error);
    let options = options(&cradle).journal_mode(SqliteJournalMode::Delete);
    let mut connection = options.connect().await.map_err(fail)?;
    schema::migrate(&mut connection, path).await?;
    connection.close().await.map_err(fail)?;
    file::settle_in(&cradle, path)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

/// The options of a writer whose file may not grow beyond `max_bytes`.
async fn bounded(
    options: SqliteConnectOptions,
    connection: &mut SqliteConnection,
    max_bytes: Option<u64>,
) -> Result<SqliteConnectOptions, sqlx::Error> {
    let Some(max_bytes) = max_bytes else { return Ok(options) };
    let page_bytes: i64 = query_scalar("PRAGMA page_size").fetch_one(connection).await?;
    let pages = max_bytes / u64::try_from(page_bytes).unwrap_or(4_096).max(1);
    Ok(options.pragma("max_page_count", pages.max(1).to_string()))
}

#[async_trait]
impl RevocationLog for SqliteLog {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        match self.write(Work::Append(batch)).await? {
            Done::Appended(appended) => Ok(appended),
            _ => Err(StoreError::closed()),
        }
    }

    async fn follow(&self, from: Checkpoint) -> Result<EventStream, StoreError> {
        let (pages, wake, clock) = (self.reader.clone(), self.wake.clone(), self.clock.clone());
        Ok(feed::follow(Source { pages, wake, poll: self.poll, clock }, from))
    }

    async fn find(&self, id: RevocationId) -> Result<Option<Recorded>, StoreError> {
        self.reader.find(id).await
    }

    async fn standing(&self, selector: &Selector, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        self.reader.standing(selector, now).await
    }

    async fn search(&self, query: &RevocationQuery) -> Result<Page<Recorded>, StoreError> {
        self.reader.search(query).await
    }

    async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let Done::Forgotten(rows) = self.write(Work::Forget(now)).await? else { return Ok(forgotten) };
            forgotten += rows;
            if rows < u64::from(FORGET_ROWS) {
                return Ok(forgotten);
            }
        }
    }

    async fn close(&self) {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The readers first, so that nothing keeps the writer, which ends with the desk, from folding the log into the file.
        self.reader.pool.close().await;
        drop(desk);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // It ends once the queue is empty; a panic in it has been reported already.
            let _ = writer.await;
        }
    }
}

#[async_trait]
impl AuditTrail for SqliteLog {
    async fn record(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.write(Work::Record(records)).await.map(|_| ())
    }

    async fn trail(&self, query: &AuditQuery) -> Result<Page<AuditRecord>, StoreError> {
        self.reader.trail(query).await
    }
}

#[async_trait]
impl ReplicaTable for SqliteLog {
    async fn beat(&self, beat: Beat) -> Result<(), StoreError> {
        self.desk()?;
        feed::reached(beat.checkpoint, *self.wake.borrow())?;
        self.replicas.beat(beat);
        Ok(())
    }

    async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.desk().map(|_| self.replicas.replicas())
    }

    async fn leave(&self, id: &str) -> Result<(), StoreError> {
        self.desk().map(|_| self.replicas.leave(id))
    }
}
