//! Answers of a bluesky-httpserver that list sessions, with `revoked` put right: the server was never told of an end that
//! was decided here, and its clients look there to see whether it came about.
//!
//! `GET` of `…/api/auth/whoami` and `…/api/auth/principal[/{uuid}]` on routes of that dialect, below whatever base path. The
//! JSON answer is read whole and only the words are exchanged (`listing`); length and tag are made to fit (`validator`).
//! Other statuses, other media types and coded bodies pass untouched, as does everything on other paths; the server is asked
//! for no coding. What is JSON and cannot be read, or is larger than [`MAX_ANSWER_BYTES`], is refused with 502, and while the
//! revocations are out of step the answer is 503: a session that is dead is not told to be alive. The answer to `HEAD`
//! loses its length and its tag, since both would be those of another document.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_RANGE, RANGE,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::admission::Admitted;
use crate::domain::{Claims, Dialect, TokenDigest, TokenKind};
use crate::gateway::Gateway;
use crate::gateway::body::Body;
use crate::gateway::correct::listing::Unmarked;
use crate::gateway::correct::validator::Held;
use crate::gateway::refusal::{Refusal, UpstreamFault};
use crate::gateway::route::Route;
use crate::gateway::story::Story;
use crate::gateway::upstream::Outgoing;

mod listing;
mod validator;

/// The longest answer that is read, in bytes: a principal has some sessions and keys, and a list has all principals.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Digests of the body that other parties may have put there (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// A request whose answer lists sessions.
#[derive(Debug)]
pub(super) struct Asked {
    held: Held,
    is_head: bool,
}

impl Asked {
    /// Notes a request for such a list, and asks for an answer that can be read, whole.
    pub(super) fn note<B>(request: &mut Request<B>, route: &Route) -> Option<Self> {
        let is_head = request.method() == Method::HEAD;
        if route.dialect != Dialect::Bluesky
            || !(is_head || request.method() == Method::GET)
            || !lists(request.uri().path())
        {
            return None;
        }
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
        Some(Self { held: Held::take(headers), is_head })
    }
}

/// Whether a path, normalised, is one where sessions are listed.
fn lists(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let one = path.rsplit_once('/').is_some_and(|(above, _)| above.ends_with("/api/auth/principal"));
    one || path.ends_with("/api/auth/whoami") || path.ends_with("/api/auth/principal")
}

impl Gateway {
    /// Sends a request for a list of sessions on, and puts the answer right.
    pub(super) async fn corrected(
        &self,
        asked: Asked,
        outgoing: Outgoing,
        (route, admitted): (&Route, &Admitted),
        story: &mut Story,
    ) -> Result<Response<Body>, Refusal> {
        let answer = self.forwarding.forward(outgoing, route, admitted, story).await?;
        if answer.status() != StatusCode::OK {
            return Ok(answer);
        }
        let answer = match is_plain_json(answer.headers()) {
            false => answer,
            true if asked.is_head => without_measures(answer),
            true => self.put_right(answer, route).await?,
        };
        Ok(asked.held.or_not_modified(answer))
    }

    async fn put_right(&self, answer: Response<Body>, route: &Route) -> Result<Response<Body>, Refusal> {
        let (mut parts, body) = answer.into_parts();
        let document = whole(body).await?;
        let Ok(unmarked) = listing::unmarked(&document) else {
            tracing::warn!(route = %route.name, "a list of sessions is withheld: it cannot be read");
            return Err(Refusal::Upstream(UpstreamFault::Protocol));
        };
        let ended = self.ended(&unmarked, route).await?;
        let document = if ended.is_empty() {
            document
        } else {
            let document = Bytes::from(listing::marked(&document, &ended));
            validator::retag(&mut parts.headers, &document);
            DIGESTS.iter().for_each(|name| drop(parts.headers.remove(name)));
            document
        };
        parts.headers.insert(CONTENT_LENGTH, document.len().into());
        Ok(Response::from_parts(parts, Body::whole(document)))
    }

    /// Those of the sessions that have ended here.
    async fn ended(&self, unmarked: &[Unmarked], route: &Route) -> Result<Vec<Unmarked>, Refusal> {
        let (issuers, now) = (self.issuers_behind(route), self.clock.now());
        let mut ended = Vec::new();
        for session in unmarked {
            for issuer in &issuers {
                let claims = claims(issuer, session);
                let told = self.gate.has_ended(&claims, now).await;
                if told.map_err(|stop| Refusal::Stopped { stop, scope: None })? {
                    ended.push(*session);
                    break;
                }
            }
        }
        Ok(ended)
    }

    /// Whose sessions the upstream may list: the issuers that the route names, else those with token endpoints of the
    /// dialect.
    fn issuers_behind(&self, route: &Route) -> Vec<std::sync::Arc<str>> {
        match &route.policy.accepted {
            Some(named) => named.iter().filter_map(|name| Some(self.gate.issuer(name)?.issuer)).collect(),
            None => {
                let ours = self.token_endpoints.iter().filter(|endpoint| endpoint.dialect == Dialect::Bluesky);
                let mut issuers: Vec<_> = ours.map(|endpoint| endpoint.issuer.clone()).collect();
                issuers.dedup();
                issuers
            }
        }
    }
}

/// What a refresh token of the session would say, and the document besides. When the session was begun, nobody says.
fn claims(issuer: &std::sync::Arc<str>, listed: &Unmarked) -> Claims {
    Claims {
        session: Some(listed.session.undashed().into()),
        user: listed.user.map(|user| user.undashed().into()),
        ..Claims::bare(issuer.clone(), TokenKind::Refresh, TokenDigest::new([0; 32]))
    }
}

/// The answer's body, within its bound.
async fn whole(body: Body) -> Result<Bytes, Refusal> {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            tracing::warn!(limit_bytes = MAX_ANSWER_BYTES, "a list of sessions is withheld: it is too long");
            Err(Refusal::Upstream(UpstreamFault::Protocol))
        }
        Err(_) => Err(Refusal::Upstream(UpstreamFault::Reset)),
    }
}

/// Whether the body is JSON as it stands.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_coded =
        headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    !is_coded && (media == "application/json" || media.ends_with("+json"))
}

/// The head alone, less what it says of a body that `GET` would not bring like that.
fn without_measures(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers_mut();
    [CONTENT_LENGTH, ETAG].iter().chain(&DIGESTS).for_each(|name| drop(headers.remove(name)));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_found_below_any_base_path() {
        for path in [
            "/api/auth/whoami",
            "/api/auth/whoami/",
            "/beamline/7/api/auth/whoami",
            "/api/auth/principal",
            "/lab/api/auth/principal/",
            "/api/auth/principal/33333333-3333-4333-8333-333333333333",
        ] {
            assert!(lists(path), "{path}");
        }
        for path in [
            "/",
            "/api/auth/WHOAMI",
            "/api/auth/whoami/x",
            "/xapi/auth/whoami",
            "/api/auth/principals",
            "/api/auth/principal/x/apikey",
            "/api/auth/scopes",
        ] {
            assert!(!lists(path), "{path}");
        }
    }

    #[test]
    fn only_plain_json_is_read() {
        let headers = |media: &'static str, coding: Option<&'static str>| {
            let coding = coding.map(|coding| (CONTENT_ENCODING, HeaderValue::from_static(coding)));
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))].into_iter().chain(coding))
        };
        for media in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(is_plain_json(&headers(media, None)), "{media}");
            assert!(is_plain_json(&headers(media, Some("identity"))));
            assert!(!is_plain_json(&headers(media, Some("gzip"))));
        }
        assert!(!is_plain_json(&headers("application/x-msgpack", None)) && !is_plain_json(&HeaderMap::new()));
    }

    #[test]
    fn a_listed_session_is_known_as_its_tokens_spell_it() {
        let listed = listing::unmarked(
            br#"{"uuid":"33333333-3333-4333-8333-333333333333","sessions":[
                {"uuid":"11111111-1111-4111-8111-111111111111","revoked":false}]}"#,
        );
        let claims = claims(&"bluesky".into(), &listed.unwrap()[0]);
        assert_eq!(claims.session.as_deref(), Some("11111111111141118111111111111111"));
        assert_eq!(claims.user.as_deref(), Some("33333333333343338333333333333333"));
        assert_eq!(claims.issued_at, None);
    }
}
