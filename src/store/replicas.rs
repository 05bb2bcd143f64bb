//! The port of signs of life: which replicas share the store, and how far each has got.
//!
//! What a replica says of itself proves two things: to the others, that it refuses what stands up to its checkpoint; to
//! itself, that they still count on it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::SharedClock;
use crate::domain::{Checkpoint, Timestamp};
use crate::store::StoreError;

/// After how long a silent replica is forgotten.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Which replicas there are.
#[async_trait]
pub trait ReplicaTable: fmt::Debug + Send + Sync + 'static {
    /// Says that a replica lives and what it has applied; after `Ok` every replica can read it. It need not survive a crash
    /// of the store. Who was silent for a day is forgotten.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lost`] when the log's history does not hold the beat's checkpoint: then it is not taken, for its
    /// position says nothing of this log.
    async fn beat(&self, beat: Beat) -> Result<(), StoreError>;

    /// All that are known, by name and id.
    async fn replicas(&self) -> Result<Vec<Replica>, StoreError>;

    /// Strikes out a replica that has stopped serving.
    async fn leave(&self, id: &str) -> Result<(), StoreError>;
}

/// A sign of life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Beat {
    /// Tells apart replicas and their restarts: random.
    pub id: Box<str>,
    /// What people call it.
    pub name: Box<str>,
    /// The program's version.
    pub version: Box<str>,
    /// What its index shows.
    pub checkpoint: Checkpoint,
    /// Whether it is in step, as status names it.
    pub standing: Box<str>,
    /// For how long it may go on serving without another sign of life.
    pub lease: Duration,
    /// When it was started.
    pub started_at: Timestamp,
}

/// A replica, as the store knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replica {
    /// Its last sign of life.
    pub beat: Beat,
    /// How long ago that came, by the store's clock.
    pub silent: Duration,
}

impl Replica {
    /// Whether it may be serving.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.silent < self.beat.lease
    }
}

/// The replicas of a store that is local to a process.
pub(super) struct LocalReplicas {
    clock: SharedClock,
    beats: Mutex<HashMap<Box<str>, (Beat, Duration)>>,
}

impl LocalReplicas {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, beats: Mutex::default() }
    }

    pub(super) fn beat(&self, beat: Beat) {
        let now = self.clock.elapsed();
        let mut beats = self.beats();
        beats.retain(|_, (_, at)| now.saturating_sub(*at) < FORGOTTEN_AFTER);
        beats.insert(beat.id.clone(), (beat, now));
    }

    pub(super) fn replicas(&self) -> Vec<Replica> {
        let now = self.clock.elapsed();
        let replica = |(beat, at): &(Beat, Duration)| Replica { beat: beat.clone(), silent: now.saturating_sub(*at) };
        let mut replicas: Vec<Replica> = self.beats().values().map(replica).collect();
        replicas.sort_by(|a, b| (&a.beat.name, &a.beat.id).cmp(&(&b.beat.name, &b.beat.id)));
        replicas
    }

    pub(super) fn leave(&self, id: &str) {
        self.beats().remove(id);
    }

    fn beats(&self) -> MutexGuard<'_, HashMap<Box<str>, (Beat, Duration)>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
