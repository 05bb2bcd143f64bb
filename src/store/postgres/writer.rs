//! The one writer of a replica: a task with a connection of its own, that takes its work from a bounded queue.
//!
//! What waits is committed together, one transaction for all of it, and answered after the commit, never before; replicas
//! take turns at the row of the log's end. When a group fails for what one of its jobs holds, each is tried alone. After any
//! failure the connection is dropped: what became of its transaction is unknown, and whoever asked may ask again, for what
//! is there already is answered as it was.

use std::sync::Arc;

use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{ConnectOptions, Connection, Transaction};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::domain::Position;
use crate::store::postgres::append::append;
use crate::store::postgres::fault::{Failure, is_severed};
use crate::store::postgres::server::Server;
use crate::store::postgres::write::note;
use crate::store::{Appended, AuditRecord, Batch, StoreError};
use crate::telemetry::in_one_line;

/// How many jobs may wait.
pub(super) const QUEUE: usize = 1_024;
/// How many jobs are committed together, at most.
const GROUP: usize = 256;
/// How many entries one group may hold before no more jobs join it.
const GROUP_ENTRIES: usize = 4_000;

/// Something to be written.
#[derive(Debug)]
pub(super) enum Work {
    Append(Batch),
    Record(Vec<AuditRecord>),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Appended(Appended),
    Written,
}

/// Work, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Done, StoreError>>,
}

/// The writing end of a replica.
pub(super) struct Writer {
    pub(super) server: Arc<Server>,
    /// Wakes our own followers.
    pub(super) wake: watch::Sender<Position>,
    pub(super) connection: Option<PgConnection>,
}

impl Writer {
    /// Works until every sender of jobs is gone.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            self.serve(gather(first, &mut jobs)).await;
        }
        if let Some(connection) = self.connection.take() {
            let _ = timeout(self.server.timeout, connection.close()).await;
        }
    }

    async fn serve(&mut self, group: Vec<Job>) {
        let (works, replies): (Vec<Work>, Vec<_>) = group.into_iter().map(|job| (job.work, job.reply)).unzip();
        // Whoever asked may have gone meanwhile; then nobody hears the answer.
        match self.commit(&works).await {
            Ok(done) => replies.into_iter().zip(done).for_each(|(reply, done)| drop(reply.send(done))),
            Err(failure) if works.len() > 1 && failure.concerns_one() => {
                for (work, reply) in works.into_iter().zip(replies) {
                    let answer = self.commit(&[work]).await.map_err(|failure| self.server.explain(failure));
                    let answer = answer.and_then(|done| done.into_iter().next().unwrap_or(Err(StoreError::closed())));
                    drop(reply.send(answer));
                }
            }
            Err(failure) => {
                let error = self.server.explain(failure);
                tracing::error!(error = %in_one_line(&error), "the store refused a write");
                replies.into_iter().for_each(|reply| drop(reply.send(Err(error.once_more()))));
            }
        }
    }

    /// Carries out all of it that is not refused, or nothing.
    async fn commit(&mut self, works: &[Work]) -> Result<Vec<Result<Done, StoreError>>, Failure> {
        self.server.ready().await?;
        // A connection that was idle may have died, so another is tried; what the first one did after all is there already.
        if let Some(connection) = self.connection.take() {
            match self.attempt(connection, works).await {
                Err(Failure::Sql(error)) if is_severed(&error) => {}
                other => return other,
            }
        }
        let connecting = timeout(self.server.timeout, self.server.options.connect()).await;
        self.attempt(connecting.map_err(late)??, works).await
    }

    async fn attempt(
        &mut self,
        mut connection: PgConnection,
        works: &[Work],
    ) -> Result<Vec<Result<Done, StoreError>>, Failure> {
        let committing = async {
            let transaction = connection.begin_with(self.server.begin_writing()).await?;
            commit(transaction, works).await
        };
        // Dropped on failure: the server then undoes what was not committed.
        let (answers, head) = timeout(self.server.timeout, committing).await.map_err(late)??;
        self.connection = Some(connection);
        if let Some(head) = head {
            self.wake.send_replace(head);
        }
        Ok(answers)
    }
}

fn late(_: tokio::time::error::Elapsed) -> Failure {
    StoreError::Unavailable("PostgreSQL did not answer in time".into()).into()
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
    const fn entries(&self) -> usize {
        match self {
            Self::Append(batch) => batch.entries.len(),
            Self::Record(records) => records.len(),
        }
    }
}

/// One transaction, and the log's end after it, if it was moved.
async fn commit(
    mut transaction: Transaction<'_, Postgres>,
    works: &[Work],
) -> Result<(Vec<Result<Done, StoreError>>, Option<Position>), Failure> {
    let mut batches = Vec::new();
    let mut records = Vec::new();
    for work in works {
        match work {
            Work::Append(batch) => batches.push(batch),
            Work::Record(more) => records.extend(more.iter().cloned()),
        }
    }
    let (head, answers) = if batches.is_empty() {
        note(&mut transaction, &records).await?;
        (None, Vec::new())
    } else {
        let (history, answers) = append(&mut transaction, &batches, records).await?;
        (Some(history.head.position), answers)
    };
    transaction.commit().await?;
    let mut answers = answers.into_iter();
    let answer = |work: &Work| match work {
        Work::Append(_) => answers.next().unwrap_or(Err(StoreError::closed())).map(Done::Appended),
        Work::Record(_) => Ok(Done::Written),
    };
    Ok((works.iter().map(answer).collect(), head))
}
