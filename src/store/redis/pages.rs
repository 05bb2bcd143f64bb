//! What a follower reads: the state by pages of selectors, the news by pages of appends, each as it was at one moment.

use std::collections::HashMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use redis::{Value, cmd, from_redis_value, from_redis_value_ref};

use crate::domain::{Change, Checkpoint, Position, Recorded, RevocationId};
use crate::store::StoreError;
use crate::store::feed::{NewsPage, Pages, StatePage};
use crate::store::query::change;
use crate::store::redis::append::mark_text;
use crate::store::redis::connection::Connection;
use crate::store::redis::fault;
use crate::store::redis::keys::{HEAD, NEWS, ROWS, SELECTORS};
use crate::store::redis::lua::Lua;
use crate::store::redis::rows;

/// How many selectors, about, or changes a page of the feed has; few in tests, which thus turn pages.
const PAGE: usize = if cfg!(test) { 100 } else { 2_000 };

static NEWS_SCRIPT: LazyLock<Lua> =
    LazyLock::new(|| Lua::new(concat!(include_str!("continuity.lua"), include_str!("news.lua"))));

/// The log as followers read it.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) connection: Connection,
}

/// What the script says.
struct News {
    upto: Checkpoint,
    end: Checkpoint,
    changes: Vec<Vec<Value>>,
}

impl Reader {
    async fn ask(&self, after: Checkpoint, limit: usize) -> Result<News, StoreError> {
        let mut call = NEWS_SCRIPT.call(&[HEAD, NEWS, ROWS, SELECTORS]);
        call.arg(after.position.get()).arg(mark_text(after.mark)).arg(limit);
        let said: Vec<Value> = self.connection.script(&NEWS_SCRIPT, &call).await?;
        let mut said = said.into_iter();
        let word = said.next().and_then(|word| from_redis_value::<String>(word).ok());
        match word.as_deref() {
            Some("HELD") => read(said).ok_or_else(fault::strange_answer),
            Some("TRIMMED") => Err(StoreError::Trimmed(after.position)),
            Some("LOST") => {
                let what = format!("its log does not hold position {}, which was seen there", after.position);
                Err(StoreError::Lost(what))
            }
            _ => Err(fault::strange_answer()),
        }
    }

    /// The rows of these ids, as far as there are any.
    pub(super) async fn rows(&self, ids: &[RevocationId]) -> Result<Vec<Recorded>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut question = cmd("HMGET");
        question.arg(ROWS);
        for id in ids {
            question.arg(&rows::id_bytes(*id)[..]);
        }
        let found: Vec<Option<Vec<u8>>> = self.connection.run(&question).await?;
        let found = ids.iter().zip(found).filter_map(|(id, row)| Some((*id, row?)));
        found.map(|(id, row)| rows::recorded(id, &row)).collect()
    }
}

fn read(mut said: impl Iterator<Item = Value>) -> Option<News> {
    let mut checkpoint = || {
        let position = Position::new(from_redis_value(said.next()?).ok()?);
        let mark: String = from_redis_value(said.next()?).ok()?;
        Some(Checkpoint { position, mark: u64::from_str_radix(&mark, 16).ok() })
    };
    let (upto, end) = (checkpoint()?, checkpoint()?);
    Some(News { upto, end, changes: from_redis_value(said.next()?).ok()? })
}

/// A change as the script tells it: the row that changed, and all others of its selector without an ending.
fn told(change: &[Value]) -> Result<Option<Change>, StoreError> {
    let mut held = Vec::with_capacity(change.len() / 2);
    for pair in change.chunks_exact(2) {
        let [id, row] = pair else { continue };
        let (Ok(id), Ok(row)) = (from_redis_value_ref::<Vec<u8>>(id), from_redis_value_ref::<Vec<u8>>(row)) else {
            return Err(fault::strange_answer());
        };
        let id = rows::id(&id).map_err(|error| StoreError::Corrupt(rows::position(&row), error))?;
        held.push(rows::recorded(id, &row)?);
    }
    let Some(cause) = held.first().cloned() else { return Ok(None) };
    held.retain(|held| held.ending.is_none());
    Ok(self::change(held, Some(&cause)))
}

#[async_trait]
impl Pages for Reader {
    async fn head(&self, from: Checkpoint) -> Result<Checkpoint, StoreError> {
        self.ask(from, 0).await.map(|news| news.end)
    }

    async fn state(&self, after: Option<&str>) -> Result<StatePage, StoreError> {
        let cursor = after.unwrap_or("0");
        let question = cmd("HSCAN").arg(SELECTORS).arg(cursor).arg("COUNT").arg(PAGE).take();
        let (next, found): (String, Vec<(String, Vec<u8>)>) = self.connection.run(&question).await?;
        let mut selectors: Vec<(String, Vec<RevocationId>)> = Vec::with_capacity(found.len());
        for (selector, value) in found {
            selectors.push((selector, rows::unended(&value)?));
        }
        selectors.sort_unstable();
        let ids: Vec<RevocationId> = selectors.iter().flat_map(|(_, ids)| ids).copied().collect();
        let mut held: HashMap<RevocationId, Recorded> = HashMap::with_capacity(ids.len());
        for some in ids.chunks(PAGE) {
            held.extend(self.rows(some).await?.into_iter().map(|row| (row.revocation.id, row)));
        }
        let changes = selectors.into_iter().filter_map(|(_, ids)| {
            let rows = ids.iter().filter_map(|id| held.remove(id));
            change(rows.filter(|row| row.ending.is_none()).collect(), None)
        });
        Ok(StatePage { changes: changes.collect(), resume: (next != "0").then_some(next) })
    }

    async fn news(&self, after: Checkpoint) -> Result<NewsPage, StoreError> {
        let news = self.ask(after, PAGE).await?;
        let changes = news.changes.iter().map(|change| told(change));
        let changes = changes.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(NewsPage { changes, upto: news.upto, more: news.upto.position < news.end.position })
    }
}
