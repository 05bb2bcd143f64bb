//! A page of a search, and how many there are in all. Held against the plain rule of the in-memory store by a test of
//! random searches.

use sqlx::QueryBuilder;
use sqlx::postgres::{PgConnection, PgRow, Postgres};

use crate::domain::{SessionState, SessionType, Timestamp};
use crate::store::postgres::fault::Failure;
use crate::store::postgres::rows::{integer, seconds};
use crate::store::postgres::sessions::filter::{is_counted, push_census, push_filters, push_state, quarter};
use crate::store::postgres::sessions::rows::{Numbered, count, kind_column, session, session_columns};
use crate::store::postgres::sessions::text::stored;
use crate::store::session_query::SortValue;
use crate::store::{SessionPage, SessionQuery, SortKey};

type Sql = QueryBuilder<Postgres>;

/// A page; the connection must see one moment, so that page and total agree.
pub(super) async fn sessions(connection: &mut PgConnection, query: &SessionQuery) -> Result<SessionPage, Failure> {
    let total = if is_counted(query) { census(connection, query).await? } else { total(connection, query).await? };
    let rows = page(connection, query).await?;
    let mut items: Vec<Numbered> = rows.iter().map(session).collect::<Result<_, _>>()?;
    let follows = items.len() > query.limit();
    items.truncate(query.limit());
    let last = items.last().filter(|_| follows);
    let next = last.map(|last| query.sort.cursor(&last.session, count(last.number)));
    Ok(SessionPage { items: items.into_iter().map(|item| item.session).collect(), total, next })
}

async fn total(connection: &mut PgConnection, query: &SessionQuery) -> Result<u64, sqlx::Error> {
    let mut sql = QueryBuilder::new("SELECT count(*) FROM portcullis.sessions WHERE TRUE");
    push_filters(&mut sql, query);
    push_state(&mut sql, query.state, query.now);
    scalar(connection, sql).await
}

/// The census tells the ended, not the expired, which upkeep keeps few.
async fn census(connection: &mut PgConnection, query: &SessionQuery) -> Result<u64, sqlx::Error> {
    let mut sql = QueryBuilder::new("SELECT coalesce(sum(sessions), 0)::bigint FROM portcullis.census WHERE TRUE");
    push_census(&mut sql, query);
    let counted = scalar(connection, sql).await?;
    if query.state != Some(SessionState::Active) {
        return Ok(counted);
    }
    let expired = SessionQuery { state: Some(SessionState::Expired), ..query.clone() };
    Ok(counted.saturating_sub(total(connection, &expired).await?))
}

async fn scalar(connection: &mut PgConnection, mut sql: Sql) -> Result<u64, sqlx::Error> {
    sql.build_query_scalar().persistent(false).fetch_one(connection).await.map(count)
}

/// A page's sessions, and the one that follows, in order.
async fn page(connection: &mut PgConnection, query: &SessionQuery) -> Result<Vec<PgRow>, sqlx::Error> {
    let wanted = query.limit() + 1;
    let (mut shown, mut offset) = (Vec::new(), query.offset);
    for stretch in stretches(query) {
        let mut sql = stretch.of(concat!("SELECT ", session_columns!()), query);
        push_order(&mut sql, query);
        let limit = (wanted - shown.len()) as u64;
        sql.push(" LIMIT ").push_bind(integer(limit)).push(" OFFSET ").push_bind(integer(offset));
        let found: Vec<PgRow> = sql.build().persistent(false).fetch_all(&mut *connection).await?;
        if found.is_empty() && offset > 0 {
            let before = scalar(connection, stretch.of("SELECT count(*)", query)).await?;
            offset = offset.saturating_sub(before);
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

/// The column of an order.
const fn column(sort: SortKey) -> &'static str {
    match sort {
        SortKey::Id => "sessions.id",
        SortKey::User => "sub",
        SortKey::Username => "username",
        SortKey::Issuer => "sessions.issuer",
        SortKey::Parent => "parent",
        SortKey::Domain => "domain",
        SortKey::Address => "address",
        SortKey::Type => "kind",
        SortKey::Created => "created_at",
        SortKey::Updated => "updated_at",
        SortKey::Expires => "expires_at",
        SortKey::TokenExpires => "token_expires_at",
    }
}

fn push_order(sql: &mut Sql, query: &SessionQuery) {
    let direction = if query.descending { " DESC" } else { "" };
    // What no index is kept of comes in groups that one is kept of; what cannot be unknown has no place for it.
    let (before, unknown) = match query.sort {
        SortKey::Updated => (Some("updated_quarter"), ""),
        SortKey::Id | SortKey::Issuer | SortKey::Type | SortKey::Created => (None, ""),
        _ if query.descending => (None, " NULLS LAST"),
        _ => (None, " NULLS FIRST"),
    };
    sql.push(" ORDER BY ");
    if let Some(before) = before {
        sql.push(before).push(direction).push(", ");
    }
    sql.push(column(query.sort)).push(direction).push(unknown).push(", sessions.number").push(direction);
}

/// A part of the order in which an index is gone along in one direction without a gap: what is unknown has no place
/// beside what is known, so what comes after a cursor may come in two.
#[derive(Debug)]
enum Stretch {
    /// All of it.
    All,
    /// A value and number beyond.
    Beyond(SortValue, i64),
    /// All that is known.
    Known,
    /// All that is unknown.
    Unknown,
    /// What is unknown, with a number beyond.
    UnknownBeyond(i64),
}

fn stretches(query: &SessionQuery) -> Vec<Stretch> {
    let Some(cursor) = &query.after else { return vec![Stretch::All] };
    let (value, number) = (query.sort.read(cursor), integer(cursor.number));
    let unknown = matches!(value, SortValue::Text(None) | SortValue::Number(None));
    match (unknown, query.descending) {
        (true, false) => vec![Stretch::UnknownBeyond(number), Stretch::Known],
        (true, true) => vec![Stretch::UnknownBeyond(number)],
        (false, false) => vec![Stretch::Beyond(value, number)],
        (false, true) => vec![Stretch::Beyond(value, number), Stretch::Unknown],
    }
}

impl Stretch {
    /// The SQL that selects `what` of the sessions asked for in it.
    fn of(&self, what: &'static str, query: &SessionQuery) -> Sql {
        let mut sql = QueryBuilder::new(what);
        sql.push(" FROM portcullis.sessions WHERE TRUE");
        push_filters(&mut sql, query);
        push_state(&mut sql, query.state, query.now);
        self.push(&mut sql, query);
        sql
    }

    fn push(&self, sql: &mut Sql, query: &SessionQuery) {
        let (column, beyond) = (column(query.sort), if query.descending { " < " } else { " > " });
        match self {
            Self::All => {}
            Self::Beyond(value, number) => {
                if let (SortKey::Updated, SortValue::Number(Some(secs))) = (query.sort, value) {
                    let quarter = quarter(Timestamp::from_secs(*secs));
                    sql.push(" AND updated_quarter").push(beyond.trim_end()).push("= ").push_bind(quarter);
                }
                sql.push(" AND (").push(column).push(", sessions.number)").push(beyond).push("(");
                push_value(sql, value, query.sort);
                sql.push(", ").push_bind(*number).push(")");
            }
            Self::Known => drop(sql.push(" AND ").push(column).push(" IS NOT NULL")),
            Self::Unknown => drop(sql.push(" AND ").push(column).push(" IS NULL")),
            Self::UnknownBeyond(number) => {
                sql.push(" AND ").push(column).push(" IS NULL AND sessions.number").push(beyond).push_bind(*number);
            }
        }
    }
}

fn push_value(sql: &mut Sql, value: &SortValue, sort: SortKey) {
    match value {
        SortValue::Text(text) if sort == SortKey::Type => {
            let sso = text.as_deref() == Some(SessionType::Sso.name());
            sql.push_bind(kind_column(if sso { SessionType::Sso } else { SessionType::Login }));
        }
        SortValue::Text(text) => drop(sql.push_bind(text.as_deref().map(|text| stored(text).into_owned()))),
        SortValue::Number(number) => {
            sql.push_bind(number.map(|secs| seconds(Timestamp::from_secs(secs))));
        }
    }
}
