//! Wakes the followers when another replica has written. It says nothing of what was written; a wake-up that is lost costs
//! a follower the time until it looks by itself.

use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use tokio::sync::watch;

use crate::domain::Position;
use crate::store::redis::connection::Connection;
use crate::store::redis::keys::{HEAD, NEWS};
use crate::store::{Backoff, StoreError};

/// How long the server holds a question back while there is nothing to tell.
const HELD_BACK: Duration = Duration::from_secs(1);

/// Listens until the task is aborted. The connection is its own, for the server answers nothing else on it meanwhile.
pub(super) async fn listen(connection: Connection, wake: Arc<watch::Sender<Position>>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match once(&connection, &wake).await {
            Ok(()) => backoff.reset(),
            // Whoever reads the log meets the same, and says so.
            Err(_) => tokio::time::sleep(backoff.pause()).await,
        }
    }
}

/// Waits for one entry behind the log's end, and wakes for all that came before.
async fn once(connection: &Connection, wake: &watch::Sender<Position>) -> Result<(), StoreError> {
    let end: Option<u64> = connection.run(cmd("HGET").arg(HEAD).arg("position")).await?;
    let end = end.unwrap_or_default();
    wake.send_if_modified(|known| {
        let news = known.get() != end;
        *known = Position::new(end);
        news
    });
    let mut question = cmd("XREAD");
    question.arg("COUNT").arg(1).arg("BLOCK").arg(u64::try_from(HELD_BACK.as_millis()).unwrap_or(1_000));
    question.arg("STREAMS").arg(NEWS).arg(format!("{end}-0"));
    let _: Value = connection.run(&question).await?;
    Ok(())
}
