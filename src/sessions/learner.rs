//! Writes what the tracker tells, in batches, off the request's path; and keeps the inventory small. What the store
//! cannot take now is kept and tried again, and meanwhile the bounded queue fills: sightings may be lost, nothing waits
//! for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::clock::SharedClock;
use crate::domain::SessionKey;
use crate::sessions::{Limits, Sightings};
use crate::store::{Backoff, SharedSessions, Sighting, StoreError};

/// How many sightings are written together, at most.
const BATCH: usize = 1_000;
/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_millis(200);
/// How often what is over is forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// How long the end may take: what is queued then is written, or lost.
const FLUSH: Duration = Duration::from_secs(3);

/// The tasks that keep the inventory. To be stopped, not dropped.
#[derive(Debug)]
pub struct Learner {
    stopping: watch::Sender<bool>,
    writing: JoinHandle<()>,
    tidying: JoinHandle<()>,
}

impl Learner {
    /// Begins to write `sightings`, to hold new sessions to `limits`, and to forget what is over.
    #[must_use]
    pub fn start(sightings: Sightings, table: SharedSessions, clock: SharedClock, limits: Option<Arc<Limits>>) -> Self {
        let stopping = watch::Sender::new(false);
        let writer = Writer { sightings, table: table.clone(), limits, stopping: stopping.subscribe() };
        let tidying = tokio::spawn(tidy(table, clock, stopping.subscribe()));
        Self { stopping, writing: tokio::spawn(writer.run()), tidying }
    }

    /// Writes what is queued, within three seconds, and ends.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        for task in [&mut self.writing, &mut self.tidying] {
            if timeout(FLUSH, &mut *task).await.is_err() {
                tracing::warn!("what was last seen of some sessions could not be written");
                task.abort();
                // Only to see it gone.
                let _ = task.await;
            }
        }
    }
}

struct Writer {
    sightings: Sightings,
    table: SharedSessions,
    limits: Option<Arc<Limits>>,
    stopping: watch::Receiver<bool>,
}

impl Writer {
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            self.write(coalesced(batch)).await;
        }
    }

    /// What waits, once something does; `None` at the end. When it is time to stop, what is queued and no more.
    async fn gather(&mut self) -> Option<Vec<Sighting>> {
        let mut batch = Vec::new();
        let queue = &mut self.sightings.0;
        tokio::select! {
            biased;
            taken = queue.recv_many(&mut batch, BATCH) => if taken == 0 { return None },
            () = stopped(&mut self.stopping) => return None,
        }
        let until = Instant::now() + LINGER;
        while batch.len() < BATCH && !*self.stopping.borrow() {
            let room = BATCH - batch.len();
            tokio::select! {
                taken = timeout_at(until, queue.recv_many(&mut batch, room)) => {
                    if taken.unwrap_or_default() == 0 {
                        break;
                    }
                }
                () = stopped(&mut self.stopping) => {}
            }
        }
        Some(batch)
    }

    /// Writes a batch, however often that takes.
    async fn write(&mut self, batch: Vec<Sighting>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            match self.table.touch(batch.clone()).await {
                Ok(new) => return self.limit(&new, &batch).await,
                Err(StoreError::Unavailable(_)) if !*self.stopping.borrow() => {}
                Err(error) => {
                    let lost = batch.len();
                    tracing::error!(%error, cause = error.source_text(), lost, "sightings of sessions are lost");
                    return;
                }
            }
            // A stop cuts the pause short, for one more try.
            let _ = timeout(backoff.pause(), stopped(&mut self.stopping)).await;
        }
    }

    async fn limit(&self, new: &[SessionKey], batch: &[Sighting]) {
        let Some(limits) = self.limits.as_ref().filter(|_| !new.is_empty()) else { return };
        let users: HashMap<&SessionKey, &str> = batch
            .iter()
            .filter_map(|sighting| Some((&sighting.session.key, sighting.session.user.as_deref()?)))
            .collect();
        for (key, user) in new.iter().filter_map(|key| Some((key, users.get(key)?))) {
            if let Err(error) = limits.enforce(key, user).await {
                tracing::warn!(%error, cause = error.source_text(), "sessions beyond a user's limit go on");
            }
        }
    }
}

/// Until it is time to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Its sender is gone only with the learner, which is time to stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// One sighting a session and token: the rest says the same, a moment apart.
fn coalesced(batch: Vec<Sighting>) -> Vec<Sighting> {
    let mut places = HashMap::with_capacity(batch.len());
    let mut kept: Vec<Sighting> = Vec::with_capacity(batch.len());
    for sighting in batch {
        let digest = sighting.token.as_ref().map(|token| token.digest);
        let place = *places.entry((sighting.session.key.clone(), digest)).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(held) => held.session.learn(sighting.session),
            None => kept.push(sighting),
        }
    }
    kept
}

/// Forgets what is over, again and again.
async fn tidy(table: SharedSessions, clock: SharedClock, mut stopping: watch::Receiver<bool>) {
    let mut ticks = interval(TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stopping) => return,
        }
        let tidied = tokio::select! {
            tidied = table.tidy(clock.now()) => tidied,
            () = stopped(&mut stopping) => return,
        };
        match tidied {
            Ok(0) => {}
            Ok(gone) => tracing::debug!(gone, "what is over was forgotten"),
            // Nothing is wrong with keeping it a while longer.
            Err(error) => tracing::warn!(%error, cause = error.source_text(), "sessions that are over stay"),
        }
    }
}
