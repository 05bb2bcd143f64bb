//! Forgets what is over, a few rows at a time, so that no script keeps others waiting.

use std::sync::LazyLock;

use redis::{Cmd, cmd};

use crate::domain::{RevocationId, Timestamp};
use crate::store::StoreError;
use crate::store::redis::keys::{self, DUE, POSITIONS, ROWS, SELECTORS};
use crate::store::redis::lua::Lua;
use crate::store::redis::pages::Reader;
use crate::store::redis::rows;

/// How many rows one script forgets, at most.
pub(super) const FORGET_ROWS: usize = 500;

static FORGET: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("forget.lua")));

/// Forgets at most [`FORGET_ROWS`] rows; returns how many were due, and how many of them went.
pub(super) async fn forget(reader: &Reader, now: Timestamp) -> Result<(usize, u64), StoreError> {
    let question = due(now);
    let found: Vec<Vec<u8>> = reader.connection.run(&question).await?;
    if found.is_empty() {
        return Ok((0, 0));
    }
    let ids: Vec<RevocationId> = found.iter().filter_map(|id| rows::id(id).ok()).collect();
    let held = reader.rows(&ids).await?;
    let mut call = FORGET.call(&[ROWS, SELECTORS, POSITIONS, DUE]);
    call.arg(held.len());
    for row in &held {
        let labels = keys::labels(&row.revocation);
        call.arg(&rows::id_bytes(row.revocation.id)[..]).arg(&row.position.get().to_be_bytes()[..]);
        call.arg(row.revocation.selector.canonical()).arg(labels.len()).arg(labels);
    }
    let gone = reader.connection.script(&FORGET, &call).await?;
    Ok((found.len(), gone))
}

fn due(now: Timestamp) -> Cmd {
    cmd("ZRANGE").arg(DUE).arg("-inf").arg(now.as_secs()).arg("BYSCORE").arg("LIMIT").arg(0).arg(FORGET_ROWS).take()
}
