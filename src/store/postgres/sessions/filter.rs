//! What a search asks for, as SQL. The values are in the statement's parameters, and it is planned anew each time, so
//! that PostgreSQL sees which filter finds least.

use sqlx::QueryBuilder;
use sqlx::postgres::Postgres;

use crate::domain::{SessionState, Timestamp};
use crate::store::postgres::rows::seconds;
use crate::store::postgres::sessions::rows::kind_column;
use crate::store::postgres::sessions::text::stored;
use crate::store::{SessionQuery, SoughtDomain, Span};

type Sql = QueryBuilder<Postgres>;

/// Adds everything that `query` asks for to a query that has a condition already, its state aside.
pub(super) fn push_filters(sql: &mut Sql, query: &SessionQuery) {
    let texts = [
        (" AND issuer = ", &query.issuer),
        (" AND sub = ", &query.user),
        (" AND username = ", &query.username),
        (" AND client = ", &query.client),
        (" AND parent = ", &query.parent),
        (" AND address = ", &query.address),
    ];
    for (test, value) in texts {
        if let Some(value) = value {
            sql.push(test).push_bind(stored(value).into_owned());
        }
    }
    match &query.domain {
        Some(SoughtDomain::Named(name)) => drop(sql.push(" AND domain = ").push_bind(stored(name).into_owned())),
        Some(SoughtDomain::Unknown) => drop(sql.push(" AND domain IS NULL")),
        None => {}
    }
    if let Some(kind) = query.kind {
        sql.push(" AND kind = ").push_bind(kind_column(kind));
    }
    push_span(sql, "created_at", query.created);
    push_span(sql, "updated_at", query.updated);
    push_quarters(sql, query.updated);
    push_span(sql, "expires_at", query.expires);
    push_words(sql, query);
}

fn push_span(sql: &mut Sql, column: &'static str, span: Span) {
    for (test, at) in [(" >= ", span.since), (" < ", span.until)] {
        if let Some(at) = at {
            sql.push(" AND ").push(column).push(test).push_bind(seconds(at));
        }
    }
}

/// What the index knows of when a session was last seen.
fn push_quarters(sql: &mut Sql, span: Span) {
    for (test, at) in [(" AND updated_quarter >= ", span.since), (" AND updated_quarter <= ", span.until)] {
        if let Some(at) = at {
            sql.push(test).push_bind(quarter(at));
        }
    }
}

/// The quarter of an hour in which `at` lies.
pub(super) const fn quarter(at: Timestamp) -> i64 {
    seconds(at) / 900
}

/// A keyword is found by its letters where there is an index of them, else by reading all words.
fn push_words(sql: &mut Sql, query: &SessionQuery) {
    let words = query.folded();
    if words.is_empty() {
        return;
    }
    sql.push(" AND sessions.number IN (SELECT words.number FROM portcullis.words WHERE FALSE");
    for word in words {
        sql.push(" OR text LIKE ").push_bind(pattern(&word));
    }
    sql.push(")");
}

/// What `LIKE` finds a text by that holds `word`.
fn pattern(word: &str) -> String {
    let mut pattern = String::with_capacity(word.len() + 2);
    pattern.push('%');
    for letter in word.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// Adds that a session is in `state` at `now`.
pub(super) fn push_state(sql: &mut Sql, state: Option<SessionState>, now: Timestamp) {
    match state {
        None => {}
        Some(SessionState::Revoked) => drop(sql.push(" AND ended_at IS NOT NULL")),
        Some(SessionState::Expired) => {
            sql.push(" AND ended_at IS NULL AND expires_at <= ").push_bind(seconds(now));
        }
        Some(SessionState::Active) => {
            sql.push(" AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > ");
            sql.push_bind(seconds(now)).push(")");
        }
    }
}

/// Whether the census tells how many sessions `query` finds, the expired aside.
pub(super) fn is_counted(query: &SessionQuery) -> bool {
    let SessionQuery { user, username, parent, domain, address, created, updated, expires, state, .. } = query;
    let everywhere = |span: &Span| *span == Span::default();
    [user, username, parent, address].into_iter().all(Option::is_none)
        && domain.is_none()
        && [created, updated, expires].into_iter().all(everywhere)
        && query.folded().is_empty()
        && *state != Some(SessionState::Expired)
}

/// Adds what `query` asks of the census.
pub(super) fn push_census(sql: &mut Sql, query: &SessionQuery) {
    for (test, value) in [(" AND issuer = ", &query.issuer), (" AND client = ", &query.client)] {
        if let Some(value) = value {
            sql.push(test).push_bind(stored(value).into_owned());
        }
    }
    if let Some(kind) = query.kind {
        sql.push(" AND kind = ").push_bind(kind_column(kind));
    }
    if let Some(state) = query.state {
        sql.push(" AND ended = ").push_bind(state == SessionState::Revoked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_like_is_sought_as_it_is() {
        assert_eq!(pattern(r"50%_\a"), r"%50\%\_\\a%");
    }
}
