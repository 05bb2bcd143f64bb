//! What may be forgotten goes in small batches, each while the log's end is held, so that nothing is taken from under an
//! append. What ended long ago takes the history with it up to there: whoever has not read that far must read all that
//! stands anew.

use sqlx::postgres::PgConnection;
use sqlx::query_as;

use crate::domain::Timestamp;
use crate::store::postgres::fault::Failure;
use crate::store::postgres::history::History;
use crate::store::postgres::rows::seconds;
use crate::store::postgres::server::Server;
use crate::store::{ENDED_RETENTION, StoreError};

/// How many rows of each sort go at once; small, so that revocations need not wait long.
const BATCH: i64 = 500;
/// How many commits' marks are kept.
const HISTORY: i64 = if cfg!(test) { 20 } else { 100_000 };

const FORGET: &str = "WITH expired AS (\
        DELETE FROM portcullis.revocations WHERE id IN (SELECT id FROM portcullis.revocations \
            WHERE expires_at <= $1 ORDER BY expires_at LIMIT $3) RETURNING 1\
    ), ended AS (\
        DELETE FROM portcullis.revocations WHERE id IN (SELECT id FROM portcullis.revocations \
            WHERE ended_at IS NOT NULL AND expires_at IS NULL AND ended_at <= $2 ORDER BY ended_at LIMIT $3) \
        RETURNING position\
    ) SELECT (SELECT count(*) FROM expired), (SELECT count(*) FROM ended), (SELECT max(position) FROM ended)";

const TRIM: &str = "WITH floor AS (\
        SELECT greatest($1, (SELECT position FROM portcullis.commits ORDER BY position DESC OFFSET $2 LIMIT 1)) AS upto\
    ), gone AS (\
        DELETE FROM portcullis.commits WHERE position IN (SELECT position FROM portcullis.commits, floor \
            WHERE position <= upto ORDER BY position LIMIT $3) RETURNING position\
    ), raised AS (\
        UPDATE portcullis.head SET floor = greatest(floor, $1, (SELECT max(position) FROM gone))\
    ) SELECT count(*) FROM gone";

impl Server {
    /// Forgets all there is to forget; returns how many revocations went.
    pub(super) async fn forget(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let (rows, more) = self.forget_some(now).await?;
            forgotten += rows;
            if !more {
                return Ok(forgotten);
            }
        }
    }

    async fn forget_some(&self, now: Timestamp) -> Result<(u64, bool), StoreError> {
        let mut transaction = self.write().await?;
        let forgotten = async {
            let forgotten = forget(&mut transaction, now).await?;
            transaction.commit().await?;
            Ok(forgotten)
        };
        self.bounded(async { forgotten.await.map_err(|failure| self.explain(failure)) }).await
    }
}

/// Forgets some; returns how many revocations, and whether there may be more.
async fn forget(connection: &mut PgConnection, now: Timestamp) -> Result<(u64, bool), Failure> {
    History::hold(connection, []).await?;
    let until = seconds(now.before(ENDED_RETENTION));
    let forget = query_as(FORGET).bind(seconds(now)).bind(until).bind(BATCH);
    let (expired, ended, last): (i64, i64, Option<i64>) = forget.fetch_one(&mut *connection).await?;
    let trim = query_as(TRIM).bind(last.unwrap_or_default()).bind(HISTORY).bind(BATCH * 10);
    let (trimmed,): (i64,) = trim.fetch_one(connection).await?;
    let more = expired == BATCH || ended == BATCH || trimmed == BATCH * 10;
    Ok((u64::try_from(expired + ended).unwrap_or_default(), more))
}
