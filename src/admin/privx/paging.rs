//! `offset`, `limit`, `sortkey`, `sortdir`. Parameters that nobody here knows are left to those who do, as PrivX leaves them.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use utoipa::IntoParams;

use crate::admin::Fault;
use crate::admin::privx::words::Refused;
use crate::control::{SessionQuery, SortKey};
use crate::domain::{SessionState, Timestamp};

/// How many sessions a page has when nothing else is asked for.
const DEFAULT_LIMIT: u32 = 50;
/// How many it has at most, whatever is asked for; `count` tells that there are more.
const MAX_LIMIT: u32 = 1_000;

/// PrivX's names; that of `remote_addr` is another one here.
const SORT_KEYS: [(&str, SortKey); 12] = [
    ("id", SortKey::Id),
    ("user_id", SortKey::User),
    ("source_id", SortKey::Issuer),
    ("parent_session_id", SortKey::Parent),
    ("domain", SortKey::Domain),
    ("username", SortKey::Username),
    ("remote_address", SortKey::Address),
    ("type", SortKey::Type),
    ("created", SortKey::Created),
    ("updated", SortKey::Updated),
    ("expires", SortKey::Expires),
    ("token_expires", SortKey::TokenExpires),
];

/// Which page, in which order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Paging {
    sort: SortKey,
    descending: bool,
    offset: u32,
    limit: u32,
}

/// The same, as it is described.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `Paging` reads")]
pub(super) struct PagingParameters {
    /// How many are left out first.
    #[param(default = 0)]
    offset: Option<u32>,
    /// How many there are on the page; no more than 1000 are sent.
    #[param(default = 50)]
    limit: Option<u32>,
    /// `id`, `user_id`, `source_id`, `parent_session_id`, `domain`, `username`, `remote_address`, `type`, `created`,
    /// `updated`, `expires` or `token_expires`.
    #[param(default = "expires")]
    sortkey: Option<String>,
    /// `ASC` or `DESC`.
    #[param(default = "ASC")]
    sortdir: Option<String>,
}

impl Default for Paging {
    fn default() -> Self {
        Self { sort: SortKey::Expires, descending: false, offset: 0, limit: DEFAULT_LIMIT }
    }
}

impl Paging {
    fn read(pairs: &[(String, String)]) -> Result<Self, Refused> {
        let mut paging = Self::default();
        if let Some(offset) = only(pairs, "offset")? {
            paging.offset = number(offset).ok_or_else(|| Refused::wrong("offset", "a number from 0 on"))?;
        }
        if let Some(limit) = only(pairs, "limit")? {
            paging.limit = number(limit).ok_or_else(|| Refused::wrong("limit", "a number from 0 on"))?;
        }
        if let Some(key) = only(pairs, "sortkey")? {
            let known = SORT_KEYS.into_iter().find(|(name, _)| *name == key);
            let names = || format!("one of {}", SORT_KEYS.map(|(name, _)| name).join(", "));
            paging.sort = known.map(|(_, key)| key).ok_or_else(|| Refused::wrong("sortkey", &names()))?;
        }
        paging.descending = match only(pairs, "sortdir")? {
            None | Some("ASC") => false,
            Some("DESC") => true,
            Some(_) => return Err(Refused::wrong("sortdir", "ASC or DESC")),
        };
        Ok(paging)
    }

    /// The living sessions of that page.
    pub(super) fn query(self, now: Timestamp) -> SessionQuery {
        SessionQuery {
            state: Some(SessionState::Active),
            sort: self.sort,
            descending: self.descending,
            offset: self.offset.into(),
            limit: self.limit.clamp(1, MAX_LIMIT),
            now,
            ..SessionQuery::default()
        }
    }

    /// How many sessions are sent at most; none, where only their count is asked for.
    pub(super) const fn limit(self) -> usize {
        self.limit as usize
    }
}

/// A parameter that is there once at most; an empty one is as good as none.
fn only<'a>(pairs: &'a [(String, String)], name: &'static str) -> Result<Option<&'a str>, Refused> {
    let mut values = pairs.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let first = values.next().filter(|value| !value.is_empty());
    if values.next().is_some() { Err(Refused::wrong(name, "one value")) } else { Ok(first) }
}

/// Decimal digits and nothing else, not even a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl<S: Sync> FromRequestParts<S> for Paging {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = pairs.map_err(|_| Refused::from(Fault::Invalid("the query is none".to_owned())))?;
        Self::read(&pairs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paging(query: &str) -> Result<Paging, Refused> {
        let uri = format!("/x?{query}").parse().unwrap();
        Paging::read(&Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap().0)
    }

    #[test]
    fn everything_may_be_left_out() {
        for query in ["", "offset=&limit=&sortkey=&sortdir=", "fuzzycount=true", "&", "sortdir=ASC&sortkey=expires"] {
            assert_eq!(paging(query).unwrap(), Paging::default(), "{query}");
        }
    }

    #[test]
    fn every_sort_key_is_known_and_the_fields_own_name_of_the_address_is_none() {
        for (name, key) in SORT_KEYS {
            let read = paging(&format!("sortkey={name}&sortdir=DESC&offset=3&limit=2")).unwrap();
            assert_eq!(read, Paging { sort: key, descending: true, offset: 3, limit: 2 });
        }
        assert!(paging("sortkey=remote_addr").is_err());
    }

    #[test]
    fn nonsense_is_refused_with_the_name_of_the_parameter() {
        for (query, property) in [
            ("offset=-1", "offset"),
            ("offset=+1", "offset"),
            ("limit=ten", "limit"),
            ("limit=4294967296", "limit"),
            ("limit=1.0", "limit"),
            ("sortkey=nonsense", "sortkey"),
            ("sortkey=Id", "sortkey"),
            ("sortdir=asc", "sortdir"),
            ("limit=1&limit=2", "limit"),
        ] {
            let said = format!("{:?}", paging(query).unwrap_err());
            assert!(said.contains(&format!("Some(\"{property}\")")), "{query}: {said}");
        }
    }

    #[test]
    fn no_page_is_larger_than_what_is_bearable() {
        let query = paging("limit=4000000000").unwrap().query(Timestamp::from_secs(1));
        assert_eq!((query.limit, query.state), (MAX_LIMIT, Some(SessionState::Active)));
        let none = paging("limit=0").unwrap();
        assert_eq!((none.query(Timestamp::from_secs(1)).limit, none.limit()), (1, 0));
    }

    proptest! {
        #[test]
        fn no_query_panics(text in "[a-z_=&%0-9A-Z+;-]{0,80}") {
            let _ = paging(&text);
        }
    }
}
