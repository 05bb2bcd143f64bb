//! The one writer: a task that owns the one connection that writes, and takes its work from two bounded queues: what somebody
//! waits for, and what can wait until nobody does.
//!
//! What waits is committed together, one flush to disk for all of it, and answered after the commit, never before. When
//! a group fails for what one of its jobs holds, each is tried alone, so that one cannot spoil another. After any failure the connection is opened anew: what a failed one holds is unknown. After a failed flush nothing is written
//! any more until the program is started again.

use std::path::PathBuf;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, raw_sql};
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::{Position, SessionKey, Timestamp, TokenDigest};
use crate::store::sqlite::fault::{at_work, lost_a_write};
use crate::store::sqlite::file::{self, Place};
use crate::store::sqlite::sessions::{self, Tidied};
use crate::store::sqlite::transaction::{self, Failure};
use crate::store::{
    Appended, AuditRecord, Batch, Claim, Claimed, Learned, Lesson, PasswordRecord, Sighting, StoreError,
};
use crate::telemetry::in_one_line;

/// How many jobs may wait.
const QUEUE: usize = 256;
/// How many jobs may wait that give way to others.
const LATER: usize = 16;
/// How many jobs are committed together, at most.
const GROUP: usize = 64;
/// How many entries one group may hold before no more jobs join it.
const GROUP_ENTRIES: usize = 2_000;
/// How many rows one job forgets, at most; small, so that revocations need not wait long.
pub(super) const FORGET_ROWS: u32 = 500;

/// Something to be written.
pub(super) enum Work {
    Append(Batch),
    Record(Vec<AuditRecord>),
    Forget(Timestamp),
    Learn(Box<Lesson>),
    Claim(Claim),
    Release(TokenDigest),
    Prolong(Timestamp),
    Touch(Vec<Sighting>),
    Tidy(Timestamp),
    Keep(Box<PasswordRecord>),
}

/// What came of it.
pub(super) enum Done {
    Appended(Appended),
    Forgotten(u64),
    Learned(Learned),
    Claimed(Claimed),
    Touched(Vec<SessionKey>),
    Tidied(Tidied),
    /// There is nothing to tell.
    Written,
}

/// Work, and who waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Done, StoreError>>,
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    /// For what somebody waits for.
    pub(super) jobs: mpsc::Sender<Job>,
    /// For what is done when nothing else waits.
    pub(super) later: mpsc::Sender<Job>,
}

/// What waits for the writer.
#[derive(Debug)]
pub(super) struct Queues {
    jobs: mpsc::Receiver<Job>,
    later: mpsc::Receiver<Job>,
}

impl Desk {
    /// A desk, and what is handed in there.
    pub(super) fn new() -> (Self, Queues) {
        let (jobs, later) = (mpsc::channel(QUEUE), mpsc::channel(LATER));
        (Self { jobs: jobs.0, later: later.0 }, Queues { jobs: jobs.1, later: later.1 })
    }
}

impl Queues {
    /// What is to be committed as one: all that waits, within bounds, or one job that gave way. `None` once the desk is gone.
    async fn next(&mut self) -> Option<Vec<Job>> {
        tokio::select! {
            biased;
            Some(job) = self.jobs.recv() => Some(gather(job, &mut self.jobs)),
            Some(job) = self.later.recv() => Some(vec![job]),
            else => None,
        }
    }
}

/// The writing end of a store.
pub(super) struct Writer {
    path: PathBuf,
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    head: watch::Sender<Position>,
    /// Whether a flush failed.
    lost_a_write: bool,
    /// Ours as long as we write.
    _claimed: file::Claimed,
    place: Place,
}

impl Writer {
    /// A writer on a file that is ours and up to date.
    pub(super) async fn new(
        mut connection: SqliteConnection,
        options: SqliteConnectOptions,
        claimed: file::Claimed,
    ) -> Result<Self, sqlx::Error> {
        let head = watch::Sender::new(transaction::read_head(&mut connection).await?);
        let path = claimed.path.clone();
        let place = Place::of(&path)?;
        Ok(Self { path, options, connection: Some(connection), head, lost_a_write: false, _claimed: claimed, place })
    }

    /// Tells of every commit.
    pub(super) fn subscribe(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Works until every sender of jobs is gone, then lets go of the file.
    pub(super) async fn run(mut self, mut queues: Queues) {
        while let Some(group) = queues.next().await {
            self.serve(group).await;
        }
        if let Some(mut connection) = self.connection.take() {
            // Everything is committed; what is not folded into the file now is folded in at the next start.
            let _ = raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
            let _ = connection.close().await;
        }
    }

    async fn serve(&mut self, group: Vec<Job>) {
        let (works, replies): (Vec<Work>, Vec<_>) = group.into_iter().map(|job| (job.work, job.reply)).unzip();
        // Whoever asked may have gone meanwhile; then nobody hears the answer.
        match self.commit(&works).await {
            Ok(done) => replies.into_iter().zip(done).for_each(|(reply, done)| drop(reply.send(Ok(done)))),
            Err(failure) if works.len() > 1 && failure.concerns_one() => {
                for (work, reply) in works.into_iter().zip(replies) {
                    let answer = self.commit(&[work]).await.map_err(|failure| self.explain(failure));
                    let answer = answer.and_then(|done| done.into_iter().next().ok_or_else(StoreError::closed));
                    drop(reply.send(answer));
                }
            }
            Err(failure) => {
                let error = self.explain(failure);
                tracing::error!(path = %self.path.display(), error = %in_one_line(&error), "the store refused a write");
                replies.into_iter().for_each(|reply| drop(reply.send(Err(error.once_more()))));
            }
        }
    }

    /// Carries out all of it, or none.
    async fn commit(&mut self, works: &[Work]) -> Result<Vec<Done>, Failure> {
        if self.lost_a_write {
            let text =
                "the disk failed to keep a write; nothing is written until it is checked and portcullis is restarted";
            return Err(Failure::Row(StoreError::Unavailable(text.into())));
        }
        self.place.check().map_err(Failure::Row)?;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        match commit(&mut connection, works).await {
            Ok((done, head)) => {
                self.connection = Some(connection);
                self.head.send_replace(head);
                Ok(done)
            }
            Err(failure) => {
                let _ = connection.close_hard().await;
                self.note(&failure);
                Err(failure)
            }
        }
    }

    fn note(&mut self, failure: &Failure) {
        if matches!(failure, Failure::Sqlite(error) if lost_a_write(error)) {
            self.lost_a_write = true;
            tracing::error!(path = %self.path.display(), "the disk failed to keep a write; the store is read-only now");
        }
    }

    fn explain(&self, failure: Failure) -> StoreError {
        match failure {
            Failure::Row(error) => error,
            Failure::Sqlite(error) => at_work(&self.path, error),
        }
    }
}

/// The first job, and what waits behind it, within bounds.
fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut entries = first.work.entries();
    let mut group = vec![first];
    while group.len() < GROUP && entries < GROUP_ENTRIES {
        let Ok(job) = jobs.try_recv() else { break };
        entries += job.work.entries();
        group.push(job);
    }
    group
}

impl Work {
    fn entries(&self) -> usize {
        match self {
            Self::Append(batch) => batch.entries.len(),
            Self::Record(records) => records.len(),
            Self::Forget(_) => FORGET_ROWS as usize,
            Self::Learn(lesson) => 1 + lesson.tokens.len(),
            Self::Touch(sightings) => sightings.len(),
            Self::Claim(_) | Self::Release(_) | Self::Prolong(_) | Self::Tidy(_) | Self::Keep(_) => 1,
        }
    }
}

/// One transaction. Dropped without a commit it is rolled back.
async fn commit(connection: &mut SqliteConnection, works: &[Work]) -> Result<(Vec<Done>, Position), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let before = transaction::read_head(&mut transaction).await?;
    let mut head = before;
    let mut done = Vec::with_capacity(works.len());
    for work in works {
        done.push(carry_out(&mut transaction, work, &mut head).await?);
    }
    if head != before {
        transaction::write_head(&mut transaction, head).await?;
    }
    transaction.commit().await?;
    Ok((done, head))
}

async fn carry_out(connection: &mut SqliteConnection, work: &Work, head: &mut Position) -> Result<Done, Failure> {
    match work {
        Work::Append(batch) => transaction::append(connection, batch, head).await.map(Done::Appended),
        Work::Record(records) => {
            for record in records {
                transaction::note(connection, record).await?;
            }
            Ok(Done::Written)
        }
        Work::Learn(lesson) => sessions::learn(connection, lesson).await.map(Done::Learned),
        Work::Claim(claim) => sessions::claim(connection, claim).await.map(Done::Claimed),
        Work::Release(digest) => Ok(sessions::release(connection, *digest).await.map(|()| Done::Written)?),
        Work::Prolong(until) => Ok(sessions::prolong(connection, *until).await.map(|()| Done::Written)?),
        Work::Touch(sightings) => sessions::touch(connection, sightings).await.map(Done::Touched),
        Work::Tidy(now) => sessions::tidy(connection, *now).await.map(Done::Tidied),
        Work::Keep(password) => sessions::keep(connection, password).await.map(|()| Done::Written),
        Work::Forget(now) => Ok(Done::Forgotten(transaction::forget(connection, *now, FORGET_ROWS).await?)),
    }
}
