//! What a search asks for, as SQL: each filter with the index that finds by it.

use sqlx::QueryBuilder;
use sqlx::sqlite::Sqlite;

use crate::domain::{SessionState, Timestamp};
use crate::store::sqlite::rows::seconds;
use crate::store::sqlite::sessions::rows::kind_column;
use crate::store::{SessionQuery, SoughtDomain, Span};

/// The ended sessions.
pub(super) const ENDED: &str = "sessions_ended";
/// Sessions by when they expire.
pub(super) const BY_EXPIRES: &str = "sessions_by_expires";

/// One thing that is asked of a session.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// What finds by it, if anything does.
    pub(super) index: Option<&'static str>,
    /// The same in the census, if that tells.
    pub(super) census: Option<(&'static str, Value)>,
    tests: Vec<(&'static str, Option<Value>, &'static str)>,
}

/// A value to be bound.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

impl Value {
    pub(super) fn push(self, sql: &mut QueryBuilder<Sqlite>) {
        match self {
            Self::Text(text) => sql.push_bind(text),
            Self::Number(number) => sql.push_bind(number),
        };
    }
}

impl Filter {
    fn text(test: &'static str, index: &'static str, value: &Option<String>) -> Option<Self> {
        let value = Value::Text(value.clone()?);
        Some(Self { index: Some(index), census: None, tests: vec![(test, Some(value), "")] })
    }

    fn domain(sought: &SoughtDomain) -> Self {
        let test = match sought {
            SoughtDomain::Named(name) => ("domain = ", Some(Value::Text(name.clone())), ""),
            SoughtDomain::Unknown => ("domain IS NULL", None, ""),
        };
        Self { index: Some("sessions_by_domain"), census: None, tests: vec![test] }
    }

    fn span(tests: [&'static str; 2], index: &'static str, span: Span) -> Option<Self> {
        let [since, until] = tests;
        let bounds = [(since, span.since), (until, span.until)].into_iter();
        let tests: Vec<_> =
            bounds.filter_map(|(test, at)| Some((test, Some(Value::Number(seconds(at?))), ""))).collect();
        (!tests.is_empty()).then_some(Self { index: Some(index), census: None, tests })
    }

    /// Asks for sessions in `state` at `now`.
    pub(super) fn state(state: SessionState, now: Timestamp) -> Self {
        let now = Some(Value::Number(seconds(now)));
        let (index, test) = match state {
            SessionState::Revoked => (Some(ENDED), ("ended_at IS NOT NULL", None, "")),
            SessionState::Expired => (Some(BY_EXPIRES), ("ended_at IS NULL AND expires_at <= ", now, "")),
            SessionState::Active => (None, ("ended_at IS NULL AND (expires_at IS NULL OR expires_at > ", now, ")")),
        };
        Self { index, census: None, tests: vec![test] }
    }

    fn counted(self, column: &'static str, value: Value) -> Self {
        Self { census: Some((column, value)), ..self }
    }

    /// Adds it to a query that has a condition already.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Sqlite>) {
        for (before, value, behind) in &self.tests {
            sql.push(" AND ").push(before);
            value.clone().into_iter().for_each(|value| value.push(sql));
            sql.push(behind);
        }
    }
}

/// Everything `query` asks for, its state and its keywords aside.
pub(super) fn filters(query: &SessionQuery) -> Vec<Filter> {
    let SessionQuery {
        issuer, user, username, client, parent, domain, address, kind, created, updated, expires, ..
    } = query;
    let of_issuer = Filter::text("issuer = ", "sessions_by_issuer", issuer);
    let of_client = Filter::text("client = ", "sessions_by_client", client);
    let of_kind = kind.map(|kind| {
        let value = Value::Number(kind_column(kind));
        let tests = vec![("kind = ", Some(value.clone()), "")];
        Filter { index: Some("sessions_by_kind"), census: Some((" AND kind = ", value)), tests }
    });
    let text =
        |value: &Option<String>, before: &str| Value::Text(format!("{before}{}", value.as_deref().unwrap_or("")));
    [
        Filter::text("user = ", "sessions_by_user", user),
        Filter::text("username = ", "sessions_by_username", username),
        Filter::text("parent = ", "sessions_by_parent", parent),
        domain.as_ref().map(Filter::domain),
        Filter::text("address = ", "sessions_by_address", address),
        of_issuer.map(|filter| filter.counted(" AND issuer = ", text(issuer, ""))),
        of_client.map(|filter| filter.counted(" AND client = ", text(client, "="))),
        of_kind,
        Filter::span(["created_at >= ", "created_at < "], "sessions_by_created", *created),
        Filter::span(["updated_at >= ", "updated_at < "], "sessions_by_updated", *updated),
        Filter::span(["expires_at >= ", "expires_at < "], BY_EXPIRES, *expires),
    ]
    .into_iter()
    .flatten()
    .collect()
}
