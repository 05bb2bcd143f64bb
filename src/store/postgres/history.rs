//! Whether the log is the one that somebody has read: each commit sets a random mark where it ends, and whoever has read that
//! far names it. A log that lost its end has another mark there, or none.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use crate::domain::{Checkpoint, Position};
use crate::store::StoreError;
use crate::store::postgres::rows::{integer, position};

/// Where a log ends, and how far its history goes back.
#[derive(Debug)]
pub(super) struct History {
    pub(super) head: Checkpoint,
    floor: Position,
    /// The marks at the positions that were asked for.
    marks: HashMap<Position, u64>,
}

/// What is read of the log's end. The marks come with it: what somebody has read was committed long before.
macro_rules! history {
    () => {
        "SELECT head.position, head.mark, head.floor, \
         ARRAY(SELECT position FROM portcullis.commits WHERE position = ANY($1) ORDER BY position), \
         ARRAY(SELECT mark FROM portcullis.commits WHERE position = ANY($1) ORDER BY position) FROM portcullis.head"
    };
}

impl History {
    /// The log's end as it is seen here.
    pub(super) async fn read(
        connection: &mut PgConnection,
        seen: impl IntoIterator<Item = Checkpoint>,
    ) -> Result<Self, sqlx::Error> {
        Self::ask(connection, history!(), seen).await
    }

    /// The log's end, held until the transaction ends: nobody else appends meanwhile.
    pub(super) async fn hold(
        connection: &mut PgConnection,
        seen: impl IntoIterator<Item = Checkpoint>,
    ) -> Result<Self, sqlx::Error> {
        Self::ask(connection, concat!(history!(), " FOR UPDATE"), seen).await
    }

    async fn ask(
        connection: &mut PgConnection,
        sql: &'static str,
        seen: impl IntoIterator<Item = Checkpoint>,
    ) -> Result<Self, sqlx::Error> {
        let seen: Vec<i64> = seen.into_iter().map(|seen| integer(seen.position.get())).collect();
        Self::of(&sqlx::query(sql).bind(seen).fetch_one(connection).await?)
    }

    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let mark = row.try_get::<Option<i64>, _>(1)?.map(i64::cast_unsigned);
        let positions: Vec<i64> = row.try_get(3)?;
        let marks: Vec<i64> = row.try_get(4)?;
        Ok(Self {
            head: Checkpoint { position: position(row.try_get(0)?), mark },
            floor: position(row.try_get(2)?),
            marks: positions.into_iter().map(position).zip(marks.into_iter().map(i64::cast_unsigned)).collect(),
        })
    }

    /// Whether news can be told from `seen` on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lost`] and [`StoreError::Trimmed`].
    pub(super) fn goes_on_from(&self, seen: Checkpoint) -> Result<(), StoreError> {
        let Checkpoint { position, mark } = seen;
        if position == Position::START {
            return Ok(());
        }
        if position > self.head.position {
            return Err(lost(format!(
                "its log ends at {}, before {position}, which was seen already",
                self.head.position
            )));
        }
        if position <= self.floor && position < self.head.position {
            return Err(StoreError::Trimmed(position));
        }
        let held = if position == self.head.position { self.head.mark } else { self.marks.get(&position).copied() };
        if mark.is_some() && mark != held {
            return Err(lost(format!("its log has another history than the one that was seen up to {position}")));
        }
        Ok(())
    }

    /// Whether somebody who has read up to `seen` has read this log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lost`] alone.
    pub(super) fn holds(&self, seen: Checkpoint) -> Result<(), StoreError> {
        match self.goes_on_from(seen) {
            Err(StoreError::Trimmed(_)) => Ok(()),
            other => other,
        }
    }
}

fn lost(what: String) -> StoreError {
    StoreError::Lost(what)
}
