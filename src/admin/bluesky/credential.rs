//! Where a caller's credential stands, in the order in which bluesky-httpserver looks: an API key in the query, in
//! `Authorization: ApiKey`, in a cookie; then a bearer token. The first that is there counts, and the others do not.
//!
//! Stricter than the server in one thing: two of the same place are refused instead of choosing one. A cookie is sent by
//! browsers on anybody's word, so with it a request must also show what only the server's own pages know.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::Query;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::admin::Fault;
use crate::admin::bluesky::refused::Refused;
use crate::domain::BearerToken;

/// The cookie in which the server keeps an API key that came in a query.
const KEY_COOKIE: &str = "bluesky_httpserver_api_key";
/// The cookie whose value a page has to repeat.
const CSRF_COOKIE: &str = "bluesky_httpserver_csrf";
/// Where it repeats it.
const X_CSRF: HeaderName = HeaderName::from_static("x-csrf");
/// The server's own words for an `Authorization` it cannot read.
const SCHEMES: &str = "Authorization header must include the authorization type followed by a space and then the secret, \
    as in 'Bearer SECRET' or 'Apikey SECRET'. ";

/// What a caller shows.
#[derive(Clone, Debug)]
pub(super) enum Presented {
    /// Nothing.
    Nothing,
    /// An API key.
    Key(BearerToken),
    /// An access token.
    Token(BearerToken),
}

impl Presented {
    /// Finds it.
    ///
    /// # Errors
    ///
    /// What the server answers as well: 400 for another scheme, 401 for what is no key and no token, 403 for a cookie alone.
    pub(super) fn read(parts: &Parts) -> Result<Self, Refused> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) else {
            return Err(Refused::saying(Fault::Invalid("query".to_owned()), 400, "The query cannot be read."));
        };
        let cookie = cookie(&parts.headers, KEY_COOKIE)?;
        if cookie.is_some() {
            beware_of_other_sites(&parts.headers, only(&pairs, "csrf")?)?;
        }
        let (key, token) = authorization(&parts.headers)?.map_or((None, None), Shown::parted);
        let in_query = only(&pairs, "api_key")?.filter(|key| !key.is_empty());
        match (in_query.or(key).or(cookie), token) {
            (Some(key), _) => BearerToken::parse(key).map(Self::Key).ok_or_else(Refused::key),
            (None, Some(token)) => BearerToken::parse(token).map(Self::Token).ok_or_else(Refused::token),
            (None, None) => Ok(Self::Nothing),
        }
    }

    /// The text, whichever it is.
    pub(super) const fn secret(&self) -> Option<&BearerToken> {
        match self {
            Self::Nothing => None,
            Self::Key(secret) | Self::Token(secret) => Some(secret),
        }
    }
}

/// What stands behind a scheme.
enum Shown<'a> {
    Key(&'a str),
    Token(&'a str),
}

impl<'a> Shown<'a> {
    const fn parted(self) -> (Option<&'a str>, Option<&'a str>) {
        match self {
            Self::Key(key) => (Some(key), None),
            Self::Token(token) => (None, Some(token)),
        }
    }
}

fn authorization(headers: &HeaderMap) -> Result<Option<Shown<'_>>, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::ambiguous());
    }
    let text = value.to_str().unwrap_or_default();
    let (scheme, secret) = text.split_once(' ').unwrap_or((text, ""));
    let secret = secret.trim_matches(' ');
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok(Some(Shown::Token(secret))),
        "apikey" => Ok(Some(Shown::Key(secret))),
        _ => Err(Refused::saying(Fault::Unauthenticated, 400, SCHEMES)),
    }
}

/// A page of another site makes a browser send the cookies, but cannot read them.
fn beware_of_other_sites(headers: &HeaderMap, in_query: Option<&str>) -> Result<(), Refused> {
    let expected = cookie(headers, CSRF_COOKIE)?.filter(|value| !value.is_empty());
    let shown = headers.get(X_CSRF).map(|value| value.to_str().unwrap_or_default()).or(in_query);
    let detail = match (expected, shown.filter(|shown| !shown.is_empty())) {
        (None, _) => "Expected tiled_csrf_token cookie",
        (Some(_), None) => "Expected csrf query parameter or x-csrf header",
        (Some(expected), Some(shown)) => match verify_slices_are_equal(expected.as_bytes(), shown.as_bytes()) {
            Ok(()) => return Ok(()),
            Err(_) => "Double-submit CSRF tokens do not match",
        },
    };
    Err(Refused::saying(Fault::Unauthenticated, 403, detail))
}

/// The one cookie of that name.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refused> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    one(pairs.filter(|(found, _)| *found == name).map(|(_, value)| value.trim_matches('"')))
}

fn only<'a>(pairs: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, Refused> {
    one(pairs.iter().filter(|(found, _)| found == name).map(|(_, value)| &**value))
}

fn one<'a>(mut values: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, Refused> {
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Refused::ambiguous()),
        (value, None) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use proptest::prelude::*;

    use super::*;

    fn read(uri: &str, headers: &[(&str, &str)]) -> String {
        let request = headers.iter().fold(Request::delete(uri), |request, (name, value)| request.header(*name, *value));
        match Presented::read(&request.body(()).unwrap().into_parts().0) {
            Ok(Presented::Nothing) => "nothing".to_owned(),
            Ok(Presented::Key(key)) => format!("key {}", key.expose()),
            Ok(Presented::Token(token)) => format!("token {}", token.expose()),
            Err(refused) => refused.status().to_string(),
        }
    }

    #[test]
    fn the_first_place_that_has_one_counts() {
        let cookies = ("cookie", "a=b; bluesky_httpserver_api_key=c3; bluesky_httpserver_csrf=x");
        let csrf = ("x-csrf", "x");
        let key = ("authorization", "ApiKey c2");
        let token = ("authorization", "Bearer t");
        assert_eq!(read("/?api_key=c1", &[key, cookies, csrf]), "key c1");
        assert_eq!(read("/", &[key, cookies, csrf]), "key c2");
        assert_eq!(read("/", &[token, cookies, csrf]), "key c3");
        assert_eq!(read("/?api_key=", &[token]), "token t");
        assert_eq!(read("/", &[]), "nothing");
    }

    #[test]
    fn a_scheme_has_no_case_and_any_blanks() {
        assert_eq!(read("/", &[("authorization", "bEARER  t ")]), "token t");
        assert_eq!(read("/", &[("authorization", "APIKEY a")]), "key a");
        for wrong in ["Basic abc", "Bearer\tt", "t"] {
            assert_eq!(read("/", &[("authorization", wrong)]), "400", "{wrong}");
        }
        for wrong in ["Bearer", "Bearer ", "ApiKey"] {
            assert_eq!(read("/", &[("authorization", wrong)]), "401", "{wrong}");
        }
    }

    #[test]
    fn two_of_one_place_are_refused() {
        let token = ("authorization", "Bearer t");
        assert_eq!(read("/", &[token, token]), "400");
        assert_eq!(read("/?api_key=a&api_key=b", &[]), "400");
        assert_eq!(read("/", &[("cookie", "bluesky_httpserver_api_key=a; bluesky_httpserver_api_key=b")]), "400");
    }

    #[test]
    fn a_cookie_alone_is_not_enough() {
        let with = |cookie, csrf: Option<&str>| {
            let headers: Vec<_> = [("cookie", cookie)].into_iter().chain(csrf.map(|csrf| ("x-csrf", csrf))).collect();
            read("/", &headers)
        };
        let both = "bluesky_httpserver_api_key=a; bluesky_httpserver_csrf=x";
        assert_eq!(with(both, Some("x")), "key a");
        assert_eq!(read("/?csrf=x", &[("cookie", both)]), "key a");
        assert_eq!((with(both, None), with(both, Some("y"))), ("403".to_owned(), "403".to_owned()));
        assert_eq!(with("bluesky_httpserver_api_key=a", Some("x")), "403");
        assert_eq!(with("bluesky_httpserver_api_key=a; bluesky_httpserver_csrf=", Some("")), "403");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[ -~]{0,40}", cookie in "[ -~]{0,40}", query in "[a-z_=&%0-9]{0,30}") {
            read(&format!("/?{query}"), &[("authorization", &text), ("cookie", &cookie)]);
        }
    }
}
