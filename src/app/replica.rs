//! This process as one of several: who it is, and its signs of life.

use std::sync::Arc;

use crate::app::{AppError, random};
use crate::clock::SharedClock;
use crate::config::Settings;
use crate::domain::ReplicaIdentity;
use crate::index::Index;
use crate::store::Store;
use crate::sync::{Follower, Heartbeat, HeartbeatSettings};

/// Who we are, from now until the process ends.
pub(super) fn identity(settings: &Settings) -> Result<ReplicaIdentity, AppError> {
    let name = settings.replica.clone().unwrap_or_else(machine_name);
    Ok(ReplicaIdentity::new(name, u128::from_le_bytes(random()?)))
}

/// The machine's name: what tells one replica from another for people.
fn machine_name() -> Arc<str> {
    let named = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    named.as_deref().unwrap_or("portcullis").into()
}

/// Tells the others what our index shows.
pub(super) fn heartbeat(
    settings: &Settings,
    replica: &ReplicaIdentity,
    store: &Store,
    (index, follower): (&Arc<Index>, &Follower),
    clock: &SharedClock,
) -> Heartbeat {
    let (replica, lease, started_at) = (replica.clone(), settings.staleness.max, clock.now());
    let settings = HeartbeatSettings { replica, lease, started_at };
    Heartbeat::start(store.replicas.clone(), (index.clone(), follower.doubt()), clock.clone(), settings)
}
