//! How sessions are asked for: filters, and with `paging` order and page. Several calls share it, and differ in whom they may ask about; a
//! parameter that a call does not know is an error there, not a silence.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::Fault;
use crate::admin::extract::{NoParameters, Parameters};
use crate::admin::native::paging::Page;
use crate::admin::native::wire::limit_of;
use crate::control::{SessionQuery, Span};
use crate::domain::{SessionState, SessionType, Timestamp};

/// The longest id of a session or a user, in bytes; no selector holds a longer one.
const MAX_ID_BYTES: usize = 1024;
/// The most keywords of one search.
const MAX_KEYWORDS: usize = 16;

/// A name that others made, as it stands in a path: anything that fits.
#[derive(Debug)]
pub(super) struct Opaque(pub(super) String);

impl FromStr for Opaque {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        (1..=MAX_ID_BYTES).contains(&text.len()).then(|| Self(text.to_owned())).ok_or(())
    }
}

/// Whom a search may ask about.
pub(super) trait Whose: DeserializeOwned + Send {
    /// The parameters that say it.
    const NAMES: &'static [&'static str];
}

/// Anyone at all.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Anyone {
    /// Only of this issuer: its configured name or its `iss`.
    pub(super) issuer: Option<String>,
    /// Only of this user.
    pub(super) user: Option<String>,
    /// Only of the user of this name.
    pub(super) username: Option<String>,
}

impl Whose for Anyone {
    const NAMES: &'static [&'static str] = &["issuer", "user", "username"];
}

/// One user, whom the path names.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Someone {
    /// The issuer: its configured name or its `iss`. It may be left out where one issuer alone knows the user.
    pub(super) issuer: Option<String>,
}

impl Whose for Someone {
    const NAMES: &'static [&'static str] = &["issuer"];
}

impl Whose for NoParameters {
    const NAMES: &'static [&'static str] = &[];
}

/// A search, read strictly.
#[derive(Debug)]
pub(super) struct Search<W> {
    pub(super) whose: W,
    parameters: SearchParameters,
}

/// Which sessions, in which order, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchParameters {
    /// Only of this client.
    client: Option<String>,
    /// Only opened from this session.
    parent: Option<String>,
    /// Only used last from this address.
    address: Option<String>,
    /// Only of this type.
    #[serde(rename = "type")]
    #[param(inline)]
    kind: Option<Type>,
    /// Only in this state. A session that was learned after the revocation of
    /// its user is found as `active`, and shown as `revoked`.
    #[param(inline)]
    state: Option<StateName>,
    /// Words, separated by commas: only sessions with any of them in id, username, address, user agent or domain, in
    /// whatever case.
    keywords: Option<String>,
    /// One such word, commas and all; may be given several times.
    #[serde(default)]
    q: Vec<String>,
    /// Only first seen from then on: seconds since the epoch, or RFC 3339 in UTC.
    created_since: Option<String>,
    /// Only first seen before then.
    created_until: Option<String>,
    /// Only last seen from then on.
    updated_since: Option<String>,
    /// Only last seen before then.
    updated_until: Option<String>,
    /// Only expiring from then on.
    expires_since: Option<String>,
    /// Only expiring before then.
    expires_until: Option<String>,
    /// What they are sorted by: `id`, `user`, `username`, `issuer`, `parent`, `domain`, `address`, `type`, `created`,
    /// `updated`, `expires` (the default) or `token_expires`; with `-` before it, from the greatest to the least.
    #[param(example = "-created")]
    sort: Option<String>,
    /// `next` of the page before; it goes with the same `sort` only.
    cursor: Option<String>,
    /// How many are left out first.
    offset: Option<u32>,
    /// How many: 1 to 1000.
    #[param(example = 100)]
    limit: Option<u32>,
}

/// How a session came about.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SessionType)]
pub(super) enum Type {
    /// Somebody logged in.
    Login,
    /// It was opened from another session.
    Sso,
}

impl From<Type> for SessionType {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Login => Self::Login,
            Type::Sso => Self::Sso,
        }
    }
}

impl From<SessionType> for Type {
    fn from(kind: SessionType) -> Self {
        match kind {
            SessionType::Login => Self::Login,
            SessionType::Sso => Self::Sso,
        }
    }
}

/// Where a session or a token is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SessionState)]
pub(super) enum StateName {
    /// It goes on.
    Active,
    /// It was ended.
    Revoked,
    /// Its time is over.
    Expired,
}

impl From<StateName> for SessionState {
    fn from(state: StateName) -> Self {
        match state {
            StateName::Active => Self::Active,
            StateName::Revoked => Self::Revoked,
            StateName::Expired => Self::Expired,
        }
    }
}

impl From<SessionState> for StateName {
    fn from(state: SessionState) -> Self {
        match state {
            SessionState::Active => Self::Active,
            SessionState::Revoked => Self::Revoked,
            SessionState::Expired => Self::Expired,
        }
    }
}

impl<W: Whose, S: Send + Sync> FromRequestParts<S> for Search<W> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let pairs = || parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
        // A name that comes more than once, which the others may not, is read by itself.
        let words = of(pairs().filter(|pair| name(pair) == "q"), parts, state).await?;
        let whose = of(pairs().filter(|pair| W::NAMES.contains(&&*name(pair))), parts, state).await?;
        let others = pairs().filter(|pair| name(pair) != "q" && !W::NAMES.contains(&&*name(pair)));
        let mut parameters: SearchParameters = of(others, parts, state).await?;
        parameters.q = Vec::into_iter(words).map(|(_, word): (String, String)| word).collect();
        Ok(Self { whose, parameters })
    }
}

/// Reads some of a query's parameters.
async fn of<'q, T: DeserializeOwned, S: Send + Sync>(
    pairs: impl Iterator<Item = &'q str>,
    parts: &Parts,
    state: &S,
) -> Result<T, Fault> {
    let query = pairs.collect::<Vec<_>>().join("&");
    let mut some = parts.clone();
    some.uri = Uri::try_from(format!("/?{query}")).map_err(|_| Fault::Invalid("the query is none".to_owned()))?;
    Parameters::from_request_parts(&mut some, state).await.map(|Parameters(parameters)| parameters)
}

impl<W> Search<W> {
    /// Whom it asks about, and what it asks for.
    pub(super) fn into_query(self, now: Timestamp) -> Result<(W, Page), Fault> {
        let asked = self.parameters;
        let page = Page::of(asked.sort.as_deref())?;
        let query = SessionQuery {
            client: asked.client,
            parent: asked.parent,
            address: asked.address,
            kind: asked.kind.map(SessionType::from),
            state: asked.state.map(SessionState::from),
            keywords: keywords(asked.keywords.as_deref(), asked.q)?,
            created: span("created", asked.created_since.as_deref(), asked.created_until.as_deref())?,
            updated: span("updated", asked.updated_since.as_deref(), asked.updated_until.as_deref())?,
            expires: span("expires", asked.expires_since.as_deref(), asked.expires_until.as_deref())?,
            now,
            after: asked.cursor.map(|cursor| page.after(&cursor)).transpose()?,
            offset: asked.offset.unwrap_or(0).into(),
            limit: limit_of(asked.limit)?,
            ..page.query
        };
        Ok((self.whose, Page { query, sort: page.sort }))
    }
}

fn keywords(listed: Option<&str>, single: Vec<String>) -> Result<Vec<String>, Fault> {
    let listed = listed.unwrap_or_default().split(',').map(|word| word.trim().to_owned());
    let words: Vec<_> = listed.chain(single).filter(|word| !word.is_empty()).collect();
    let fits = words.len() <= MAX_KEYWORDS;
    if fits { Ok(words) } else { Err(Fault::Invalid(format!("keywords: expected {MAX_KEYWORDS} at most"))) }
}

fn span(name: &str, since: Option<&str>, until: Option<&str>) -> Result<Span, Fault> {
    let moment = |suffix: &str, text: &str| {
        let expected = "expected seconds since the epoch, or a time as 2026-01-31T12:00:00Z";
        moment(text).ok_or_else(|| Fault::Invalid(format!("{name}_{suffix}: {expected}")))
    };
    Ok(Span {
        since: since.map(|text| moment("since", text)).transpose()?,
        until: until.map(|text| moment("until", text)).transpose()?,
    })
}

/// A moment after the epoch and before the year 2106, in seconds or as RFC 3339 writes it.
fn moment(text: &str) -> Option<Timestamp> {
    let date = || humantime::parse_rfc3339(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok();
    let secs = text.parse().ok().or_else(|| date().map(|since| since.as_secs()))?;
    Some(Timestamp::from_secs(secs)).filter(|moment| *moment <= Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::control::SortKey;

    fn search<W: Whose>(query: &str) -> Result<(W, Page), Fault> {
        let uri = Uri::try_from(format!("/v1/sessions?{query}")).unwrap();
        let (mut parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Search::from_request_parts(&mut parts, &()))?.into_query(Timestamp::from_secs(5))
    }

    fn query(text: &str) -> SessionQuery {
        search::<Anyone>(text).unwrap().1.query
    }

    #[test]
    fn every_filter_is_understood() {
        let query = query(
            "client=web&parent=p%2F1&address=192.0.2.1&type=sso&state=revoked&created_since=10&created_until=\
             1970-01-01T00:00:20Z&updated_since=1&expires_until=7&sort=-created&offset=3&limit=7",
        );
        assert_eq!((query.client.as_deref(), query.parent.as_deref()), (Some("web"), Some("p/1")));
        assert_eq!((query.kind, query.state), (Some(SessionType::Sso), Some(SessionState::Revoked)));
        let at = |secs| Some(Timestamp::from_secs(secs));
        assert_eq!(query.created, Span { since: at(10), until: at(20) });
        assert_eq!((query.updated.since, query.expires.until), (at(1), at(7)));
        assert_eq!((query.sort, query.descending, query.offset, query.limit), (SortKey::Created, true, 3, 7));
    }

    #[test]
    fn keywords_come_in_a_list_or_one_by_one() {
        assert_eq!(query("keywords=a,%20b,,c").keywords, ["a", "b", "c"]);
        assert_eq!(query("q=a,b&limit=1&q=c+d&keywords=e").keywords, ["e", "a,b", "c d"]);
        assert!(search::<Anyone>(&"q=a&".repeat(17)).is_err());
    }

    #[test]
    fn a_call_knows_only_whom_it_may_ask_about() {
        assert_eq!(search::<Anyone>("user=a&username=b").unwrap().0.user.as_deref(), Some("a"));
        assert_eq!(search::<Someone>("issuer=main").unwrap().0.issuer.as_deref(), Some("main"));
        assert!(search::<Someone>("user=a").is_err());
        for other in ["user=bob", "issuer=main", "username=bob", "%75ser=bob", "user"] {
            assert!(search::<NoParameters>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            "sort=password",
            "sort=--id",
            "sort=",
            "limit=0",
            "limit=1001",
            "offset=-1",
            "type=x",
            "state=x",
            "user=a&user=b",
            "created_since=soon",
            "created_since=1960-01-01T00:00:00Z",
            "created_since=99999999999",
            "cursor=x",
            "%71=x",
            "client=a&client=b",
            "colour=red",
        ] {
            assert!(search::<Anyone>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(text in "[a-z_=&%0-9,+;-]{0,80}") {
            let _ = search::<Anyone>(&text);
        }
    }
}
