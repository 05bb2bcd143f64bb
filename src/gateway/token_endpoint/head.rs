//! The head of a request to a token endpoint: whether its body is to be read, and as what.
//!
//! What the upstream might read in another way is refused before a byte of the body is looked at: another method, another
//! content type or charset, a coding, two content types, and parameters in the query that belong into the body, where RFC
//! 6749 §2.3.1 wants them and where alone they are checked.

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use hyper::{Method, StatusCode};

use crate::domain::Dialect;
use crate::gateway::token_endpoint::request::RequestFault;
use crate::gateway::token_endpoint::{FieldPlace, TokenEndpoint, form, name};

/// What becomes of a request by its head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Its body is read as that.
    Read(MediaType),
    /// It can hand out nothing, and passes like any other.
    PassBy,
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MediaType {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
}

const TYPE: RequestFault = RequestFault::Malformed("the content type is not one of this endpoint, in UTF-8");
const CODING: RequestFault = RequestFault::Malformed("the body must not be encoded");
const IN_QUERY: RequestFault = RequestFault::Malformed("parameters of a token endpoint belong into the body");
const ESCAPE: RequestFault = RequestFault::Malformed("the query cannot be read for certain");

/// What becomes of a request. `has_body` is whether any byte of a body may come.
///
/// # Errors
///
/// What forbids to forward it.
pub fn judge(
    endpoint: &TokenEndpoint,
    method: &Method,
    query: Option<&str>,
    headers: &HeaderMap,
    has_body: bool,
) -> Result<Way, RequestFault> {
    let passes_by = passes_by(endpoint, method, has_body)?;
    refuse_in_query(endpoint, query.unwrap_or_default())?;
    if passes_by {
        return Ok(Way::PassBy);
    }
    let identity = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(|coding| identity(coding.as_bytes())) {
        return Err(CODING);
    }
    media_type(endpoint, headers).map(Way::Read)
}

/// Whether a method hands out nothing; any but those and `POST` is refused.
fn passes_by(endpoint: &TokenEndpoint, method: &Method, has_body: bool) -> Result<bool, RequestFault> {
    match *method {
        Method::POST => Ok(false),
        Method::OPTIONS if !has_body => Ok(true),
        // There it takes tokens back.
        Method::DELETE if endpoint.dialect == Dialect::Elasticsearch => Ok(true),
        _ => Err(RequestFault::Method),
    }
}

/// Servers that merge the query with the body would see another value than the one that is checked.
fn refuse_in_query(endpoint: &TokenEndpoint, query: &str) -> Result<(), RequestFault> {
    for pair in query.split(['&', ';']) {
        let sent = pair.split('=').next().unwrap_or_default();
        let sent = form::decode(sent).ok_or(ESCAPE)?;
        if endpoint.reads().any(|read| name::is_like(&sent, &read)) {
            return Err(IN_QUERY);
        }
    }
    Ok(())
}

fn media_type(endpoint: &TokenEndpoint, headers: &HeaderMap) -> Result<MediaType, RequestFault> {
    let mut fields = headers.get_all(CONTENT_TYPE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(TYPE) };
    let mut parts = field.to_str().map_err(|_| TYPE)?.split(';').map(str::trim);
    let is = |wanted: &str, sent: &str| sent.eq_ignore_ascii_case(wanted);
    let (media, vendor) = match parts.next() {
        Some(sent) if is("application/x-www-form-urlencoded", sent) => (MediaType::Form, false),
        Some(sent) if is("application/json", sent) => (MediaType::Json, false),
        Some(sent) if is("application/vnd.elasticsearch+json", sent) && endpoint.dialect == Dialect::Elasticsearch => {
            (MediaType::Json, true)
        }
        _ => return Err(TYPE),
    };
    let mut seen = 0;
    let known = parts.all(|part| {
        seen += 1;
        part.split_once('=').is_some_and(|(name, value)| {
            (is("charset", name) && is("utf-8", unquoted(value))) || (vendor && is("compatible-with", name))
        })
    });
    let takes = endpoint.refresh_token.is_empty() || endpoint.refresh_token.iter().any(|place| place.is_in(media));
    if known && seen <= 1 && takes { Ok(media) } else { Err(TYPE) }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

impl FieldPlace {
    fn is_in(&self, media: MediaType) -> bool {
        matches!((self, media), (Self::Form(_), MediaType::Form) | (Self::Json(_), MediaType::Json))
    }
}

impl RequestFault {
    /// The status of its answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Token => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::token_endpoint::Preset;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn endpoint(preset: Preset) -> TokenEndpoint {
        preset.endpoint("https://i".into(), "main".into(), "/token".parse().unwrap())
    }

    fn typed(preset: Preset, content_types: &[&str]) -> Result<Way, RequestFault> {
        let mut headers = HeaderMap::new();
        for value in content_types {
            headers.append(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        }
        judge(&endpoint(preset), &Method::POST, None, &headers, true)
    }

    fn asked(query: &str) -> Result<Way, RequestFault> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(FORM))]);
        judge(&endpoint(Preset::OAuth2), &Method::POST, Some(query), &headers, true)
    }

    #[test]
    fn only_post_hands_out_tokens() {
        let judged =
            |preset, method: &Method, has_body| judge(&endpoint(preset), method, None, &HeaderMap::new(), has_body);
        assert_eq!(judged(Preset::OAuth2, &Method::OPTIONS, false), Ok(Way::PassBy));
        assert_eq!(judged(Preset::OAuth2, &Method::OPTIONS, true), Err(RequestFault::Method));
        assert_eq!(judged(Preset::Elasticsearch, &Method::DELETE, true), Ok(Way::PassBy));
        let lower = Method::from_bytes(b"post").unwrap();
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE, lower] {
            assert_eq!(judged(Preset::OAuth2, &method, false), Err(RequestFault::Method), "{method}");
        }
    }

    #[test]
    fn a_body_has_one_content_type_that_the_endpoint_has() {
        let json = Ok(Way::Read(MediaType::Json));
        for value in [
            FORM,
            "Application/X-WWW-Form-Urlencoded; Charset=\"UTF-8\"",
            "application/x-www-form-urlencoded;charset=utf-8",
        ] {
            assert_eq!(typed(Preset::OAuth2, &[value]), Ok(Way::Read(MediaType::Form)), "{value}");
        }
        assert_eq!(typed(Preset::Bluesky, &["application/JSON"]), json);
        assert_eq!(typed(Preset::Elasticsearch, &["application/vnd.elasticsearch+json; compatible-with=9"]), json);
        assert_eq!(typed(Preset::Bluesky, &[FORM]), Err(TYPE));
        let login = TokenEndpoint { refresh_token: Vec::new(), ..endpoint(Preset::Bluesky) };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(FORM))]);
        assert_eq!(judge(&login, &Method::POST, None, &headers, true), Ok(Way::Read(MediaType::Form)));
    }

    #[test]
    fn other_content_types_are_refused() {
        assert_eq!(typed(Preset::OAuth2, &[]), Err(TYPE));
        assert_eq!(typed(Preset::OAuth2, &[FORM, FORM]), Err(TYPE));
        for value in [
            "application/json",
            "application/json; charset=utf-8",
            "application/x-www-form-urlencoded, application/json",
            "application/x-www-form-urlencoded; charset=utf-16",
            "application/x-www-form-urlencoded; charset=ibm037",
            "application/x-www-form-urlencoded; charset=utf-7",
            "application/x-www-form-urlencoded; charset=utf-8; charset=utf-16",
            "application/x-www-form-urlencoded; boundary=x",
            "application/x-www-form-urlencoded;",
            "application/x-www-form-urlencoded charset=utf-8",
            "multipart/form-data; boundary=x",
            "text/plain",
            "",
        ] {
            assert_eq!(typed(Preset::OAuth2, &[value]), Err(TYPE), "{value}");
        }
        for value in ["application/scim+json", "application/vnd.elasticsearch+json; compatible-with=9", "text/json"] {
            assert_eq!(typed(Preset::Bluesky, &[value]), Err(TYPE), "{value}");
        }
    }

    #[test]
    fn an_encoded_body_is_refused() {
        for (coding, refused) in [("identity", false), ("gzip", true), ("identity, gzip", true), ("", true)] {
            let coding = (CONTENT_ENCODING, HeaderValue::from_static(coding));
            let headers = HeaderMap::from_iter([coding, (CONTENT_TYPE, HeaderValue::from_static(FORM))]);
            let judged = judge(&endpoint(Preset::OAuth2), &Method::POST, None, &headers, true);
            assert_eq!(judged == Err(CODING), refused);
        }
    }

    #[test]
    fn what_belongs_into_the_body_is_refused_in_the_query() {
        for query in ["", "tenant=1", "a=refresh_token", "a=%zz", "pretty&human"] {
            assert_eq!(asked(query), Ok(Way::Read(MediaType::Form)), "{query}");
        }
        for query in [
            "refresh_token=x",
            "a=1&refresh_token",
            "a=1;refresh_token=x",
            "Refresh%5fToken=x",
            "refresh.token=x",
            "refresh_token%5B%5D=x",
            "grant_type=refresh_token",
            "GRANT_TYPE=x",
            "client_id=x",
        ] {
            assert_eq!(asked(query), Err(IN_QUERY), "{query}");
        }
        assert_eq!(asked("refresh%u005ftoken=x"), Err(ESCAPE));
    }

    proptest! {
        #[test]
        fn any_head_is_judged(query in "\\PC{0,40}", value in "[ -~]{0,60}", has_body in any::<bool>()) {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(&value).unwrap())]);
            for preset in Preset::ALL {
                let _ = judge(&endpoint(preset), &Method::POST, Some(&query), &headers, has_body);
            }
        }
    }
}
