//! Signs of life, dated by the server's clock.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{cmd, pipe};
use serde::{Deserialize, Serialize};

use crate::domain::{Checkpoint, Position, Timestamp};
use crate::store::redis::append::mark_text;
use crate::store::redis::connection::Connection;
use crate::store::redis::fault;
use crate::store::redis::keys::{HEAD, NEWS, REPLICAS};
use crate::store::redis::lua::Lua;
use crate::store::replicas::FORGOTTEN_AFTER;
use crate::store::{Beat, Replica, StoreError};

static BEAT: LazyLock<Lua> =
    LazyLock::new(|| Lua::new(concat!(include_str!("continuity.lua"), include_str!("beat.lua"))));

/// What is kept of a beat beside its id and its time. A field that a later version adds is passed over by this one.
#[derive(Deserialize, Serialize)]
struct Kept {
    name: Box<str>,
    version: Box<str>,
    position: u64,
    mark: Option<u64>,
    standing: Box<str>,
    lease_ms: u64,
    started_at: u64,
}

/// Takes a sign of life.
pub(super) async fn beat(connection: &Connection, beat: &Beat) -> Result<(), StoreError> {
    let Checkpoint { position, mark } = beat.checkpoint;
    let kept = Kept {
        name: beat.name.clone(),
        version: beat.version.clone(),
        position: position.get(),
        mark,
        standing: beat.standing.clone(),
        lease_ms: millis(beat.lease),
        started_at: beat.started_at.as_secs(),
    };
    let text = serde_json::to_string(&kept).map_err(|error| StoreError::Unavailable(error.into()))?;
    let mut call = BEAT.call(&[HEAD, NEWS, REPLICAS]);
    call.arg(position.get()).arg(mark_text(mark)).arg(&*beat.id).arg(text).arg(millis(FORGOTTEN_AFTER));
    match connection.script::<String>(&BEAT, &call).await?.as_str() {
        "TAKEN" => Ok(()),
        "LOST" => Err(StoreError::Lost(format!("its log does not hold position {position}, which was seen there"))),
        _ => Err(fault::strange_answer()),
    }
}

/// All that are known.
pub(super) async fn replicas(connection: &Connection) -> Result<Vec<Replica>, StoreError> {
    let mut question = pipe();
    question.cmd("TIME").cmd("HGETALL").arg(REPLICAS);
    let ((secs, micros), known): ((u64, u64), HashMap<String, String>) = connection.pipe(&question).await?;
    let now = secs.saturating_mul(1_000) + micros / 1_000;
    let replica = |(id, said): (&String, &String)| {
        let (at, kept) = said.split_once(' ')?;
        Some(replica(id, serde_json::from_str(kept).ok()?, now.saturating_sub(at.parse().ok()?)))
    };
    let mut replicas: Vec<Replica> = known.iter().filter_map(replica).collect();
    replicas.sort_by(|a, b| (&a.beat.name, &a.beat.id).cmp(&(&b.beat.name, &b.beat.id)));
    Ok(replicas)
}

fn replica(id: &str, kept: Kept, silent_ms: u64) -> Replica {
    let beat = Beat {
        id: id.into(),
        name: kept.name,
        version: kept.version,
        checkpoint: Checkpoint { position: Position::new(kept.position), mark: kept.mark },
        standing: kept.standing,
        lease: Duration::from_millis(kept.lease_ms),
        started_at: Timestamp::from_secs(kept.started_at),
    };
    Replica { beat, silent: Duration::from_millis(silent_ms) }
}

/// Strikes out a replica.
pub(super) async fn leave(connection: &Connection, id: &str) -> Result<(), StoreError> {
    connection.run(cmd("HDEL").arg(REPLICAS).arg(id)).await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
