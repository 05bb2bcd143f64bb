//! By which way a search goes through a million sessions. SQLite cannot know: it does not see the values when it
//! decides. So each filter with an index is asked how much it finds, up to a bound; the one that finds least leads. If
//! that is little, its finds are sorted; else the order leads, and a page is full before long.

use sqlx::QueryBuilder;
use sqlx::sqlite::{Sqlite, SqliteConnection};

use crate::domain::SessionState;
use crate::domain::Timestamp;
use crate::store::SessionQuery;
use crate::store::sqlite::sessions::filter::{BY_EXPIRES, ENDED, Filter, filters};
use crate::store::sqlite::sessions::rows::count;
use crate::store::sqlite::sessions::words::Words;

/// How many sessions are little enough to be sorted; few in tests, which thus go both ways.
const FEW: i64 = if cfg!(test) { 4 } else { 5_000 };
/// Of fewer than these among all, a page is not full before long: then the filter that finds least leads, however much
/// that is.
const RARE: u64 = if cfg!(test) { 6 } else { 500 };

/// How the sessions asked for are found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Path {
    /// By an index, which a filter narrows or an order goes along.
    Index(&'static str),
    /// By their keywords.
    Words,
}

/// How a search is carried out.
#[derive(Debug)]
pub(super) struct Plan {
    filters: Vec<Filter>,
    words: Words,
    state: Option<SessionState>,
    now: Timestamp,
    /// What finds least; `None` if nothing is asked for, or nothing that has an index.
    path: Option<Path>,
    few: bool,
}

impl Plan {
    /// Asks what each filter finds.
    pub(super) async fn new(connection: &mut SqliteConnection, query: &SessionQuery) -> Result<Self, sqlx::Error> {
        let words = Words::of(connection, query).await?;
        let SessionQuery { state, now, .. } = *query;
        let mut plan = Self { filters: filters(query), words, state, now, path: None, few: false };
        let mut least = i64::MAX;
        for path in plan.paths() {
            let found = plan.found(connection, path).await?;
            if found < least {
                (least, plan.path) = (found, Some(path));
            }
        }
        plan.few = least <= FEW;
        Ok(plan)
    }

    /// What leads to a page of `total`: what finds little, or the order along `index`.
    pub(super) fn leading(&self, total: u64, index: &'static str) -> Path {
        self.path.filter(|_| self.few || total < RARE).unwrap_or(Path::Index(index))
    }

    /// All filters, the state's too.
    fn asked(&self, state: Option<SessionState>) -> impl Iterator<Item = Filter> {
        self.filters.iter().cloned().chain(state.map(|state| Filter::state(state, self.now)))
    }

    fn paths(&self) -> Vec<Path> {
        let indexes = self.asked(self.state).filter_map(|filter| filter.index);
        let words = (!self.words.is_empty()).then_some(Path::Words);
        indexes.map(Path::Index).chain(words).collect()
    }

    /// How many sessions a path finds; one more than few for more.
    async fn found(&self, connection: &mut SqliteConnection, path: Path) -> Result<i64, sqlx::Error> {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM (");
        match path {
            Path::Words => self.words.push_numbers(&mut sql, true),
            Path::Index(index) => {
                sql.push("SELECT 1 FROM sessions INDEXED BY ").push(index).push(" WHERE TRUE");
                let own = self.asked(self.state).filter(|filter| filter.index == Some(index));
                own.for_each(|filter| filter.push(&mut sql));
            }
        }
        sql.push(" LIMIT ").push_bind(FEW + 1).push(")");
        sql.build_query_scalar().fetch_one(connection).await
    }

    /// Adds the sessions asked for, found by `path`.
    pub(super) fn push_from(&self, sql: &mut QueryBuilder<Sqlite>, path: Option<Path>) {
        self.push_from_in(sql, path, self.state);
    }

    fn push_from_in(&self, sql: &mut QueryBuilder<Sqlite>, path: Option<Path>, state: Option<SessionState>) {
        sql.push(" FROM sessions");
        match path {
            Some(Path::Index(index)) => drop(sql.push(" INDEXED BY ").push(index).push(" WHERE TRUE")),
            Some(Path::Words) => {
                sql.push(" NOT INDEXED WHERE number IN (");
                self.words.push_numbers(sql, false);
                sql.push(")");
            }
            None => drop(sql.push(" WHERE TRUE")),
        }
        self.asked(state).for_each(|filter| filter.push(sql));
        if !self.words.is_empty() && path != Some(Path::Words) {
            sql.push(" AND ");
            self.words.push_test(sql);
        }
    }

    /// How many sessions are asked for, the cursor aside.
    pub(super) async fn total(&self, connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        if let Some(sql) = self.census() {
            return counted(connection, sql).await;
        }
        if self.few || self.state != Some(SessionState::Active) {
            return counted(connection, self.count_in(self.path, self.state)).await;
        }
        // Of many it is quicker to count all, by an index alone, and those that are not active.
        let all = counted(connection, self.count_in(self.path, None)).await?;
        let mut others = 0;
        for (index, state) in [(ENDED, SessionState::Revoked), (BY_EXPIRES, SessionState::Expired)] {
            others += counted(connection, self.count_in(Some(Path::Index(index)), Some(state))).await?;
        }
        Ok(all.saturating_sub(others))
    }

    fn count_in(&self, path: Option<Path>, state: Option<SessionState>) -> QueryBuilder<Sqlite> {
        let mut sql = QueryBuilder::new("SELECT ");
        if path == Some(Path::Words) && self.words.are_common() && self.asked(state).next().is_none() {
            self.words.push_count(&mut sql);
        } else {
            sql.push("count(*)");
            self.push_from_in(&mut sql, path, state);
        }
        sql
    }

    /// The SQL that adds up the census, where that tells.
    fn census(&self) -> Option<QueryBuilder<Sqlite>> {
        let tells = self.words.is_empty() && self.state != Some(SessionState::Expired);
        let counted: Vec<_> = self.filters.iter().map(|filter| filter.census.clone()).collect::<Option<_>>()?;
        let mut sql = QueryBuilder::new("SELECT ifnull(sum(sessions), 0)");
        if self.state == Some(SessionState::Active) {
            // The census tells the ended, not the expired, which upkeep keeps few.
            sql.push(" - (");
            sql.push("SELECT count(*)");
            self.push_from_in(&mut sql, Some(Path::Index(BY_EXPIRES)), Some(SessionState::Expired));
            sql.push(")");
        }
        sql.push(" FROM census WHERE TRUE");
        for (test, value) in counted {
            sql.push(test);
            value.push(&mut sql);
        }
        if let Some(state) = self.state {
            sql.push(" AND ended = ").push_bind(state == SessionState::Revoked);
        }
        tells.then_some(sql)
    }
}

async fn counted(connection: &mut SqliteConnection, mut sql: QueryBuilder<Sqlite>) -> Result<u64, sqlx::Error> {
    sql.build_query_scalar().fetch_one(connection).await.map(count)
}
