//! What a follower reads: what stands, in two passes, and what changed.
//!
//! No reader skips a commit. Whoever appends locks the row of the log's end, and lets go of it by committing; PostgreSQL
//! shows a commit to new snapshots before it releases its locks. So a snapshot that shows the log's end at some position
//! shows everything before it, and here that end and the rows are read in one snapshot.
//!
//! What stands is read in the order of the positions, which is the order on disk, save for selectors that more than one row
//! shares: those come first, each as a whole. A row that changes meanwhile moves behind the position at which the load began,
//! and is told as news before the load is called complete.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{query, query_as};

use crate::domain::{Checkpoint, Recorded, Selector};
use crate::store::StoreError;
use crate::store::feed::{NewsPage, Pages, StatePage};
use crate::store::postgres::fault::Failure;
use crate::store::postgres::history::History;
use crate::store::postgres::rows::{hash, integer, position, recorded, revocation_columns};
use crate::store::postgres::server::Server;
use crate::store::query::change;

/// How many rows a page of what stands has, and how many positions one of what changed; few in tests, which thus turn
/// pages.
const STATE_PAGE: usize = if cfg!(test) { 100 } else { 20_000 };
const NEWS_PAGE: u64 = if cfg!(test) { 100 } else { 2_000 };

/// Where the load of what stands goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cursor {
    /// Behind this key, among the selectors that more than one row shares.
    Crowded(i64),
    /// Behind this position, among the others.
    Alone(i64),
}

impl Cursor {
    fn parse(text: Option<&str>) -> Self {
        let number = |text: &str| text.parse().ok();
        let crowded = |text: &str| text.strip_prefix('k').and_then(number).map(Self::Crowded);
        let alone = |text: &str| text.strip_prefix('p').and_then(number).map(Self::Alone);
        text.and_then(|text| crowded(text).or_else(|| alone(text))).unwrap_or(Self::Crowded(i64::MIN))
    }

    fn text(self) -> String {
        match self {
            Self::Crowded(key) => format!("k{key}"),
            Self::Alone(position) => format!("p{position}"),
        }
    }
}

#[async_trait]
impl Pages for Server {
    async fn head(&self, from: Checkpoint) -> Result<Checkpoint, StoreError> {
        let mut moment = self.page().await?;
        let history = History::read(&mut moment, [from]);
        let history = self.bounded(async { history.await.map_err(|error| self.fault(error)) }).await?;
        history.goes_on_from(from).map(|()| history.head)
    }

    async fn state(&self, after: Option<&str>) -> Result<StatePage, StoreError> {
        match Cursor::parse(after) {
            Cursor::Crowded(key) => self.crowded(key).await,
            Cursor::Alone(position) => self.alone(position).await,
        }
    }

    async fn news(&self, after: Checkpoint) -> Result<NewsPage, StoreError> {
        let mut moment = self.page().await?;
        let page = news(&mut moment, after);
        self.bounded(async { page.await.map_err(|failure| self.explain(failure)) }).await
    }
}

impl Server {
    /// Selectors that more than one row shares or has shared, whole, in the order of their keys. The page ends with a
    /// key's last row, so that none is cut.
    async fn crowded(&self, after: i64) -> Result<StatePage, StoreError> {
        const CROWDED: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM portcullis.revocations WHERE ended_at IS NULL AND key IN (SELECT DISTINCT key FROM (SELECT key \
             FROM portcullis.revocations WHERE ended_at IS NULL AND crowded AND key > $1 ORDER BY key LIMIT $2) AS found)"
        );
        let mut moment = self.page().await?;
        let rows = query(CROWDED).bind(after).bind(integer(STATE_PAGE as u64)).fetch_all(&mut *moment);
        let held = self.revocations(rows).await?;
        let last = held.iter().map(|held| hash(&held.revocation.selector.canonical())).max();
        let next = last.map_or(Cursor::Alone(0), Cursor::Crowded);
        let changes = by_selector(held).into_values().filter_map(|group| change(group, None)).collect();
        Ok(StatePage { changes, resume: Some(next.text()) })
    }

    /// The others, in the order of their positions.
    async fn alone(&self, after: i64) -> Result<StatePage, StoreError> {
        const ALONE: &str = concat!(
            "SELECT ",
            revocation_columns!(),
            " FROM portcullis.revocations WHERE position > $1 AND ended_at IS NULL AND NOT crowded \
             ORDER BY position LIMIT $2"
        );
        let mut moment = self.page().await?;
        let rows = query(ALONE).bind(after).bind(integer(STATE_PAGE as u64)).fetch_all(&mut *moment);
        let held = self.revocations(rows).await?;
        let last = held.last().map(|held| integer(held.position.get()));
        let resume = last.filter(|_| held.len() == STATE_PAGE).map(|position| Cursor::Alone(position).text());
        let changes = held.into_iter().filter_map(|held| change(vec![held], None)).collect();
        Ok(StatePage { changes, resume })
    }
}

/// What changed after `after`, up to the end of a commit.
async fn news(moment: &mut PgConnection, after: Checkpoint) -> Result<NewsPage, Failure> {
    let history = History::read(moment, [after]).await?;
    history.goes_on_from(after)?;
    if after.position == history.head.position {
        return Ok(NewsPage { changes: Vec::new(), upto: history.head, more: false });
    }
    let upto = end(moment, after, history.head).await?;
    let bounds = (integer(after.position.get()), integer(upto.position.get()));
    let changed = query(CHANGED).bind(bounds.0).bind(bounds.1).fetch_all(&mut *moment).await?;
    let beside = query(BESIDE).bind(bounds.0).bind(bounds.1).fetch_all(&mut *moment).await?;
    let read = |rows: Vec<_>| rows.iter().map(recorded).collect::<Result<Vec<Recorded>, _>>();
    let groups = by_selector(read(beside)?);
    let of = |held: &Recorded| groups.get(&held.revocation.selector).cloned().unwrap_or_default();
    let changes = read(changed)?.iter().filter_map(|held| change(of(held), Some(held))).collect();
    Ok(NewsPage { changes, upto, more: upto.position != history.head.position })
}

/// The rows that changed, in the order of their positions.
const CHANGED: &str = concat!(
    "SELECT ",
    revocation_columns!(),
    " FROM portcullis.revocations WHERE position > $1 AND position <= $2 ORDER BY position"
);

/// The rows without an ending of the selectors that changed.
const BESIDE: &str = concat!(
    "SELECT ",
    revocation_columns!(),
    " FROM portcullis.revocations WHERE ended_at IS NULL AND key IN \
     (SELECT key FROM portcullis.revocations WHERE position > $1 AND position <= $2) ORDER BY position"
);

/// Where a page of news ends: as many commits as it can hold, or the next one however large.
async fn end(moment: &mut PgConnection, after: Checkpoint, head: Checkpoint) -> Result<Checkpoint, Failure> {
    const END: &str = "SELECT position, mark FROM portcullis.commits WHERE position = coalesce(\
        (SELECT max(position) FROM portcullis.commits WHERE position > $1 AND position <= $2), \
        (SELECT min(position) FROM portcullis.commits WHERE position > $1))";
    let bounds = (integer(after.position.get()), integer(after.position.get().saturating_add(NEWS_PAGE)));
    if head.position.get() <= after.position.get().saturating_add(NEWS_PAGE) {
        return Ok(head);
    }
    let found: Option<(i64, i64)> = query_as(END).bind(bounds.0).bind(bounds.1).fetch_optional(moment).await?;
    Ok(found.map_or(head, |(at, mark)| Checkpoint { position: position(at), mark: Some(mark.cast_unsigned()) }))
}

fn by_selector(held: Vec<Recorded>) -> HashMap<Selector, Vec<Recorded>> {
    let mut groups: HashMap<Selector, Vec<Recorded>> = HashMap::new();
    for held in held {
        groups.entry(held.revocation.selector.clone()).or_default().push(held);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_goes_on_where_it_stopped() {
        for cursor in [Cursor::Crowded(-7), Cursor::Crowded(i64::MAX), Cursor::Alone(0), Cursor::Alone(9)] {
            assert_eq!(Cursor::parse(Some(&cursor.text())), cursor);
        }
        assert_eq!(Cursor::parse(None), Cursor::Crowded(i64::MIN));
    }
}
