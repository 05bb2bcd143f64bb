//! Signs of life. One is not worth a flush to disk, save for a replica's first: were that lost in a crash, nobody would wait
//! for it though it serves.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query, query_scalar};

use std::time::Duration;

use crate::domain::Checkpoint;
use crate::store::postgres::fault::Failure;
use crate::store::postgres::history::History;
use crate::store::postgres::rows::{integer, position, seconds, text, time};
use crate::store::postgres::server::Server;
use crate::store::replicas::FORGOTTEN_AFTER;
use crate::store::{Beat, BoxError, Replica, StoreError};

const BEAT: &str = "INSERT INTO portcullis.replicas \
        (id, name, version, position, mark, standing, lease, started_at, seen_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp()) \
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version, position = excluded.position, \
        mark = excluded.mark, standing = excluded.standing, lease = excluded.lease, started_at = excluded.started_at, \
        seen_at = excluded.seen_at \
    RETURNING xmax = 0";

const REPLICAS: &str = "SELECT id, name, version, position, mark, standing, lease, started_at, \
        greatest(0, extract(epoch FROM clock_timestamp() - seen_at) * 1000)::bigint \
    FROM portcullis.replicas ORDER BY name, id";

impl Server {
    pub(super) async fn beat(&self, beat: &Beat) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        let beaten = async {
            take(&mut transaction, beat).await?;
            Ok(transaction.commit().await?)
        };
        self.bounded(async { beaten.await.map_err(|failure| self.explain(failure)) }).await
    }

    pub(super) async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        let mut moment = self.read().await?;
        let rows = query(REPLICAS).fetch_all(&mut *moment);
        let rows = self.bounded(async { rows.await.map_err(|error| self.fault(error)) }).await?;
        let read = |row| replica(row).map_err(StoreError::Unavailable);
        rows.iter().map(read).collect()
    }

    pub(super) async fn leave(&self, id: &str) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        let left = async {
            let strike = query("DELETE FROM portcullis.replicas WHERE id = $1").bind(text(id).into_owned());
            strike.execute(&mut *transaction).await?;
            transaction.commit().await
        };
        self.bounded(async { left.await.map_err(|error| self.fault(error)) }).await
    }
}

async fn take(connection: &mut PgConnection, beat: &Beat) -> Result<(), Failure> {
    History::read(connection, [beat.checkpoint]).await?.holds(beat.checkpoint)?;
    let sql = query_scalar(BEAT)
        .bind(text(&beat.id).into_owned())
        .bind(text(&beat.name).into_owned())
        .bind(text(&beat.version).into_owned())
        .bind(integer(beat.checkpoint.position.get()))
        .bind(beat.checkpoint.mark.map(u64::cast_signed))
        .bind(text(&beat.standing).into_owned())
        .bind(i64::try_from(beat.lease.as_millis()).unwrap_or(i64::MAX))
        .bind(seconds(beat.started_at));
    let is_first: bool = sql.fetch_one(&mut *connection).await?;
    if !is_first {
        query("SET LOCAL synchronous_commit = off").execute(connection).await?;
        return Ok(());
    }
    // Whoever joins strikes out those who left without a word.
    let day = FORGOTTEN_AFTER.as_secs_f64();
    let forget = "DELETE FROM portcullis.replicas WHERE seen_at < clock_timestamp() - make_interval(secs => $1)";
    query(forget).bind(day).execute(connection).await?;
    Ok(())
}

fn replica(row: &PgRow) -> Result<Replica, BoxError> {
    let mark = row.try_get::<Option<i64>, _>(4)?.map(i64::cast_unsigned);
    let beat = Beat {
        id: row.try_get::<&str, _>(0)?.into(),
        name: row.try_get::<&str, _>(1)?.into(),
        version: row.try_get::<&str, _>(2)?.into(),
        checkpoint: Checkpoint { position: position(row.try_get(3)?), mark },
        standing: row.try_get::<&str, _>(5)?.into(),
        lease: Duration::from_millis(u64::try_from(row.try_get::<i64, _>(6)?)?),
        started_at: time(row.try_get(7)?)?,
    };
    Ok(Replica { beat, silent: Duration::from_millis(u64::try_from(row.try_get::<i64, _>(8)?)?) })
}
