//! A page of a search: first the numbers of its sessions, mostly by an index alone, then their rows. Held against the
//! plain rule of the in-memory store by a test of random searches.

use std::collections::HashMap;

use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{QueryBuilder, query};

use crate::domain::SessionType;
use crate::store::session_query::SortValue;
use crate::store::sqlite::reader::Reader;
use crate::store::sqlite::rows::integer;
use crate::store::sqlite::sessions::plan::Plan;
use crate::store::sqlite::sessions::rows::{Numbered, count, kind_column, numbers, session, session_columns};
use crate::store::{SessionPage, SessionQuery, SortKey, StoreError};

impl Reader {
    pub(super) async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, StoreError> {
        let fault = |error| self.fault(error);
        // One moment, so that page and total agree.
        let mut moment = self.pool.begin().await.map_err(fault)?;
        let plan = Plan::new(&mut moment, query).await.map_err(fault)?;
        let total = plan.total(&mut moment).await.map_err(fault)?;
        let mut shown = page(&mut moment, &plan, query, total).await.map_err(fault)?;
        let follows = shown.len() > query.limit();
        shown.truncate(query.limit());
        let rows = rows(&mut moment, &shown).await.map_err(fault)?;
        let items = rows.iter().map(session).collect::<Result<Vec<_>, _>>()?;
        Ok(arrange(query, &shown, items, total, follows))
    }
}

/// The sessions in the order of their numbers in `shown`.
fn arrange(query: &SessionQuery, shown: &[i64], items: Vec<Numbered>, total: u64, follows: bool) -> SessionPage {
    let mut items: HashMap<i64, Numbered> = items.into_iter().map(|item| (item.number, item)).collect();
    let items: Vec<Numbered> = shown.iter().filter_map(|number| items.remove(number)).collect();
    let last = items.last().filter(|_| follows);
    let next = last.map(|last| query.sort.cursor(&last.session, count(last.number)));
    SessionPage { items: items.into_iter().map(|item| item.session).collect(), total, next }
}

async fn rows(connection: &mut SqliteConnection, shown: &[i64]) -> Result<Vec<sqlx::sqlite::SqliteRow>, sqlx::Error> {
    const ROWS: &str = concat!(
        "SELECT ",
        session_columns!(),
        " FROM sessions WHERE sessions.number IN (SELECT value FROM json_each(?1))"
    );
    query(ROWS).bind(numbers(shown.iter().copied())).fetch_all(connection).await
}

/// The numbers of a page's sessions, and of the one that follows, in order.
async fn page(
    connection: &mut SqliteConnection,
    plan: &Plan,
    query: &SessionQuery,
    total: u64,
) -> Result<Vec<i64>, sqlx::Error> {
    let wanted = query.limit() + 1;
    let (column, index) = order(query.sort);
    let path = plan.leading(total, index);
    let select = |what, stretch: &Stretch| {
        let mut sql = QueryBuilder::new(what);
        plan.push_from(&mut sql, Some(path));
        stretch.push(&mut sql, column, query.descending);
        sql
    };
    let (mut shown, mut offset) = (Vec::new(), query.offset);
    for stretch in stretches(query) {
        let limit = (wanted - shown.len()) as u64;
        let mut sql = select("SELECT number", &stretch);
        stretch.push_order(&mut sql, query);
        sql.push(" LIMIT ").push_bind(integer(limit)).push(" OFFSET ").push_bind(integer(offset));
        let found: Vec<i64> = sql.build_query_scalar().fetch_all(&mut *connection).await?;
        if found.is_empty() && offset > 0 {
            let mut sql = select("SELECT count(*)", &stretch);
            offset = offset.saturating_sub(count(sql.build_query_scalar().fetch_one(&mut *connection).await?));
        } else {
            offset = 0;
        }
        shown.extend(found);
        if shown.len() >= wanted {
            break;
        }
    }
    Ok(shown)
}

/// The column of an order, and the index that goes along it.
const fn order(sort: SortKey) -> (&'static str, &'static str) {
    match sort {
        SortKey::Id => ("id", "sessions_by_id"),
        SortKey::User => ("user", "sessions_by_user"),
        SortKey::Username => ("username", "sessions_by_username"),
        SortKey::Issuer => ("issuer", "sessions_by_issuer"),
        SortKey::Parent => ("parent", "sessions_by_parent"),
        SortKey::Domain => ("domain", "sessions_by_domain"),
        SortKey::Address => ("address", "sessions_by_address"),
        SortKey::Type => ("kind", "sessions_by_kind"),
        SortKey::Created => ("created_at", "sessions_by_created"),
        SortKey::Updated => ("updated_at", "sessions_by_updated"),
        SortKey::Expires => ("expires_at", "sessions_by_expires"),
        SortKey::TokenExpires => ("token_expires_at", "sessions_by_token_expires"),
    }
}

/// A part of the order in which an index is gone along in one direction without a gap: what is unknown has no place
/// beside what is known, so what comes after a cursor may come in three.
#[derive(Debug)]
enum Stretch {
    /// All of it.
    All,
    /// The same value, or unknown like it, and a number beyond.
    Beside(SortValue, i64),
    /// A value beyond.
    Beyond(SortValue),
    /// All that is known.
    Known,
    /// All that is unknown.
    Unknown,
}

fn stretches(query: &SessionQuery) -> Vec<Stretch> {
    let Some(cursor) = &query.after else { return vec![Stretch::All] };
    let value = query.sort.read(cursor);
    let unknown = matches!(value, SortValue::Text(None) | SortValue::Number(None));
    let beside = Stretch::Beside(value.clone(), integer(cursor.number));
    match (unknown, query.descending) {
        (true, false) => vec![beside, Stretch::Known],
        (true, true) => vec![beside],
        (false, false) => vec![beside, Stretch::Beyond(value)],
        (false, true) => vec![beside, Stretch::Beyond(value), Stretch::Unknown],
    }
}

impl Stretch {
    fn push(&self, sql: &mut QueryBuilder<Sqlite>, column: &'static str, descending: bool) {
        let beyond = if descending { " < " } else { " > " };
        match self {
            Self::All => {}
            Self::Beside(value, number) => {
                sql.push(" AND ").push(column).push(" IS ");
                push_value(sql, value, column);
                sql.push(" AND number").push(beyond).push_bind(*number);
            }
            Self::Beyond(value) => {
                sql.push(" AND ").push(column).push(beyond);
                push_value(sql, value, column);
            }
            Self::Known => drop(sql.push(" AND ").push(column).push(" IS NOT NULL")),
            Self::Unknown => drop(sql.push(" AND ").push(column).push(" IS NULL")),
        }
    }

    fn push_order(&self, sql: &mut QueryBuilder<Sqlite>, query: &SessionQuery) {
        let direction = if query.descending { " DESC" } else { "" };
        let column = order(query.sort).0;
        sql.push(" ORDER BY ").push(column).push(direction).push(", number").push(direction);
    }
}

fn push_value(sql: &mut QueryBuilder<Sqlite>, value: &SortValue, column: &'static str) {
    match value {
        SortValue::Text(text) if column == "kind" => {
            let sso = text.as_deref() == Some(SessionType::Sso.name());
            sql.push_bind(kind_column(if sso { SessionType::Sso } else { SessionType::Login }));
        }
        SortValue::Text(text) => drop(sql.push_bind(text.as_deref().map(str::to_owned))),
        SortValue::Number(number) => drop(sql.push_bind(number.map(integer))),
    }
}
