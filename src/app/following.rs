//! The follower, and what depends on how far it has got: whether the start may go on, and whether this replica is ready.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Readiness;
use crate::app::Core;
use crate::clock::SharedClock;
use crate::config::Settings;
use crate::index::{Index, Phase, Standing};
use crate::net::Drain;
use crate::store::{Store, StoreError};
use crate::sync::snapshot;
use crate::sync::{self, Follower};

/// How long a start waits for a store that others share; then it goes on, and the store may come later.
const PATIENCE: Duration = Duration::from_secs(5);

/// The index of the store that `settings` name.
pub(super) fn new_index(settings: &Settings, clock: &SharedClock, secret: [u8; 16]) -> Arc<Index> {
    let make = if settings.store.backend.is_shared() { Index::shared } else { Index::new };
    make(clock.clone(), settings.staleness.max, secret)
}

/// The follower, which tells the verifier of what changed, so that no introspection answer outlives a revocation.
pub(super) fn follow(settings: &Settings, core: &Core, store: &Store) -> Follower {
    let verifier = core.verifier.clone();
    let on_change: sync::OnChange = Arc::new(move |change| verifier.0.load().purge(change));
    let snapshot = settings.snapshot.clone().map(|file| snapshot::Settings { path: file.path, max_age: file.max_age });
    let settings = sync::Settings {
        remember: settings.store.backend.is_shared(),
        snapshot,
        replica: core.replica.name.clone(),
        ..sync::Settings::default()
    };
    let parts = (core.index.clone(), core.live.clone());
    Follower::start(store.log.clone(), parts, core.clock.clone(), core.metrics.clone(), on_change, settings)
}

/// Until all is loaded; of a store that others share, until it is known whether that can be done at once.
pub(super) async fn loaded(settings: &Settings, follower: &Follower) -> Result<(), StoreError> {
    if settings.store.backend.is_shared() { follower.attempted(PATIENCE).await } else { follower.loaded().await }
}

/// What must be so before anything is sent here, and why it is not.
pub(super) struct Ready {
    drain: Drain,
    follower: Arc<Follower>,
    index: Arc<Index>,
}

impl Ready {
    pub(super) fn new(drain: &Drain, follower: &Arc<Follower>, index: &Arc<Index>) -> Self {
        Self { drain: drain.clone(), follower: follower.clone(), index: index.clone() }
    }
}

impl Readiness for Ready {
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if self.drain.is_draining() {
            obstacles.push("it is draining".to_owned());
        }
        if self.index.standing() == Standing::InStep {
            return obstacles;
        }
        match self.index.freshness().phase {
            Phase::Healing => obstacles.push("the store lost data, which is being put back".to_owned()),
            Phase::Remembered => obstacles.push("what is known is a snapshot's".to_owned()),
            Phase::Loading | Phase::Following => {}
        }
        obstacles.extend(self.follower.obstacle().map(|why| format!("the store cannot be read: {why}")));
        obstacles
    }
}
