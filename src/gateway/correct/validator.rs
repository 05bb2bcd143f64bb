//! `If-None-Match`, answered here: the server would compare it with the tag of a document that it never sent like that.
//!
//! The server's tags stand bare, as 32 hexadecimal digits without the quotes of RFC 9110 §8.8.3, and its clients send them
//! back like that; both forms are understood, and a tag of ours takes the form of the one it replaces.

use aws_lc_rs::digest::{SHA256, digest};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};

use crate::gateway::body::Body;

/// What the client holds already.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Vec<HeaderValue>);

impl Held {
    /// Takes the validators out of a request's head: the upstream does not get them.
    pub(super) fn take(headers: &mut HeaderMap) -> Self {
        let held = headers.get_all(IF_NONE_MATCH).iter().cloned().collect();
        headers.remove(IF_NONE_MATCH);
        Self(held)
    }

    /// The answer; or 304 without a body when the client has the very same.
    pub(super) fn or_not_modified(&self, answer: Response<Body>) -> Response<Body> {
        let tag = answer.headers().get(ETAG).and_then(|tag| opaque(tag.to_str().ok()?));
        if answer.status() != StatusCode::OK || !tag.is_some_and(|tag| self.holds(tag)) {
            return answer;
        }
        let (mut parts, _) = answer.into_parts();
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(CONTENT_TYPE);
        Response::from_parts(parts, Body::EMPTY)
    }

    /// Compared weakly (RFC 9110 §13.1.2). `*` is nobody's tag to the server, so it is none here.
    fn holds(&self, tag: &str) -> bool {
        let members = self.0.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        members.filter_map(opaque).any(|held| held == tag)
    }
}

/// Replaces the tag of a document by that of `body`, where it has one.
pub(super) fn retag(headers: &mut HeaderMap, body: &[u8]) {
    let Some(old) = headers.get(ETAG) else { return };
    let digest = digest(&SHA256, body);
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let is_quoted = old.as_bytes().ends_with(b"\"");
    let tag = if is_quoted { format!("\"{hex}\"") } else { hex };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
}

/// What a tag says, without quotes and weakness.
fn opaque(tag: &str) -> Option<&str> {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
    Some(bare).filter(|bare| !bare.is_empty())
}

#[cfg(test)]
mod tests {
    use hyper::body::{Body as _, Bytes};

    use super::*;

    fn answer(tag: &'static str) -> Response<Body> {
        let answer = Response::builder().header(ETAG, tag).header(CONTENT_TYPE, "application/json");
        answer.header(CONTENT_LENGTH, 2).body(Body::whole(Bytes::from_static(b"{}"))).unwrap()
    }

    fn status(held: &'static str, tag: &'static str) -> u16 {
        let mut headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(held))]);
        let held = Held::take(&mut headers);
        assert!(headers.is_empty());
        held.or_not_modified(answer(tag)).status().as_u16()
    }

    #[test]
    fn a_tag_is_known_bare_quoted_weak_and_in_a_list() {
        for held in ["ab12", "\"ab12\"", "W/\"ab12\"", "\"x\", \"ab12\"", " ab12 "] {
            assert_eq!((status(held, "ab12"), status(held, "\"ab12\"")), (304, 304), "{held}");
        }
        for held in ["", "*", "ab1", "AB12", "\"\"", ","] {
            assert_eq!(status(held, "ab12"), 200, "{held}");
        }
        assert_eq!(status("", ""), 200, "no tag");
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let held = Held(vec![HeaderValue::from_static("ab12")]);
        let answer = held.or_not_modified(answer("ab12"));
        assert_eq!(answer.headers()[ETAG], "ab12");
        assert!(!answer.headers().contains_key(CONTENT_LENGTH) && !answer.headers().contains_key(CONTENT_TYPE));
        assert_eq!(answer.body().size_hint().exact(), Some(0));
    }

    #[test]
    fn another_document_has_another_tag_of_the_same_form() {
        let mut headers = HeaderMap::new();
        retag(&mut headers, b"{}");
        assert!(headers.is_empty(), "none came, none goes");
        for (old, quotes) in [("ab12", 0), ("\"ab12\"", 2), ("W/\"ab12\"", 2)] {
            headers.insert(ETAG, HeaderValue::from_static(old));
            retag(&mut headers, b"{\"a\":1}");
            let first = headers[ETAG].clone();
            assert_eq!(first.len(), 32 + quotes);
            retag(&mut headers, b"{\"a\":2}");
            assert_ne!(headers[ETAG], first);
        }
    }
}
