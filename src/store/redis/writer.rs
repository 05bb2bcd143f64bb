//! The one writer of a replica: a task that takes its work from a bounded queue, and hands what waits to the server as one,
//! so that many who write at once cost little more than one. Other replicas have writers of their own; who comes second
//! decides anew.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::domain::Position;
use crate::store::redis::append::{self, Outcome, Terms};
use crate::store::redis::connection::Connection;
use crate::store::redis::sessions::carry_over;
use crate::store::{Appended, Batch, StoreError};

/// How many batches may wait.
const QUEUE: usize = 256;
/// How many are written together, at most.
const GROUP: usize = 64;
/// How many entries one group may hold before no more batches join it.
const GROUP_ENTRIES: usize = 2_000;
/// How many groups may be written and not answered yet.
const ANSWERING: usize = 8;

/// A batch, and who waits for it.
pub(super) struct Job {
    pub(super) batch: Batch,
    pub(super) reply: oneshot::Sender<Result<Appended, StoreError>>,
}

/// The way to a writer that works until nobody can hand it anything. It waits for replicas on its own connection; what
/// it has written is carried over to the sessions on the other.
pub(super) fn start(
    (own, shared): (Connection, Connection),
    terms: Terms,
    wake: Arc<watch::Sender<Position>>,
) -> (mpsc::Sender<Job>, JoinHandle<()>) {
    let (desk, mut queue) = mpsc::channel(QUEUE);
    let mut writer = Writer { own, shared, terms, wake, answering: JoinSet::new() };
    let task = tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            writer.serve(gather(job, &mut queue)).await;
        }
        while writer.answering.join_next().await.is_some() {}
        writer.own.close();
    });
    (desk, task)
}

/// What waits, as far as it may be written together.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut entries = first.batch.entries.len();
    let mut group = vec![first];
    while group.len() < GROUP && entries < GROUP_ENTRIES {
        let Ok(job) = queue.try_recv() else { break };
        entries += job.batch.entries.len();
        group.push(job);
    }
    group
}

struct Writer {
    own: Connection,
    shared: Connection,
    terms: Terms,
    wake: Arc<watch::Sender<Position>>,
    /// Groups that are written and not answered yet.
    answering: JoinSet<()>,
}

type Reply = oneshot::Sender<Result<Appended, StoreError>>;

impl Writer {
    async fn serve(&mut self, mut group: Vec<Job>) {
        // Whoever waited in vain while the server was away asks again if it still matters.
        group.retain(|job| !job.reply.is_closed());
        if group.is_empty() {
            return;
        }
        let (batches, replies): (Vec<Batch>, Vec<Reply>) = group.into_iter().map(|job| (job.batch, job.reply)).unzip();
        match self.append(&batches).await {
            Ok(outcome) => self.answer(outcome, &batches, replies).await,
            Err(error) if batches.len() > 1 && concerns_one(&error) => {
                for (batch, reply) in batches.into_iter().zip(replies) {
                    match self.append(std::slice::from_ref(&batch)).await {
                        Ok(outcome) => self.answer(outcome, &[batch], vec![reply]).await,
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
            }
            // Whoever asked may have gone meanwhile; then nobody hears the answer.
            Err(error) => replies.into_iter().for_each(|reply| drop(reply.send(Err(error.once_more())))),
        }
    }

    async fn append(&self, batches: &[Batch]) -> Result<Outcome, StoreError> {
        let outcome = append::append(&self.own, self.terms, batches).await?;
        if let Some(last) = outcome.appended.last().filter(|_| !outcome.writes.is_empty()) {
            self.wake.send_replace(last.position);
        }
        Ok(outcome)
    }

    /// Answers once the sessions show what was written; the next group need not wait for that.
    async fn answer(&mut self, outcome: Outcome, batches: &[Batch], replies: Vec<Reply>) {
        while self.answering.len() >= ANSWERING {
            let _ = self.answering.join_next().await;
        }
        while self.answering.try_join_next().is_some() {}
        let now = batches.iter().map(|batch| batch.now).max().unwrap_or_default();
        let shared = self.shared.clone();
        self.answering.spawn(async move {
            // It is appended, and noted what is left to do: the upkeep does it if we cannot.
            let _ = carry_over(&shared, &outcome.writes, now).await;
            replies.into_iter().zip(outcome.appended).for_each(|(reply, appended)| drop(reply.send(Ok(appended))));
        });
    }
}

/// Whether another batch may be written where this one could not: it is about what the batch holds.
fn concerns_one(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt(..) | StoreError::Lost(_))
}
